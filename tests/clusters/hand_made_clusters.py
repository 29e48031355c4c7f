"""Deployments made by hand: what a compiler would give, with nothing left to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from clusters.deployment import Container, Deployment, Group
from clusters.model import Cluster, Instance, Kubernetes, Node, Run, Secret, Volume

IMAGE = "registry.example.com/vllm-ascend:v0.13.0rc1-a3"


def node(name: str, address: str | None = "10.0.0.1", **changes: Any) -> Node:
    return Node(name, address, "eth0", "a3", **changes)


def cluster(nodes: Iterable[Node], **changes: Any) -> Cluster:
    made = Cluster(
        file="qwen3.yaml",
        name="qwen3",
        release="v0.13.0rc1",
        image=IMAGE,
        os="ubuntu22.04",
        recipe=None,
        model="/weights/m",
        served_model_name="",
        nodes={one.name: one for one in nodes},
        instances={"serve": Instance("serve", "serve", (), 1)},
        proxy=None,
        settings={},
        ports={},
        volumes=(),
        secrets=(),
        run=Run(),
        kubernetes=Kubernetes(),
        options=(),
        lines={},
    )
    return replace(made, **changes)


def container(on: Node, name: str = "qwen3-serve-0", **changes: Any) -> Container:
    env: Mapping[str, str] = {"ROLE": "single", "RECIPE": "r"}
    devices = tuple(range(16))
    made = Container(name, on, "serve", 0, 0, "single", IMAGE, env, devices=devices)
    return replace(made, **changes)


def deployment(of: Cluster, *containers: Container, proxy: Container | None = None) -> Deployment:
    """One group of all containers."""
    group = Group("qwen3-serve", "serve", 0, "serve", containers, (("10.0.0.1", 8000),))
    return Deployment(of, (group,), proxy, ())


def pd() -> Deployment:
    """Prefill and proxy on one node, decode on two others, a secret of each kind that docker has.

    With a recipe's content, and values that a shell and Compose would like to read for themselves.
    """
    one, two, three = (node(f"node{n}", f"10.0.0.{n}1") for n in (1, 2, 3))
    recipe = '{"extends": "qwen3/pd", "roles": {"decode": {"args": {"max-num-seqs": 96}}}}'

    def server(on: Node, name: str, role: str, rank: int = 0, **env: str) -> Container:
        return container(
            on,
            f"qwen3-{name}",
            instance=name.partition("-")[0],
            rank=rank,
            role=role,
            env={"ROLE": role, "RECIPE": recipe, "LOCAL_IP": str(on.address), **env},
            secrets=("VLLM_API_KEY", "HF_TOKEN"),
        )

    prefill = server(one, "prefill-0", "prefill", HCCL_OP_RETRY_ENABLE="L0:0, L1:0", SEED="1e3")
    decode = server(two, "decode-0", "decode", LIBS="/opt/lib:$LD_LIBRARY_PATH")
    follower = server(three, "decode-1", "headless", 1, LEADER_IP="10.0.0.21")
    proxy = container(
        one,
        "qwen3-proxy",
        instance="proxy",
        role="proxy",
        env={"ROLE": "proxy", "PREFILL_ENDPOINTS": "10.0.0.11:8000"},
        secrets=("VLLM_API_KEY",),
        after=("qwen3-prefill-0", "qwen3-decode-0"),
        arguments=("--policy", "round_robin"),
    )
    of = cluster(
        (one, two, three),
        volumes=(Volume("/weights", path="/data/my weights"),),
        secrets=(
            Secret("VLLM_API_KEY", env="SITE_KEY"),
            Secret("HF_TOKEN", file="/etc/keys/it's a token"),
        ),
        options=("--ulimit", "memlock=-1", "--cpus=64"),
        run=Run(drain_timeout=90),
    )
    groups = (
        Group("qwen3-prefill", "prefill", 0, "prefill", (prefill,), (("10.0.0.11", 8000),)),
        Group("qwen3-decode", "decode", 0, "decode", (decode, follower), (("10.0.0.21", 8000),)),
    )
    return Deployment(of, groups, proxy, ())
