"""This project's files in an image: the entrypoint's roles, and the recipes."""

from __future__ import annotations

import ast

from images.contents.layers import Contents

RECIPES, SUFFIX = "opt/ascend/env/recipes/", ".yaml"
ENTRYPOINT, ROLES = "opt/ascend/entrypoints/", "/roles.py"


def wanted(path: str) -> bool:
    """Whether roles or recipes are read from this file."""
    return _is_recipe(path) or _is_roles(path)


def recipes(contents: Contents) -> dict[str, str]:
    """Name → text, sorted by name."""
    found = {
        path.removeprefix(RECIPES).removesuffix(SUFFIX): content.decode(errors="replace")
        for path, content in contents.kept.items()
        if _is_recipe(path)
    }
    return dict(sorted(found.items()))


def roles(contents: Contents) -> tuple[str, ...]:
    """The names in the entrypoint's roles.py, which is parsed and not run: it is the image's."""
    source = next((text for path, text in contents.kept.items() if _is_roles(path)), b"")
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return ()
    calls = [one for one in nodes if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    first = [call.args[0] for call in calls if ast.unparse(call.func) == "Role" and call.args]
    return tuple(str(one.value) for one in first if isinstance(one, ast.Constant))


def _is_recipe(path: str) -> bool:
    return path.startswith(RECIPES) and path.endswith(SUFFIX)


def _is_roles(path: str) -> bool:
    """The module has been in more than one place of the package."""
    return path.startswith(ENTRYPOINT) and path.endswith(ROLES)
