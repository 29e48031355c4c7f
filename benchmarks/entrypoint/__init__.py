"""Benchmark: the time until the server starts, compared with a shell script; see README.md."""
