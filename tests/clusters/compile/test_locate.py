"""Where in the file something is said that is wrong on a node, and what a file makes of it."""

from __future__ import annotations

import pytest

from clusters.compile import deployment
from clusters.deployment import Deployment
from clusters.file import read

PD = """\
name: pd
release: v0.13.0rc1
platform: a3
nic: eth0
recipe: qwen3-235b-a22b-w8a8/pd-3node-a3
nodes:
  one: 10.0.0.1
  two: 10.0.0.2
"""
INSTANCES = """\
instances:
  prefill:
    nodes: [one]
  decode:
    nodes: [two]
    sizes:
      tp: 4
      dp: 4
"""


def compiled(text: str) -> Deployment:
    reading = read.read_text("cluster.yaml", text)
    assert reading.cluster is not None, [str(finding) for finding in reading.findings]
    return deployment(reading.cluster)


def at(text: str, code: str) -> set[str]:
    """Where a code is found, and what its line says."""
    lines = text.splitlines()
    return {
        f"{one.where} | {lines[one.line - 1].strip()}"
        for one in compiled(text).findings
        if one.code == code
    }


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        (
            PD + INSTANCES.replace("tp: 4", "tp: 16"),
            "too-few-devices",
            "instances.decode.sizes.tp: TP_SIZE | tp: 16",
        ),
        (
            PD + "sizes:\n  dp: 40\n" + INSTANCES.replace("      dp: 4\n", ""),
            "too-few-devices",
            "instances.decode.sizes.tp: TP_SIZE | tp: 4",
        ),
        (
            PD + INSTANCES.replace("tp: 4", "tp: 3"),
            "kv-tp-shape",
            "instances.decode.sizes.tp: --kv-transfer-config.kv_connector_extra_config | tp: 3",
        ),
        (
            PD.replace("platform: a3", "platform: a2") + INSTANCES,
            "other-platform",
            "platform | platform: a2",
        ),
        (
            PD + INSTANCES + "    args: {max-num-seqs: 9}\n"
            "    arguments:\n      - --enforce-eager\n      - --max-num-seqs\n      - 999\n",
            "batched-tokens-below-requests",
            "instances.decode.arguments.1: --max-num-batched-tokens | - --max-num-seqs",
        ),
        (
            PD + INSTANCES + "    arguments: [-tp, 16]\n",
            "too-few-devices",
            "instances.decode.arguments.0: TP_SIZE | arguments: [-tp, 16]",
        ),
        (
            PD + INSTANCES + "    ports:\n      api: 9000\n      dp_rpc: 9000\n",
            "bad-ports",
            "instances.decode.ports.api: PORT | api: 9000",
        ),
    ],
)
def test_the_line_is_that_of_what_is_wrong(text: str, code: str, expected: str) -> None:
    assert expected in at(text, code)


def test_an_instance_has_its_own_sizes_whatever_others_of_its_role_have() -> None:
    text = PD.replace("  two", "  three: 10.0.0.3\n  two") + INSTANCES
    made = compiled(text + "  more: {role: prefill, nodes: [three], sizes: {tp: 16, dp: 1}}\n")
    places = [one.launch.place for one in made.containers if one.launch]
    assert [(place.tp, place.dp) for place in places if place] == [(8, 2), (4, 4), (16, 1)]


def test_ports_that_are_arguments() -> None:
    spread = PD.partition("recipe")[0] + "model: m\nports: {master: 31000}\n"
    spread += "nodes: {a: 10.0.0.1, b: 10.0.0.2}\n"
    made = compiled(spread + "instances: {serve: {nodes: [a, b], sizes: {tp: 32}}}\n")
    first, second = (one.launch for one in made.containers)
    assert first is not None
    assert second is not None
    assert first.ports["master"] == second.peers[0].port == 31000

    made = compiled(PD + "ports: {metrics: 40000}\n" + INSTANCES + "proxy: {node: one}\n")
    assert made.proxy is not None
    assert made.proxy.launch is not None
    assert made.proxy.launch.ports["metrics"] == 40000


def test_the_port_of_a_command_is_the_one_that_is_given() -> None:
    made = compiled(
        PD + "instances:\n  prefill: {nodes: [one], command: [x], ports: {api: 8001}}\n"
        "  decode: {nodes: [two], sizes: {dp: 4}}\nproxy: {node: one}\n"
    )
    assert made.groups[0].endpoints == (("10.0.0.1", 8001),)
