"""A registry: its HTTP API, credentials, media types and transfers."""
