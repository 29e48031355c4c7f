"""What a check looks at, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clusters.compile import locate
from clusters.deployment import Container, Deployment, Group
from clusters.model import Cluster, Path
from clusters.ranges import Span
from entrypoints import show
from entrypoints.inputs import arguments, stack
from entrypoints.inputs.arguments import Flags
from entrypoints.inputs.recipes import SIDES
from entrypoints.inputs.stack import Release
from entrypoints.launch import kv
from entrypoints.launch.kv import Transfer
from entrypoints.launch.plan import Launch
from entrypoints.launch.topology import Place
from entrypoints.rules.facts import number

KV_TRANSFER = "--kv-transfer-config"
_LONGEST = 60


@dataclass(frozen=True)
class Server:
    """A container in which `vllm serve` runs."""

    container: Container
    launch: Launch
    place: Place

    @cached_property
    def flags(self) -> Flags:
        return arguments.merge({}, arguments.parse(self.launch.argv[3:], {}, []))

    @cached_property
    def env(self) -> Mapping[str, str]:
        return effective_environment(self.container)

    @cached_property
    def transfer(self) -> Transfer | None:
        raw = self.kv_transfer
        return kv.read(raw, []) if raw else None

    @cached_property
    def kv_transfer(self) -> Mapping[str, Any]:
        """The kv-transfer-config; empty where there is none."""
        raw = arguments.json_of(self.flags, KV_TRANSFER)
        return raw if isinstance(raw, dict) else {}

    @property
    def model(self) -> str:
        return self.launch.argv[2]

    @property
    def mooncake(self) -> bool:
        return self.transfer is not None and self.transfer.mooncake

    def number(self, flag: str) -> int | None:
        return number(arguments.value_of(self.flags, flag) or "")

    def value(self, flag: str) -> str:
        """What a flag says, as text; empty where it is not given."""
        return "; ".join(" ".join(one.values) or one.name for one in self.flags.get(flag, ()))

    def shown(self, flag: str) -> str:
        """The same for people: short, and without secrets."""
        text = self.value(flag)
        if show.is_secret_key(flag.removeprefix("--")):
            return show.MASK if text else "not given"
        return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…") or "not given"


@dataclass(frozen=True)
class Serving:
    """A group that is understood as a whole. `servers`: Ray's workers are none."""

    group: Group
    servers: tuple[Server, ...]

    @property
    def first(self) -> Server:
        return self.servers[0]


@dataclass(frozen=True)
class Facts:
    """A compiled cluster, in the ways in which checks look at it.

    `serving`: the groups of `vllm serve`. `hosts`: containers by what they share their ports with.
    """

    deployment: Deployment
    release: Release
    serving: tuple[Serving, ...]
    hosts: Mapping[str, tuple[Container, ...]]

    @property
    def cluster(self) -> Cluster:
        return self.deployment.cluster

    def sides(self) -> dict[str, list[Group]]:
        """The groups of prefill and of decode."""
        return {
            side: [group for group in self.deployment.groups if group.role == side]
            for side in SIDES
        }

    def given(self, *paths: Path) -> Path:
        """The first of the paths that the file has, else the last."""
        return next((path for path in paths if path in self.cluster.lines), paths[-1])

    def said(self, word: str, *containers: Container) -> Path:
        """Where a variable or flag is said for one of the containers, the most special place."""
        return self.said_as(*((word, container) for container in containers))

    def said_as(self, *words: tuple[str, Container]) -> Path:
        """The same for words of a container each: of what is said for all, the first."""
        paths = [
            (locate.path_of(self.cluster, container, word), locate.owner(container))
            for word, container in words
        ]
        special = (path for path, own in paths if path != own and path[:1] == own[:1])
        shared = (path for path, own in paths if path != own)
        return next(special, None) or next(shared, paths[0][0])


@dataclass(frozen=True)
class Found:
    """What a check says. `path`: where in the file; `source` in place of the check's own."""

    path: Path
    message: str
    fix: str
    source: str = ""


Rule = Callable[[Facts], Iterator[Found]]


@dataclass(frozen=True)
class Check:
    """One check. `replaces`: codes of the entrypoint that this says better."""

    code: str
    severity: str
    what: str
    source: str
    rule: Rule
    replaces: tuple[str, ...] = ()


def gather_facts(deployment: Deployment) -> Facts:
    """The facts about a deployment."""
    release = stack.release(deployment.cluster.release, [])
    assert release is not None, "the file is refused where its release is not known"
    hosts: dict[str, list[Container]] = {}
    for container in deployment.containers:
        if not container.node.placed:
            hosts.setdefault(container.node.name, []).append(container)
    return Facts(
        deployment=deployment,
        release=release,
        serving=tuple(_serving(deployment)),
        hosts={name: tuple(those) for name, those in hosts.items()},
    )


def _serving(deployment: Deployment) -> Iterator[Serving]:
    for group in deployment.groups:
        servers = tuple(server for one in group.containers if (server := _server(one)))
        if servers and all(one.launch for one in group.containers):
            yield Serving(group, servers)


def _server(container: Container) -> Server | None:
    launch = container.launch
    if launch is None or launch.place is None or tuple(launch.argv[:2]) != ("vllm", "serve"):
        return None
    return Server(container, launch, launch.place)


def effective_environment(container: Container) -> Mapping[str, str]:
    """The environment of what a container runs, as far as it is known here."""
    return {**container.env, **(container.launch.env if container.launch else {})}


def listens(container: Container) -> dict[str, Span]:
    """The ports that a container itself is given, by name."""
    return {name: span for name, span in container.ports.items() if name != "adxl"}
