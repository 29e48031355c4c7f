"""From the container's process to the server, measured against a shell script; see README.md."""
