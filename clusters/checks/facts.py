"""What the checks look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clusters.compile import locate
from clusters.deployment import Container, Deployment, Group
from clusters.model import Cluster, Node, Path
from clusters.ranges import Span
from entrypoints import printing
from entrypoints.findings import Finding
from entrypoints.inputs import arguments, stack
from entrypoints.inputs.arguments import Flags
from entrypoints.inputs.recipes import SIDES
from entrypoints.inputs.stack import Release
from entrypoints.launch import kv
from entrypoints.launch.facts import number
from entrypoints.launch.kv import Transfer
from entrypoints.launch.model import Launch
from entrypoints.launch.topology import Place

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
        """The kv-transfer-config; empty without one."""
        raw = arguments.json_of(self.flags, KV_TRANSFER)
        return raw if isinstance(raw, dict) else {}

    @property
    def node(self) -> Node:
        return self.container.node

    @property
    def model(self) -> str:
        return self.launch.argv[2]

    @property
    def mooncake(self) -> bool:
        return self.transfer is not None and self.transfer.mooncake

    def number(self, flag: str) -> int | None:
        return number(arguments.value_of(self.flags, flag) or "")

    def value(self, flag: str) -> str:
        """A flag's value as text; empty without the flag."""
        return "; ".join(" ".join(one.values) or one.name for one in self.flags.get(flag, ()))

    def shown(self, flag: str) -> str:
        """A flag's value for a message: shortened, secrets masked."""
        text = self.value(flag)
        if printing.is_secret_key(flag.removeprefix("--")):
            return printing.MASK if text else "not given"
        return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…") or "not given"


@dataclass(frozen=True)
class Serving:
    """A group whose containers all have a launch. `servers`: without Ray's workers."""

    group: Group
    servers: tuple[Server, ...]

    @property
    def first(self) -> Server:
        return self.servers[0]


@dataclass(frozen=True)
class Facts:
    """A compiled cluster as the checks see it.

    `serving`: the groups of `vllm serve`. `hosts`: containers by the host that they share.
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

    def first_given(self, *paths: Path) -> Path:
        """The first of the paths that is in the file, else the last."""
        return next((path for path in paths if path in self.cluster.lines), paths[-1])

    def path_of(self, name: str, *containers: Container) -> Path:
        """The most specific path that sets a variable or flag for one of the containers."""
        return self.path_of_any(*((name, container) for container in containers))

    def path_of_any(self, *names: tuple[str, Container]) -> Path:
        """As `path_of`, with a name for each container; falls back to a path shared by all
        instances."""
        paths = [
            (locate.path_of(self.cluster, container, name), locate.owner(container))
            for name, container in names
        ]
        specific = (path for path, own in paths if path != own and path[:1] == own[:1])
        shared = (path for path, own in paths if path != own)
        return next(specific, None) or next(shared, paths[0][0])


# What a rule yields: a finding, and its path in the cluster file.
Found = Iterator[tuple[Path, Finding]]


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
        hosts={name: tuple(containers) for name, containers in hosts.items()},
    )


def _serving(deployment: Deployment) -> Iterator[Serving]:
    for group in deployment.groups:
        servers = tuple(server for one in group.containers if (server := _server(one)))
        if servers and all(one.launch for one in group.containers):
            yield Serving(group, servers)


def _server(container: Container) -> Server | None:
    launch = container.launch
    if launch is None or launch.place is None or not launch.serves:
        return None
    return Server(container, launch, launch.place)


def effective_environment(container: Container) -> Mapping[str, str]:
    """The variables of a container's command: its own, and those its entrypoint sets."""
    return {**container.env, **(container.launch.env if container.launch else {})}


def listens(container: Container) -> dict[str, Span]:
    """The ports set for a container, by name, without those that its transport derives."""
    return {name: span for name, span in container.ports.items() if name != "adxl"}
