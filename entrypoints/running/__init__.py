"""From a launch to the running server, and what monitors it."""
