"""What the layers of an image hold, read once and kept by digest; and what each layer is called."""

from __future__ import annotations

import ast
import base64
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.utils import canonicalize_name

from images import contents
from images.contents import File
from images.contents import Layer as Content
from images.inspect.model import Package
from images.inspect.places import Found, Say
from images.matrix import Matrix
from images.registry.oci import Descriptor
from images.registry.transfer import each
from images.targets import WORK

KEPT = WORK / "inspect"
FORM = 2  # of a kept file; one of another form is read again
RECIPES, SUFFIX = "opt/ascend/env/recipes/", ".yaml"
ENTRYPOINT, ROLES = "opt/ascend/entrypoints", "/roles.py"
VENV = "opt/vllm"
# Our layers without Python packages, by a path that only each of them has.
MARKS = {
    f"{VENV}/pyvenv.cfg": "venv",
    ENTRYPOINT: "entrypoint",
    "opt/ascend/proxy": "proxy",
    "workspace": "workdir",
}


@dataclass(frozen=True)
class Whole:
    """What an image holds, by all its layers."""

    python_packages: tuple[Package, ...]
    os_packages: tuple[Package, ...]
    roles: tuple[str, ...]
    recipes: Mapping[str, str]


def kept(layers: Sequence[Descriptor]) -> list[Content | None]:
    """What was read of layers before."""
    return [_kept(layer) for layer in layers]


def read(found: Found, layers: Sequence[Descriptor], say: Say) -> list[Content]:
    """Read every layer that was not read before. Raises UserError (65, 69)."""
    known = {layer.digest: _kept(layer) for layer in layers}
    todo = {layer.digest: layer for layer in layers if known[layer.digest] is None}
    if todo:
        size = sum(layer.size for layer in todo.values()) / 1e6
        say(f"reading {len(todo)} layers of {found.reference}, {size:,.1f} MB")
    action = partial(_read, found)
    new = each(todo.values(), action, threading.Event(), contents.LAYERS_AT_ONCE)
    by_digest = {one.digest: one for one in (*known.values(), *new) if one is not None}
    return [by_digest[layer.digest] for layer in layers]


def names(matrix: Matrix, own: Sequence[str], layers: Sequence[Content | None]) -> list[str]:
    """The layers' names: those of ours (`own`, from the bottom up, where the image says) on top of
    the base's. Of an image that does not say, a layer goes by what it holds."""
    if own and len(own) <= len(layers):
        return [*(f"base {n + 1}" for n in range(len(layers) - len(own))), *own]
    known = [_name(matrix, layer) if layer else "" for layer in layers]
    first = next((n for n, name in enumerate(known) if name), 0)
    base, other = count(1), count(1)
    return [
        name or (f"base {next(base)}" if n < first else f"layer {next(other)}")
        for n, name in enumerate(known)
    ]


def whole(layer_names: Sequence[str], layers: Sequence[Content]) -> Whole:
    """What a container sees of packages, roles and recipes. Raises UserError (65)."""
    merged = contents.merged(layers)
    by_digest = {layer.digest: name for name, layer in zip(layer_names, layers, strict=True)}
    recipes = {
        path.removeprefix(RECIPES).removesuffix(SUFFIX): content.decode(errors="replace")
        for path, content in sorted(merged.kept.items())
        if _is_recipe(path)
    }
    return Whole(
        tuple(Package(one.name, one.version, by_digest[one.layer]) for one in _python(merged)),
        tuple(
            Package(one.name, one.version, by_digest[one.layer])
            for one in contents.os_packages(merged)
        ),
        next((_roles(text) for path, text in merged.kept.items() if _is_roles(path)), ()),
        recipes,
    )


def _is_recipe(path: str) -> bool:
    return path.startswith(RECIPES) and path.endswith(SUFFIX)


def _is_roles(path: str) -> bool:
    """The module has been in more than one place of the package."""
    return path.startswith(f"{ENTRYPOINT}/") and path.endswith(ROLES)


def _wanted(path: str) -> bool:
    packages = contents.wanted(path) and not path.endswith("/RECORD")
    return packages or _is_roles(path) or _is_recipe(path)


def _python(merged: contents.Contents) -> list[contents.PythonPackage]:
    """What Python would import, without what packages carry within themselves."""
    places = ("site-packages", "dist-packages")
    found = contents.packages(merged)
    return [one for one in found if PurePosixPath(one.directory).name in places]


def _name(matrix: Matrix, layer: Content) -> str:
    """The name of a layer of ours by what is in it; empty for any other."""
    found = _python(contents.merged([layer]))
    own = [canonicalize_name(one.name) for one in found if one.directory.startswith(f"{VENV}/")]
    for name, packages in matrix.layers.items():
        if any(package in own for package in packages):
            return name
    if own:
        return matrix.catch_all_layer
    return next((name for path, name in MARKS.items() if path in layer.files), "")


def _roles(source: bytes) -> tuple[str, ...]:
    """The names in an entrypoint's roles.py, which is parsed and not run: it is the image's."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return ()
    calls = [one for one in nodes if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    first = [call.args[0] for call in calls if ast.unparse(call.func) == "Role" and call.args]
    return tuple(str(one.value) for one in first if isinstance(one, ast.Constant))


# ---- one layer, read or kept ---------------------------------------------------------------------


def _read(found: Found, layer: Descriptor) -> Content:
    """A layer without what nobody asks for: its files are only those kept, and the marks."""
    whole = contents.layer(found.store, layer, keep=_wanted)
    files = {path: file for path, file in whole.files.items() if path in {*whole.kept, *MARKS}}
    content = replace(
        whole,
        files=files,
        kept={path: _head(path, text) for path, text in whole.kept.items()},
    )
    _keep(content)
    return content


def _head(path: str, content: bytes) -> bytes:
    """The fields of a package's METADATA: its description would be most of what is kept."""
    return content.partition(b"\n\n")[0] if path.endswith("/METADATA") else content


def _keep(layer: Content) -> None:
    path = KEPT / f"{layer.digest.rpartition(':')[2]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "form": FORM,
        "diff_id": layer.diff_id,
        "unpacked": layer.unpacked,
        "files": [asdict(file) for file in layer.files.values()],
        "kept": {name: base64.b64encode(text).decode() for name, text in layer.kept.items()},
        "removed": sorted(layer.removed),
        "emptied": sorted(layer.emptied),
    }
    scratch = path.with_suffix(f".{threading.get_ident()}")
    scratch.write_text(json.dumps(document))
    scratch.replace(path)


def _kept(layer: Descriptor) -> Content | None:
    path: Path = KEPT / f"{layer.digest.rpartition(':')[2]}.json"
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        files = {one["path"]: File(**one) for one in raw["files"]}
        return Content(
            digest=layer.digest,
            diff_id=raw["diff_id"],
            size=layer.size,
            unpacked=raw["unpacked"],
            files=files,
            kept={name: base64.b64decode(text) for name, text in raw["kept"].items()},
            removed=frozenset(raw["removed"]),
            emptied=frozenset(raw["emptied"]),
        ) if raw["form"] == FORM else None  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None
