"""Imports launch scripts: a recipe and a cluster file that plan the same commands."""

from pathlib import Path
from typing import Any

from entrypoints.inputs import data

TABLES: dict[str, Any] = data.read(str(Path(__file__).with_name("tables.yaml")))
