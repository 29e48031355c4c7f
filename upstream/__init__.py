"""Upstream's releases: what their own sources say of pins, names and defaults."""
