"""What a running endpoint is put to: verification, and in time benchmarks and accuracy."""
