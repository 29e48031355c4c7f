"""What `invoke inspect` prints: text for people, plain data for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from common.text import megabytes, table
from images.build.budgets import Verdict
from images.inspect.diff import Change, Difference, Growth
from images.inspect.model import Image, Package, brief

NOT_READ = "not read (without --brief the layers are)"


def images_data(images: Iterable[Image]) -> list[dict[str, Any]]:
    return [
        {
            "reference": image.reference,
            "found_in": image.place,
            "digest": image.digest,
            "manifest": image.manifest,
            "platform": image.platform,
            "platforms": list(image.platforms),
            "pins": image.pins,
            "labels": dict(image.labels),
            "size": image.size,
            "unpacked": image.unpacked,
            "layers": [{**vars(layer), "shared": list(layer.shared)} for layer in image.layers],
            "python_packages": _packages_data(image.python_packages),
            "os_packages": _packages_data(image.os_packages),
            "environment": dict(image.environment),
            "roles": None if image.roles is None else list(image.roles),
            "recipes": None if image.recipes is None else list(image.recipes),
            "entrypoint": list(image.entrypoint),
            "command": list(image.command),
            "health": vars(image.health) if image.health else None,
            "stop_signal": image.stop_signal,
            "workdir": image.workdir,
            "user": image.user,
            "sboms": [{"kind": one.kind, "digest": one.digest} for one in image.sboms],
        }
        for image in images
    ]


def _packages_data(packages: Sequence[Package] | None) -> list[dict[str, str]] | None:
    return None if packages is None else [vars(package) for package in packages]


def images_text(images: Iterable[Image]) -> str:
    return "\n\n".join(_image(image) for image in images)


def _image(image: Image) -> str:
    head = {
        "found in": image.place,
        "digest": image.digest,
        "manifest": image.manifest,
        "platforms": ", ".join(image.platforms),
        "pins": ", ".join(f"{name} {version}" for name, version in image.pins.items()) or "none",
        "entrypoint": shlex.join(image.entrypoint) or "none",
        "command": shlex.join(image.command),
        "health": _health(image),
        "stops on": image.stop_signal,
        "directory": image.workdir,
        "user": image.user,
        "stand-in": image.labels.get("ascend.stand-in", ""),
        "sbom": ", ".join(f"{one.kind} {one.digest[:19]}" for one in image.sboms),
        "roles": NOT_READ if image.roles is None else ", ".join(image.roles) or "none",
        "recipes": NOT_READ if image.recipes is None else ", ".join(image.recipes) or "none",
    }
    parts = [
        image.title,
        table([(f"  {name}", value) for name, value in head.items() if value]),
        "",
        _layers(image),
        "",
        table([("  variable", "value"), *((f"  {n}", v) for n, v in image.environment.items())]),
        *_packages("Python", image.python_packages),
        *_packages("OS", image.os_packages),
    ]
    return "\n".join(parts)


def weight(size: int | None) -> str:
    """MB; of what is small kB or bytes, as 0.0 MB would say nothing."""
    if size is None or size >= 100_000:
        return megabytes(size)
    return f"{size / 1e3:,.1f} kB" if size >= 100 else f"{size} B"


def _layers(image: Image) -> str:
    rows = [("  layer", "on the wire", "on disk", "digest", "also in")]
    rows += [
        (
            f"  {layer.name}",
            weight(layer.size),
            weight(layer.unpacked),
            layer.digest[:19],
            ", ".join(map(brief, layer.shared)),
        )
        for layer in image.layers
    ]
    shared = sum(layer.size for layer in image.layers if layer.shared)
    rows.append(("  total", megabytes(image.size), megabytes(image.unpacked), "", ""))
    rows.append(("  of that shared", megabytes(shared), "", "", ""))
    return table(rows, right=(1, 2))


def _health(image: Image) -> str:
    health = image.health
    if health is None:
        return "none"
    return (
        f"{shlex.join(health.test)}, every {health.interval:g} s for at most {health.timeout:g} s; "
        f"{health.retries} failures count after {health.start_period:g} s"
    )


def _packages(kind: str, packages: Sequence[Package] | None) -> list[str]:
    if packages is None:
        return ["", f"  {kind} packages: {NOT_READ}"]
    if not packages:
        return ["", f"  {kind} packages: none"]
    rows = [(f"  {kind} package", "version", "layer")]
    rows += [(f"  {one.name}", one.version, one.layer) for one in packages]
    return ["", table(rows)]


# ---- what is different ---------------------------------------------------------------------------


def differences_data(several: Iterable[Difference]) -> list[dict[str, Any]]:
    return [_difference_data(found) for found in several]


def differences_text(several: Iterable[Difference]) -> str:
    return "\n\n".join(_difference_text(found) for found in several)


def _difference_data(found: Difference) -> dict[str, Any]:
    def side(image: Image) -> dict[str, Any]:
        return {
            "reference": image.reference,
            "platform": image.platform,
            "manifest": image.manifest,
            "size": image.size,
            "unpacked": image.unpacked,
        }

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
        _size("  on the wire", before.size, after.size),
        _size("  on disk", before.unpacked, after.unpacked),
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
        weight(layer.before),
        weight(layer.after),
        "added" if layer.before is None else "gone" if layer.after is None else _signed(layer.by),
    )


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{weight(abs(size))}"


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


# ---- budgets -------------------------------------------------------------------------------------


def verdicts_data(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    return [
        {
            "reference": one.reference,
            **vars(one.key),
            "size": round(one.size, 3),
            "budget": one.limit,
            "known": one.known,
            "layers": [
                {"name": name, "size": round(size, 3), "baseline": before}
                for name, size, before in one.layers
            ],
            "problems": [str(problem) for problem in one.problems],
        }
        for one in verdicts
    ]


def verdicts_text(verdicts: Iterable[Verdict]) -> str:
    return "\n\n".join(_verdict(one) for one in verdicts)


def _verdict(one: Verdict) -> str:
    if not one.known:
        return (
            f"{one.reference}: {one.size:,.1f} MB; images/build/budgets.yaml has nothing for"
            f" {one.key}\n"
            "  (invoke inspect IMAGE --baseline prints an entry)"
        )
    limit = "without a budget" if one.limit is None else f"of {one.limit:,.1f} MB"
    rows = [("  layer", "MB", "baseline", "")]
    for name, size, before in one.layers:
        was = "-" if before is None else f"{before:,.1f}"
        by = "" if before is None else f"{size - before:+,.1f}"
        rows.append((f"  {name}", f"{size:,.1f}", was, by))
    return f"{one.reference}: {one.size:,.1f} MB {limit}\n{table(rows, right=(1, 2, 3))}"
