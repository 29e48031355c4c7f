"""From a launch to the running server, and what watches over it."""
