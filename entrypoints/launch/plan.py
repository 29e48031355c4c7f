"""What will run on this node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from entrypoints.inputs import references
from entrypoints.launch import context, network
from entrypoints.launch.context import Context
from entrypoints.launch.topology import Place
from entrypoints.problems import Advice, Problem, Refused
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from entrypoints.rules.memory import Need

# The ports a node listens on: a number, or a list of the first and the last.
Ports = Mapping[str, "int | list[int]"]


class Peer(NamedTuple):
    """Someone else's server: an HTTP `path` must answer, or without one the port be open."""

    name: str
    host: str
    port: int
    path: str = ""


class Launch(NamedTuple):
    """What will run. `env` holds only what is set on top of the container's environment.

    The names in `expands` have values that refer to other variables (`$NAME`), as in a shell.
    `before` are commands that run and end before `argv`, `peers` are waited for before either.
    `leader` is the API of the leader that a headless node lives and dies with.
    `npus` is how many the Ray cluster must have before `argv`.
    `multi_node`: the node's NPUs talk to those of others. `memory`: what a device needs, where a
    server's model is known.
    """

    role: str
    title: str
    env: Mapping[str, str]
    expands: frozenset[str]
    argv: Sequence[str]
    ports: Ports
    warnings: Sequence[Advice]
    context: Context
    place: Place | None = None
    before: Sequence[Sequence[str]] = ()
    peers: Sequence[Peer] = ()
    leader: Peer | None = None
    npus: int = 0
    scheme: str = "http"
    multi_node: bool = False
    memory: Need | None = None

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The complete environment to exec with; references see what was set before them."""
        whole = dict(environ)
        for name, value in self.env.items():
            whole[name] = references.expand(value, whole) if name in self.expands else value
        return whole


def plan(
    environ: Mapping[str, str], tokens: Sequence[str] = (), host: network.Host = network.HOST
) -> Launch:
    """The launch of this node. Starts nothing and changes nothing.

    Raises Refused with every problem that could be found.
    """
    launch, problems = draft(environ, tokens, host)
    if problems or launch is None:
        raise Refused(problems)
    return launch


def draft(
    environ: Mapping[str, str], tokens: Sequence[str] = (), host: network.Host = network.HOST
) -> tuple[Launch | None, tuple[Problem, ...]]:
    """The launch as far as it can be told, and everything that speaks against starting it."""
    problems: list[Problem] = []
    try:
        launch = _draft(environ, tokens, host, problems)
    except Refused as refused:
        return None, refused.problems
    return launch, tuple(problems)


def _draft(
    environ: Mapping[str, str], tokens: Sequence[str], host: network.Host, problems: list[Problem]
) -> Launch:
    node, place = context.gather(environ, tokens, host, problems)
    if place is None:
        from entrypoints.launch import proxy

        return proxy.launch(node, problems)
    if node.role.program == "ray":
        from entrypoints.launch import ray

        return ray.worker(node, place, problems)
    from entrypoints.launch import serve

    return serve.launch(node, place, problems)
