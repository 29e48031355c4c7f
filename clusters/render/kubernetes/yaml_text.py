"""Manifests as YAML text, with quotes around every ambiguous string."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

# Strings that are strings in YAML 1.1 and 1.2 alike. PyYAML quotes words such as `on` itself.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._:-]+")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None if _PLAIN.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _text)


def to_yaml(manifests: Iterable[dict[str, Any]], comment: str) -> str:
    """The manifests as documents of one text, after a comment."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    body = yaml.dump_all(
        manifests,
        Dumper=_Dumper,
        explicit_start=True,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return head + body
