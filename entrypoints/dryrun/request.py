"""The requests to the process that runs upstream's code, one for each node that serves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence

from entrypoints.dryrun import shapes
from entrypoints.launch.model import Launch
from entrypoints.messages import refused
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_GIB = 1 << 30


class Options(NamedTuple):
    """`hbm`, `allowance`: GiB; 0: the platform's, the estimate. `model`: whether to build it."""

    hbm: float = 0
    allowance: float = 0
    model: bool = True


class Request(NamedTuple):
    """A node to ask about. `assumed`: what replaces files that are not mounted."""

    argv: Sequence[str]
    env: Mapping[str, str]
    variables: Sequence[str]
    hbm: int
    allowance: int
    devices: int
    assumed: str = ""

    def as_data(self) -> dict[str, Any]:
        """The request as JSON holds it."""
        return dict(self._asdict())


def make(launch: Launch, environ: Mapping[str, str], options: Options, folder: str) -> Request:
    """The request for a node that runs `vllm serve`.

    Files for a model that is not mounted go into a new folder in `folder`. Raises Refused if
    nothing is known about the model or the device.
    """
    place = launch.place
    platform = launch.context.platform
    argv = list(launch.argv)
    assumed = ""
    name = argv[2]
    if not os.path.isfile(os.path.join(name, "config.json")):
        argv[2], assumed = _folder(name, launch, folder)
    hbm = int(options.hbm * _GIB) or (platform.hbm_bytes if platform else 0)
    if not hbm or place is None:
        raise refused("unknown-device")
    whole = launch.environment(environ)
    return Request(
        argv=argv,
        env=whole,
        variables=sorted(set(launch.env) | set(environ)),
        hbm=hbm,
        allowance=int(options.allowance * _GIB),
        devices=platform.devices if platform else 0,
        assumed=assumed,
    )


def _folder(name: str, launch: Launch, folder: str) -> tuple[str, str]:
    shape = shapes.find(name)
    if shape is None:
        raise refused("unknown-shape", model=name)
    made = tempfile.mkdtemp(dir=folder)
    longest = launch.facts.number("--max-model-len") if launch.facts else None
    shapes.write(shape, made, longest or 0)
    assumed = f"the shape of {name} by name ({shape.source})"
    if shape.bits < 16:
        assumed += f"; its linear layers quantized, its experts to {shape.bits} bits"
    return made, assumed
