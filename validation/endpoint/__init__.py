"""Validate a running endpoint: verification, benchmarks and accuracy."""
