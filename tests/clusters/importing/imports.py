"""Scripts that are imported and planned again, for the tests of the import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusters.checks import load_deployment
from clusters.deployment import Deployment
from clusters.importing import run
from clusters.importing.run import Imported
from entrypoints.inputs.arguments import is_flag


def imported(folder: Path, *files: Path, **options: Any) -> tuple[Imported, Deployment]:
    """The one deployment that the files come to, written to a folder, and planned from there."""
    chosen = {"out": str(folder), "force": True, **options}
    (made,) = run.run([str(file) for file in files], run.Options(**chosen))
    return made, load_deployment(folder / "cluster.yaml")


def scripts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Files with these texts, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def environment(deployment: Deployment, name: str) -> dict[str, str]:
    """What the container of that name gets and sets."""
    container = next(one for one in deployment.containers if one.name.endswith(name))
    return {**container.env, **(container.launch.env if container.launch else {})}


def command(deployment: Deployment, name: str) -> list[str]:
    """What the container of that name runs."""
    container = next(one for one in deployment.containers if one.name.endswith(name))
    return list(container.launch.argv if container.launch else container.command)


def as_flags(argv: list[str]) -> dict[str, list[str]]:
    """Flags with their values; a flag that stands twice fails."""
    flags: dict[str, list[str]] = {}
    for token in argv:
        if is_flag(token):
            name, equals, value = token.partition("=")
            assert name not in flags
            flags[name] = [value] if equals else []
        else:
            flags[list(flags)[-1]].append(token)
    return flags
