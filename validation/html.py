"""Render the standalone HTML reports: no scripts, no other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, filters: dict[str, Any] | None = None, **context: Any) -> str:
    """Render `templates/{template}.html.j2`. Equal arguments give equal bytes."""
    environment = _TEMPLATES.overlay()
    environment.filters = {**_TEMPLATES.filters, **(filters or {})}
    return environment.get_template(f"{template}.html.j2").render(**context) + "\n"
