"""What is different between two images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import user_error
from images.inspect.model import Image, Package
from images.labels import PIN


@dataclass(frozen=True)
class Change:
    """`before` or `after` is None for what was added or removed."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Growth:
    """A layer whose content changed; None where one image has no such layer."""

    name: str
    before: int | None
    after: int | None

    @property
    def by(self) -> int:
        return (self.after or 0) - (self.before or 0)


@dataclass(frozen=True)
class Difference:
    """None for packages of an image whose layers were not read."""

    before: Image
    after: Image
    pins: tuple[Change, ...]
    labels: tuple[Change, ...]
    layers: tuple[Growth, ...]
    python_packages: tuple[Change, ...] | None
    os_packages: tuple[Change, ...] | None
    environment: tuple[Change, ...]
    process: tuple[Change, ...]
    recipes: tuple[Change, ...] | None

    @property
    def same(self) -> bool:
        return self.before.manifest == self.after.manifest


def differences(before: Sequence[Image], after: Sequence[Image]) -> list[Difference]:
    """Compare the images of each common architecture. Raises UserError (64) without one."""
    old = {image.platform: image for image in before}
    found = [difference(old[one.platform], one) for one in after if one.platform in old]
    if not found:
        have = [", ".join(one.platform for one in several) for several in (before, after)]
        what = f"{before[0].reference} is for {have[0]}, {after[0].reference} for {have[1]}"
        raise user_error("--diff", what, "two images of one architecture")
    return found


def difference(before: Image, after: Image) -> Difference:
    """What one would have to change in `before` to get `after`."""
    others = [
        {name: value for name, value in one.labels.items() if not name.startswith(PIN)}
        for one in (before, after)
    ]
    return Difference(
        before,
        after,
        _changes(before.pins, after.pins),
        _changes(*others),
        _growth(before, after),
        _packages(before.python_packages, after.python_packages),
        _packages(before.os_packages, after.os_packages),
        _changes(before.environment, after.environment),
        _changes(_process(before), _process(after)),
        None
        if before.recipes is None or after.recipes is None
        else _changes(before.recipes, after.recipes),
    )


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """In the order of `before`, then what `after` adds."""
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    )


def _packages(
    before: Sequence[Package] | None, after: Sequence[Package] | None
) -> tuple[Change, ...] | None:
    if before is None or after is None:
        return None
    versions = [
        {
            one.name: ", ".join(same.version for same in many if same.name == one.name)
            for one in many
        }
        for many in (before, after)
    ]
    return tuple(sorted(_changes(*versions), key=lambda change: change.name))


def _growth(before: Image, after: Image) -> tuple[Growth, ...]:
    """Layers by name whose digest differs."""
    old = {layer.name: layer for layer in before.layers}
    new = {layer.name: layer for layer in after.layers}
    found = []
    for name in dict.fromkeys((*old, *new)):
        one, other = old.get(name), new.get(name)
        if one is None or other is None or one.digest != other.digest:
            found.append(Growth(name, one.size if one else None, other.size if other else None))
    return tuple(found)


def _process(image: Image) -> dict[str, str]:
    """What the container runs, and how it is checked and stopped."""
    health = image.health
    facts = {
        "entrypoint": " ".join(image.entrypoint),
        "command": " ".join(image.command),
        "health check": " ".join(health.test) if health else "",
        "health interval": f"{health.interval:g} s" if health else "",
        "health timeout": f"{health.timeout:g} s" if health else "",
        "health start period": f"{health.start_period:g} s" if health else "",
        "health retries": str(health.retries) if health else "",
        "stop signal": image.stop_signal,
        "directory": image.workdir,
        "user": image.user,
        "roles": " ".join(image.roles or ()),
    }
    return {name: value for name, value in facts.items() if value}
