"""The contents of a cluster file as records. Format: docs/clusters.md, clusters/file/schema.json.

Nothing is derived here: see clusters/compile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A place in the file: ("instances", "decode", "args", "seed").
Path = tuple["str | int", ...]


@dataclass(frozen=True)
class Node:
    """A machine. `placed`: Kubernetes chooses it; `address` is None then.

    `nic`: None unless the file names it; the entrypoint then finds it by the address.
    `devices`: those that may be used, None for all of the platform.
    `context`: the Docker context or ssh:// address of its engine; empty for the local one.
    """

    name: str
    address: str | None
    nic: str | None
    platform: str
    devices: tuple[int, ...] | None = None
    context: str = ""
    placed: bool = False


@dataclass(frozen=True)
class Override:
    """Settings of one node of an instance: variables, and arguments after those of the instance."""

    env: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """A server over one or more nodes, `replicas` times.

    `role`: a role of a recipe (single, leader, prefill, decode, ray-head), or `serve`: single,
    leader or ray-head, as the recipe and the number of nodes require.
    `nodes`: names for all replicas in order, equally many for each. `each`: nodes of one replica.
    `settings`: keys of a recipe's role (sizes, concurrency, features, env, args, kv_transfer).
    `external`: external data parallel, one container a rank.
    `arguments`: of vllm serve, appended unchanged. `command`: runs instead of vllm serve.
    """

    name: str
    role: str
    nodes: tuple[str, ...]
    each: int
    replicas: int = 1
    devices: tuple[int, ...] | None = None
    external: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    overrides: Mapping[str, Override] = field(default_factory=dict)


@dataclass(frozen=True)
class Proxy:
    """The proxy of prefill and decode. `replicas`: for Kubernetes, where `node` is empty."""

    node: str
    kind: str = "vllm-router"  # or example
    replicas: int = 1
    port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume:
    """A directory of the host (`path`) or a persistent volume claim, mounted at `mount`."""

    mount: str
    path: str = ""
    claim: str = ""
    read_only: bool = True


@dataclass(frozen=True)
class Secret:
    """A variable given by reference: to a variable or a file here, or to a Kubernetes Secret."""

    variable: str
    env: str = ""
    file: str = ""
    secret: str = ""
    key: str = ""


@dataclass(frozen=True)
class Run:
    """How containers run. `shm_gib`: shared memory. Timeouts: seconds, None for the default."""

    restart: str = "on-failure"
    shm_gib: int = 16
    preflight: str = ""
    supervise: bool = True
    drain_timeout: int | None = None
    wait_timeout: int | None = None


@dataclass(frozen=True)
class Kubernetes:
    """Settings for Kubernetes manifests only.

    `resource`: name of the NPU resource. `host_network`: pods use the network of their node.
    `pod`: merged into every pod's spec unchanged.
    """

    namespace: str = ""
    resource: str = "huawei.com/Ascend910"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: tuple[str, ...] = ()
    host_network: bool = False
    pod: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """A cluster file. `lines`: the line (from 1) of every key and item.

    `image`: a repository, whose tag follows from release, platform and OS, or a complete reference
    for each platform. `recipe`: a name in the image, the content of a recipe (from another file or
    from this one), or None when `model` and `sizes` describe everything.
    `settings`: for all instances, with the keys of an instance's.
    `options`: further arguments of docker run, unchanged.
    """

    file: str
    name: str
    release: str
    image: str | Mapping[str, str]
    os: str
    recipe: str | Mapping[str, Any] | None
    model: str
    served_model_name: str
    nodes: Mapping[str, Node]
    instances: Mapping[str, Instance]
    proxy: Proxy | None
    settings: Mapping[str, Any]
    ports: Mapping[str, int]
    volumes: tuple[Volume, ...]
    secrets: tuple[Secret, ...]
    run: Run
    kubernetes: Kubernetes
    options: tuple[str, ...]
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        return nearest_line(self.lines, path)


def nearest_line(lines: Mapping[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest path around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
