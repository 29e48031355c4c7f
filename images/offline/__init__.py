"""Builds without a network: what they need, and the bundle that provides it."""
