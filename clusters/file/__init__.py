"""Reads a cluster file: YAML with its lines, the schema, and what a schema cannot say."""
