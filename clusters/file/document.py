"""YAML as values, with the line of every key and item.

Scalars follow YAML 1.2, as in a recipe: `no` and `on` are text. Only values that JSON can hold are
accepted, because the schema and the recipes know no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from clusters.model import Path, nearest_line
from common.errors import ERROR, Finding
from entrypoints import yaml12

# The limits of a document; nested aliases make a short file huge.
MAX_VALUES = 500_000
MAX_DEPTH = 64
_KINDS = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Document:
    """`value`: None when nothing could be read. `lines`: from 1."""

    file: str
    value: Any
    lines: dict[Path, int]
    findings: tuple[Finding, ...]

    def finding(
        self, path: Path, code: str, message: str, fix: str, severity: str = ERROR
    ) -> Finding:
        """A finding at `path`."""
        return Finding(
            dotted(path),
            message,
            fix,
            code,
            severity=severity,
            file=self.file,
            line=nearest_line(self.lines, path),
        )


def dotted(path: Path) -> str:
    """`instances.decode.nodes[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the file"


def parse(file: str, text: str, as_written: Callable[[Path], bool]) -> Document:
    """Parse the one document in a text. Scalars at a path that is `as_written` stay text."""
    loader = None
    try:
        loader = yaml12.Loader(text)
        root = loader.get_single_node()
        if root is None:
            return _unreadable(file, 1, "the file is empty", "write at least name: and instances:")
        reading = _Constructor(file, loader, as_written)
        value = reading.value(root, ())
        return Document(file, value, reading.lines, tuple(reading.findings))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(filter(None, (error.problem, error.context)))
        return _unreadable(file, mark.line + 1 if mark else 1, words, "correct the YAML")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _unreadable(file, line, error.reason, "remove the character")
    except _LimitExceeded as error:
        return _unreadable(file, error.line, str(error), "write it out with fewer aliases")
    except RecursionError:
        return _unreadable(file, 1, "is nested too deeply", "flatten it")
    finally:
        if loader is not None:
            loader.dispose()


def _unreadable(file: str, line: int, message: str, fix: str) -> Document:
    finding = Finding("the file", message, fix, "bad-yaml", file=file, line=line)
    return Document(file, None, {}, (finding,))


class _LimitExceeded(Exception):
    def __init__(self, message: str, line: int) -> None:
        self.line = line
        super().__init__(message)


class _Constructor:
    def __init__(self, file: str, loader: Any, as_written: Callable[[Path], bool]) -> None:
        self.file = file
        self.loader = loader
        self.as_written = as_written
        self.lines: dict[Path, int] = {(): 1}
        self.findings: list[Finding] = []
        self.count = 0
        self.depth = 0

    def wrong(self, node: Any, path: Path, code: str, message: str, fix: str) -> None:
        line = node.start_mark.line + 1
        self.findings.append(Finding(dotted(path), message, fix, code, file=self.file, line=line))

    def value(self, node: Any, path: Path) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise _LimitExceeded(
                f"comes to more than {MAX_VALUES} values", node.start_mark.line + 1
            )
        if self.depth > MAX_DEPTH:
            message = "is nested too deeply, or an anchor contains itself"
            raise _LimitExceeded(message, self.lines[path])
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        self.depth += 1
        inside = self.mapping if isinstance(node, yaml.MappingNode) else self.sequence
        found = inside(node, path)
        self.depth -= 1
        return found

    def sequence(self, node: Any, path: Path) -> list[Any]:
        found = []
        for index, item in enumerate(node.value):
            at = (*path, index)
            self.lines[at] = item.start_mark.line + 1
            found.append(self.value(item, at))
        return found

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for merged in self.merged(node, path):
            found.update(merged)
        seen: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                continue
            if key.tag != _TAG + "str":
                what = "this key is not text"
                self.wrong(key, path, "bad-key", what, "put it in quotes")
                continue
            name, line = key.value, key.start_mark.line + 1
            at = (*path, name)
            if name in seen:
                what = f"is given twice, first at line {seen[name]}"
                self.wrong(key, at, "duplicate-key", what, "keep one of them")
                continue
            seen[name] = self.lines[at] = line
            found[name] = self.value(value, at)
        return found

    def merged(self, node: Any, path: Path) -> Iterator[dict[str, Any]]:
        """The mappings under `<<`, the last one first, because the first one wins."""
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                several = isinstance(value, yaml.SequenceNode)
                for one in reversed(value.value) if several else [value]:
                    if isinstance(one, yaml.MappingNode):
                        yield self.value(one, path)
                    else:
                        what = "<< takes mappings only"
                        self.wrong(key, path, "bad-merge", what, "give it an alias of a mapping")

    def scalar(self, node: Any, path: Path) -> Any:
        if node.tag != _TAG + "null" and self.as_written(path):
            return node.value
        kind = _KINDS.get(node.tag.removeprefix(_TAG))
        try:
            value = self.loader.construct_object(node) if kind else None
        except (yaml.YAMLError, ValueError, TypeError, LookupError):
            kind = None
        if kind is None or not isinstance(value, kind) or not _finite(value):
            self.wrong(node, path, "bad-value", f"{node.value!r} cannot be read", "quote it")
            return None
        return value


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
