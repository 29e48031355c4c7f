"""One file for all nodes of a cluster: read, compile, check, show, render and start it."""
