"""What a cluster file says, as records. Format: docs/clusters.md and clusters/file/schema.json.

Nothing is derived here: that is clusters/compile.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Where something is said in the file: ("instances", "decode", "args", "seed").
Path = tuple["str | int", ...]


@dataclass(frozen=True)
class Node:
    """A machine. `address` is None, and `placed` is true, where Kubernetes chooses it.

    `nic` is None where the file names none: the entrypoint finds it by the address.
    `devices`: those that may be used, None for all of the platform.
    `context`: the Docker context or ssh:// address by which its engine is reached; empty: local.
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
    """What one node of an instance gets beside the others: variables, and arguments at the end."""

    env: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """A server over one or more nodes, `replicas` times.

    `role`: a group of a recipe (single, leader, prefill, decode, ray-head), or `serve`: the one of
    single, leader and ray-head that the recipe and the number of nodes come to.
    `nodes`: names, over all replicas in order; all have equally many. `each`: nodes of one replica.
    `settings`: keys of a recipe's role (sizes, concurrency, features, env, args, kv_transfer).
    `external`: external data parallel, one container a rank.
    `arguments`: of vllm serve, put at the end as they stand. `command`: runs in place of all that.
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
    """The proxy before prefill and decode. `replicas`: under Kubernetes, which has no `node`."""

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
    """A variable by reference: to a variable here, a file on the host, a Kubernetes Secret."""

    variable: str
    env: str = ""
    file: str = ""
    secret: str = ""
    key: str = ""


@dataclass(frozen=True)
class Run:
    """How containers run. `shm_gib`: shared memory in GiB. Timeouts in seconds, or defaults."""

    restart: str = "on-failure"
    shm_gib: int = 16
    preflight: str = ""
    supervise: bool = True
    drain_timeout: int | None = None
    wait_timeout: int | None = None


@dataclass(frozen=True)
class Kubernetes:
    """What the manifests of this cluster's Kubernetes need beside the rest.

    `resource`: name of the NPU resource. `host_network`: pods have the network of their node.
    `pod`: merged into every pod's spec as it stands.
    """

    namespace: str = ""
    resource: str = "huawei.com/Ascend910"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: tuple[str, ...] = ()
    host_network: bool = False
    pod: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """A cluster file. `lines`: the line (from 1) of every key and item in it.

    `image`: a repository whose tag follows from release, platform and OS, or by platform
    a whole reference. `recipe`: a name in the image, or a recipe's own content (from a file beside
    the cluster file, or written in it), or None where `model` and `sizes` say it all.
    `settings`: as an instance's, for all of them.
    `options`: arguments of docker run that nothing here stands for, as they stand.
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
        """The line of what is said at `path`, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)
