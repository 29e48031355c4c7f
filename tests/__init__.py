"""The tests, in folders that mirror the code's; `tests/e2e` needs a Docker engine."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
