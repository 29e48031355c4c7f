"""Benchmark: ROLE=proxy under load, compared with the example proxy and no proxy; see README.md."""
