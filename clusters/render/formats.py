"""The formats to which a cluster can be rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from clusters.deployment import Deployment
from clusters.render import compose, docker
from clusters.render.kubernetes import lws, ray
from common.errors import did_you_mean, user_error

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


def text(files: Mapping[str, str]) -> str:
    """The files as one text; several are preceded by their names."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "\n".join(f"# {name}\n{content}" for name, content in files.items())
