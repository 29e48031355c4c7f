"""Upstream's releases: what their own sources say about pins, names and defaults."""
