"""Rewrites a cluster file and its recipe for another release, with the reason of each change."""
