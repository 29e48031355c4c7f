"""What planning a node results in, shared by the modules that make a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from entrypoints.findings import Finding
from entrypoints.inputs import references
from entrypoints.launch.context import Context
from entrypoints.launch.facts import Facts
from entrypoints.launch.topology import Place
from entrypoints.record import NamedTuple

# The ports a node listens on: a number, or a list of the first and the last.
Ports = Mapping[str, "int | list[int]"]


class Peer(NamedTuple):
    """Another server: an HTTP `path` must answer 200, or without one the port must be open."""

    name: str
    host: str
    port: int
    path: str = ""


class Launch(NamedTuple):
    """What will run. `env` holds only what is set on top of the container's environment.

    `expands`: names whose values refer to other variables (`$NAME`), as in a shell.
    `sources`: variables that upstream's image sets, with the place that says so.
    `before`: commands that run to their end before `argv`. `peers`: waited for before either.
    `leader`: the API of a headless node's leader, without which the node must end.
    `npus`: how many the Ray cluster must have before `argv`. `multi_node`: the node's NPUs
    communicate with those of other nodes. `facts`: what the rules examine; None for a node on
    which no `vllm serve` runs.
    """

    role: str
    title: str
    env: Mapping[str, str]
    expands: frozenset[str]
    argv: Sequence[str]
    ports: Ports
    context: Context
    place: Place | None = None
    before: Sequence[Sequence[str]] = ()
    peers: Sequence[Peer] = ()
    leader: Peer | None = None
    npus: int = 0
    scheme: str = "http"
    multi_node: bool = False
    facts: Facts | None = None
    warnings: Sequence[Finding] = ()
    sources: Mapping[str, str] = {}

    @property
    def serves(self) -> bool:
        """Whether `vllm serve` runs, and not a proxy or a worker of Ray."""
        return tuple(self.argv[:2]) == ("vllm", "serve")

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The complete environment for exec; a reference sees the variables set before it."""
        whole = dict(environ)
        for name, value in self.env.items():
            whole[name] = references.expand(value, whole) if name in self.expands else value
        return whole
