"""The formats to which a cluster can be rendered."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from clusters.deployment import Deployment
from clusters.render import compose, docker
from clusters.render.kubernetes import lws, ray
from common.errors import EX_UNAVAILABLE, did_you_mean, user_error

# From a deployment to file name -> text.
Renderer = Callable[[Deployment], dict[str, str]]
RENDERERS: Mapping[str, Renderer] = {
    "docker": docker.files,
    "compose": compose.files,
    "lws": lws.files,
    "ray": ray.files,
}


def renderer(name: str) -> Renderer:
    """The renderer of a format. Raises UserError (64) for an unknown name."""
    if name not in RENDERERS:
        raise user_error("--to", f"'{name}' is not known", did_you_mean(name, RENDERERS))
    return RENDERERS[name]


def write(files: Mapping[str, str], out: Path) -> list[Path]:
    """Put the files into a directory; each is there as a whole or as it was before.

    Raises UserError (69) when one cannot be written.
    """
    fresh: dict[Path, Path] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            handle, scratch = tempfile.mkstemp(dir=out, prefix=f".{name}-")
            fresh[out / name] = Path(scratch)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(scratch).chmod(0o755 if text.startswith("#!") else 0o644)
        for path, scratch_path in fresh.items():
            scratch_path.replace(path)
    except OSError as error:
        for scratch_path in fresh.values():
            scratch_path.unlink(missing_ok=True)
        what = f"cannot be written: {error.strerror}"
        raise user_error(f"--out {out}", what, "another directory", EX_UNAVAILABLE) from None
    return list(fresh)


def text(files: Mapping[str, str]) -> str:
    """The files as one text; several are preceded by their names."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "\n".join(f"# {name}\n{content}" for name, content in files.items())
