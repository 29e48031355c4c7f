"""The recorded engine: README.md beside this package."""
