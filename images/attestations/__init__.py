"""Statements about an image, and their signatures: SBOM, provenance, signature."""
