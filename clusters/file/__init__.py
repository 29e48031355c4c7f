"""Reads a cluster file: YAML with line numbers, the schema, and rules beyond the schema."""
