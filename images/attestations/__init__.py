"""What is said of an image, and signed: SBOM, provenance, signature."""
