"""Renders a compiled cluster to files that start it: shell scripts, Compose, Kubernetes."""
