"""Benchmark: the cost of a large cluster file, compared with reading the same file as YAML."""
