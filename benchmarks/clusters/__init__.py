"""What a large cluster file costs, against reading the same file as YAML."""
