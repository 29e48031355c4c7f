"""A compiled cluster as files for what starts it, and what those have in common."""
