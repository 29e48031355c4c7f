"""The deployment of a rehearsal, and its list of changes."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from clusters.file import read
from clusters.model import Cluster
from common.errors import UserError
from tests import ROOT
from validation.rehearsal import recorded_engine
from validation.rehearsal.deployment import RehearsalDeployment, rehearsal_deployment
from validation.rehearsal.parallel_sizes import Machine
from validation.rehearsal.rehearse import endpoint

NETWORK = IPv4Network("10.211.0.0/20")
MACHINE = Machine(2, 24.0)


def example(name: str, **changes: str) -> Cluster:
    text = (ROOT / f"clusters/examples/{name}.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    cluster = read.read_text("cluster.yaml", text).cluster
    assert cluster is not None
    return cluster


def rehearsed(cluster: Cluster, network: IPv4Network = NETWORK) -> RehearsalDeployment:
    return rehearsal_deployment(
        cluster, network, recorded_engine.engine(cluster, "image:tag"), MACHINE
    )


def test_nodes_get_addresses_of_the_network_and_the_cluster_stays_as_it_is() -> None:
    cluster = example("pd-3node")
    made = rehearsed(cluster)
    containers = made.deployment.containers
    assert [one.role for one in containers] == ["prefill", "decode", "headless", "proxy"]
    assert {one.image for one in containers} == {"image:tag"}
    assert [one.node.address for one in containers] == [f"10.211.0.{10 + n}" for n in (0, 1, 2, 0)]
    assert containers[2].env["LEADER_IP"] == "10.211.0.11"
    assert containers[0].env["PREFLIGHT"] == "off"
    assert containers[0].env["RECIPE"] == cluster.recipe
    assert "no weights are mounted" in made.changes


def test_what_kubernetes_would_place_is_placed_here() -> None:
    made = rehearsed(example("kubernetes"))
    assert not any(one.node.placed for one in made.deployment.containers)
    assert made.deployment.proxy is not None
    prefill, decode = (made.deployment.proxy.env[f"{s}_ENDPOINTS"] for s in ("PREFILL", "DECODE"))
    assert (prefill, decode) == ("10.211.0.10:8000,10.211.0.11:8000", "10.211.0.12:8000")
    assert made.deployment.cluster.secrets[0].env == "VLLM_API_KEY"
    assert "every secret is 'rehearsal'" in made.changes


def test_more_nodes_than_addresses_are_refused() -> None:
    with pytest.raises(UserError, match="do not fit into"):
        rehearsed(example("pd-3node"), IPv4Network("10.0.0.0/29"))


def test_the_image_is_the_release_s_on_a_stand_in() -> None:
    assert recorded_engine.default_image(example("pd-3node")) == "vllm-ascend:v0.13.0rc1-a3-standin"


def test_ray_is_told_of_the_npus_that_its_nodes_would_have() -> None:
    made = rehearsed(example("ray"))
    assert [one.env["RAY_ARGS"] for one in made.deployment.containers] == [
        """--resources '{"NPU": 16}'"""
    ] * 2
    assert "Ray gets 16 NPUs on each node of serve" in map(str, made.changes)


def test_clients_send_to_the_proxy_or_the_first_server() -> None:
    pair = rehearsed(example("multi-node")).deployment
    proxied = rehearsed(example("pd-3node")).deployment
    assert endpoint(pair) == "http://10.211.0.10:8000"
    assert endpoint(proxied) == "http://10.211.0.10:12347"
    only = example("single", **{"[node0]}": "[node0], command: [sleep, '9']}"})
    with pytest.raises(UserError, match="no server to send requests to"):
        endpoint(rehearsed(only).deployment)
