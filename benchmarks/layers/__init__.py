"""Our layered build measured against a Dockerfile of upstream's shape; see README.md."""
