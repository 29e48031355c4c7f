"""ROLE=proxy against the release's example proxy, and against none, under load; see README.md."""
