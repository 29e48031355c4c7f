"""Starts, shows and stops a cluster on the Docker engines of its nodes."""
