"""Rewrite a cluster file and its recipe for another release, with the reason for each change."""
