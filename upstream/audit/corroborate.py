"""Find a second source for values that bump and the audit read with the same code.

The second source is another file of the release: its documents, tests, workflows or examples,
searched as plain text. Without it, the value is as read, not confirmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from upstream.audit.audit_result import CONFIRMED, READ, AuditResult
from upstream.sources import Sources, Tree

SEARCHED = re.compile(
    r"(docs/source/(?!locale/).*\.(md|rst|py)|\.github/.*|tests/.*|examples/.*|benchmarks/.*"
    r"|README[^/]*\.md|PKG-INFO|(Dockerfile|requirements)[^/]*|pyproject\.toml|setup\.py)"
)
# How a pin is written elsewhere, by its key.
PINS = {
    "cann": r"cann\W.*\b{}\b",
    "python": r"(py|python\D{{0,20}}){}\b",
    "vllm": r"vllm\b.*\bv?{}\b",
    "vllm_ascend": r"\bv?{}\b",
    "torch": r"\btorch\b.*\b{}\b",
    "torch_npu": r"torch[-_ ]npu.*\b{}",
    "triton_ascend": r"triton[-_ ]ascend.*\b{}",
    "mooncake": r"mooncake.*\b{}",
}
WHY = "read by the code that bump uses; no other file of the release was found to state it"


def corroborate(results: Iterable[AuditResult], sources: Sources) -> Iterator[AuditResult]:
    """Add a second source to each confirmed result; without one, the result is as read."""
    tree = sources.vllm_ascend
    searched = {path: text for path, text in tree.files.items() if SEARCHED.fullmatch(path)}
    for one in results:
        if one.verdict != CONFIRMED or one.key.endswith("source"):
            yield one
            continue
        cited = set(re.findall(r"[\w./-]+(?=:\d)", one.source))
        patterns = list(_patterns(one.key, one.value))
        places = [_locate(searched, tree, pattern, cited) for pattern in patterns]
        if patterns and all(places):
            yield replace(one, source=f"{one.source}; {places[0]}")
        else:
            yield replace(one, verdict=READ, why=WHY)


def _patterns(key: str, value: Any) -> Iterator[str]:
    """Patterns that other files must all match; none for a value without a name."""
    if key in PINS:
        text = value.get("version", "") if isinstance(value, dict) else str(value)
        yield PINS[key].format(re.escape(text))
    elif key == "requirements":
        for one in value:
            name = re.split(r"[<>=!~ ]", one)[0]
            yield re.escape(name).replace(r"\-", "[-_]")
    elif key.endswith((".env", ".was")):
        yield rf"\b{re.escape(str(value))}\b"
    elif key.endswith(".arg"):
        yield rf"\b{re.escape(str(value).rpartition('.')[2]).replace('-', '[-_]')}\b".replace(
            r"\[-_]", "[-_]"
        )
    elif key.endswith(".names") and isinstance(value, list):
        yield from (rf"\b{re.escape(one)}\b" for one in value)
    elif key.startswith("image_env.") and not key.endswith(".source"):
        yield rf"\b{re.escape(key.partition('.')[2])}\W+{re.escape(str(value))}\b"


def _locate(searched: Mapping[str, str], tree: Tree, pattern: str, cited: set[str]) -> str | None:
    wanted = re.compile(pattern, re.IGNORECASE)
    for path, text in searched.items():
        match = None if path in cited else wanted.search(text)
        if match:
            return tree.cite(path, text.count("\n", 0, match.start()) + 1)
    return None
