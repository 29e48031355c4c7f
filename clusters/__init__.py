"""One file for all nodes of a cluster: read, compile, check, show, render and start it.

Low to high: this folder (records) < file < compile < checks < show < importing; runtime, which
describes a container for an engine, is above this folder and below render and live.
"""
