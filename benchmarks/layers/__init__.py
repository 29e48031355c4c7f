"""Benchmark: our layered build compared with a Dockerfile of upstream's shape; see README.md."""
