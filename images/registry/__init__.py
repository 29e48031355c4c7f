"""Registries: HTTP API, credentials, media types, transfers."""
