"""What the tests of this room share: how hypothesis looks for examples."""

from __future__ import annotations

from hypothesis import settings

# The same examples on every run, and no example fails for being slow on a busy machine.
settings.register_profile("releases", derandomize=True, database=None, deadline=None)
settings.load_profile("releases")
