"""One file for all nodes: read, compiled for each container, checked, rendered, started."""
