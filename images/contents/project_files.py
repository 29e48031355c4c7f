"""This project's files in an image: roles and recipes."""

from __future__ import annotations

import yaml

from images.contents.layers import Contents

RECIPES, SUFFIX = "opt/ascend/env/recipes/", ".yaml"
ROLES = "opt/ascend/env/roles.yaml"


def wanted(path: str) -> bool:
    """Whether roles or recipes are read from this file."""
    return _is_recipe(path) or path == ROLES


def recipes(contents: Contents) -> dict[str, str]:
    """Name → text, sorted by name."""
    found = {
        path.removeprefix(RECIPES).removesuffix(SUFFIX): content.decode(errors="replace")
        for path, content in contents.kept.items()
        if _is_recipe(path)
    }
    return dict(sorted(found.items()))


def roles(contents: Contents) -> tuple[str, ...]:
    """The names in the image's own roles.yaml; none where it cannot be read."""
    try:
        document = yaml.safe_load(contents.kept.get(ROLES, b""))
    except (yaml.YAMLError, ValueError, RecursionError):
        return ()
    return tuple(map(str, document)) if isinstance(document, dict) else ()


def _is_recipe(path: str) -> bool:
    return path.startswith(RECIPES) and path.endswith(SUFFIX)
