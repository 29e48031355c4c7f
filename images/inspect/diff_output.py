"""What `invoke inspect --diff` prints: text for people, plain data for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from common.text import megabytes, short_size, table
from images.inspect.diff import Change, Difference, Growth
from images.inspect.image_output import NOT_READ
from images.inspect.model import Image

SIDE = ("reference", "platform", "manifest", "size", "unpacked")  # of each image


def differences_data(several: Iterable[Difference]) -> list[dict[str, Any]]:
    return list(map(_difference_data, several))


def differences_text(several: Iterable[Difference]) -> str:
    return "\n\n".join(_difference_text(found) for found in several)


def _difference_data(found: Difference) -> dict[str, Any]:
    def side(image: Image) -> dict[str, Any]:
        return {name: getattr(image, name) for name in SIDE}

    def changes(several: Sequence[Change] | None) -> list[dict[str, Any]] | None:
        return None if several is None else [vars(change) for change in several]

    return {
        "before": side(found.before),
        "after": side(found.after),
        "pins": changes(found.pins),
        "labels": changes(found.labels),
        "layers": [vars(layer) for layer in found.layers],
        "python_packages": changes(found.python_packages),
        "os_packages": changes(found.os_packages),
        "environment": changes(found.environment),
        "process": changes(found.process),
        "recipes": None if found.recipes is None else [one.name for one in found.recipes],
    }


def _difference_text(found: Difference) -> str:
    head = f"{found.before.title} → {found.after.title}"
    if found.same:
        return f"{head}\n  the same image: {found.after.manifest}"
    before, after = found.before, found.after
    sizes = [
        ("  size", "before", "after", ""),
        _size("  compressed", before.size, after.size),
        _size("  unpacked", before.unpacked, after.unpacked),
    ]
    parts = [head, table(sizes, right=(1, 2, 3))]
    parts += _changes("pin", found.pins)
    if found.layers:
        rows = [("  layer", "before", "after", "")]
        rows += [_layer(layer) for layer in found.layers]
        parts += ["", table(rows, right=(1, 2, 3))]
    parts += _changes("Python package", found.python_packages)
    parts += _changes("OS package", found.os_packages)
    parts += _changes("variable", found.environment)
    parts += _changes("process", found.process)
    recipes = found.recipes
    if recipes:
        parts += _changes("recipe", [_named(change) for change in recipes])
    parts += _changes("label", found.labels)
    return "\n".join(parts)


def _named(change: Change) -> Change:
    """A recipe's change without its text."""
    return Change(
        change.name,
        None if change.before is None else "there",
        None if change.after is None else "changed" if change.before else "there",
    )


def _size(name: str, before: int | None, after: int | None) -> tuple[str, str, str, str]:
    by = "" if before is None or after is None else _signed(after - before)
    return name, megabytes(before), megabytes(after), by


def _layer(layer: Growth) -> tuple[str, str, str, str]:
    return (
        f"  {layer.name}",
        short_size(layer.before),
        short_size(layer.after),
        "added" if layer.before is None else "gone" if layer.after is None else _signed(layer.by),
    )


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{short_size(abs(size))}"


def _changes(kind: str, changes: Sequence[Change] | None) -> list[str]:
    if changes is None:
        return ["", f"  {kind}s: {NOT_READ}"]
    if not changes:
        return []
    rows = [(f"  {kind}", "before", "after")]
    rows += [(f"  {one.name}", _value(one.before), _value(one.after)) for one in changes]
    return ["", table(rows)]


def _value(value: str | None) -> str:
    return "-" if value is None else value or '""'
