"""The recorded engine; see README.md beside this package."""
