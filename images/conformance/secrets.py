"""Find secrets in layers and configuration by the patterns of secrets.yaml."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common.errors import Finding
from images.contents.layers import File

PATH = Path(__file__).parent / "secrets.yaml"


@dataclass(frozen=True)
class Rule:
    """A pattern. `paths` None: every file; `content` None: the file itself is the secret."""

    name: str
    why: str
    paths: re.Pattern[str] | None
    hints: tuple[bytes, ...]
    content: re.Pattern[bytes] | None

    def finds(self, path: str, content: bytes) -> bool:
        if self.paths and not self.paths.match(path):
            return False
        if self.hints and not any(hint in content for hint in self.hints):
            return False
        return self.content is None or bool(self.content.search(content))


@dataclass(frozen=True)
class Rules:
    files: tuple[Rule, ...]
    tokens: tuple[Rule, ...]
    names: tuple[Rule, ...]
    allowed: re.Pattern[str] | None


@cache
def rules() -> Rules:
    raw = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    made = {kind: tuple(_rule(one) for one in raw[kind]) for kind in ("files", "tokens", "names")}
    allowed = [one["path"] for one in raw["allowed"]]
    return Rules(**made, allowed=_globs(allowed) if allowed else None)


def _rule(raw: Mapping[str, Any]) -> Rule:
    content = raw.get("content")
    return Rule(
        raw["name"],
        raw["why"],
        _globs(raw["paths"]) if "paths" in raw else None,
        tuple(hint.encode() for hint in raw.get("hints", [])),
        re.compile(content.encode(), re.MULTILINE) if content else None,
    )


def _globs(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


@dataclass
class Search:
    """Searches every file of every layer, including those that a later layer removes."""

    found: dict[tuple[str, str, str], Rule] = field(default_factory=dict)

    def visit(self, file: File, content: bytes | None) -> None:
        path = f"/{file.path}"
        known = rules()
        if content is None or (known.allowed and known.allowed.match(path)):
            return
        for rule in (*known.files, *known.tokens):
            if rule.finds(path, content):
                self.found[(file.layer, path, rule.name)] = rule

    def problems(self) -> Iterator[Finding]:
        for (layer, path, _), rule in sorted(self.found.items(), key=lambda item: item[0]):
            yield Finding(f"layer {layer[:19]}: {path}", f"holds {rule.name}", rule.why)


def in_config(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Secrets in ENV, labels and history. The finding does not show the secret."""
    own = config.get("config") or {}
    texts = [("ENV", str(one)) for one in own.get("Env") or []]
    texts += [("label", f"{name}={value}") for name, value in (own.get("Labels") or {}).items()]
    texts += [("history", str(one.get("created_by", ""))) for one in config.get("history") or []]
    for where, text in texts:
        for rule in (*rules().names, *rules().tokens):
            if found := rule.content.search(text.encode()) if rule.content else None:
                name = re.search(rb"\w+(?=\s*=)", found[0]) or re.search(rb"^\w+", text.encode())
                shown = f" {name[0].decode()}" if name else ""
                yield Finding(f"{where}{shown}", f"holds {rule.name}", rule.why)
