"""One container as a Docker engine runs it, for whatever starts it: a file, or the engine's API."""
