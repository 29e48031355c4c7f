"""What a running endpoint is put to: verification, benchmarks and accuracy."""
