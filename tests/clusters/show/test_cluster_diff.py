"""cluster.diff: what changes, on which node, and what has to be restarted for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clusters.deployment import Deployment
from clusters.model import Run, Secret, Volume
from clusters.runtime.spec import DIGEST, specs
from clusters.show import diff, output
from clusters.show.diff import Comparison, compare
from tests.clusters.compiled_clusters import (
    EXAMPLES,
    GOLDEN,
    check_golden,
    compiled,
    example,
    invoke,
    large,
)
from tests.clusters.hand_made_clusters import pd

DECODE = ("[node2, node3]}", "[node2, node3], args: {max-num-seqs: 64}}")


def restarts(found: Comparison) -> list[tuple[str, str]]:
    return [(one.scope, one.name) for one in found.restarts]


def changes(found: Comparison) -> dict[str, list[tuple[str, str, str | None, str | None]]]:
    return {
        one.container.name: [(c.part, c.name, c.old, c.new) for c in one.changes]
        for one in found.differences
    }


def text(old: Deployment, new: Deployment) -> str:
    return output.join(diff.text(compare(old, new)))


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_the_same_says_so(name: str) -> None:
    found = compare(example(name), example(name))
    assert found.same
    assert text(example(name), example(name)) == "nothing changed"
    assert diff.data(found) == {"same": True, "containers": [], "restarts": []}


def test_a_comment_changes_nothing() -> None:
    assert compare(
        example("single"), compiled(f"# x\n{(EXAMPLES / 'single.yaml').read_text()}")
    ).same


def test_an_instance_over_nodes_restarts_as_a_whole() -> None:
    found = compare(example("pd-3node"), example("pd-3node", DECODE))
    assert list(changes(found)) == ["qwen3-pd-decode-0", "qwen3-pd-decode-1"]
    assert ("command", "--max-num-seqs", "128", "64") in changes(found)["qwen3-pd-decode-1"]
    assert restarts(found) == [("group", "qwen3-pd-decode")]
    check_golden("diff/decode.txt", text(example("pd-3node"), example("pd-3node", DECODE)))


def test_a_change_of_one_node_restarts_its_group() -> None:
    override = ("[node2, node3]}", "[node2, node3], overrides: {node3: {env: {HCCL_BUFFSIZE: 9}}}}")
    found = compare(example("pd-3node"), example("pd-3node", override))
    assert changes(found) == {
        "qwen3-pd-decode-1": [
            ("variables", "HCCL_BUFFSIZE", None, "9"),
            ("environment", "HCCL_BUFFSIZE", "1024", "9"),
        ]
    }
    (restart,) = found.restarts
    assert restart.containers == ("qwen3-pd-decode-0", "qwen3-pd-decode-1")


def test_a_container_alone_restarts_alone() -> None:
    old = example("single")
    new = example("single", ("nodes: [node0]}", "nodes: [node0], env: {HCCL_BUFFSIZE: 9}}"))
    assert restarts(compare(old, new)) == [("container", "qwen3-128k-serve-0")]
    assert text(old, new).endswith("restart only container qwen3-128k-serve-0")


def test_the_proxy_alone() -> None:
    found = compare(example("pd-3node"), example("pd-3node", ("port: 12347", "port: 12348")))
    assert restarts(found) == [("proxy", "qwen3-pd-proxy")]
    assert ("command", "--port", "12347", "12348") in changes(found)["qwen3-pd-proxy"]


def test_another_replica_is_started_and_the_proxy_told() -> None:
    """Addresses that stand in for those of placed nodes move with it, and are no change."""
    old = example("kubernetes")
    new = example("kubernetes", ("nodes: 1, replicas: 2", "nodes: 1, replicas: 3"))
    found = compare(old, new)
    assert [(one.container.name, one.kind) for one in found.differences] == [
        ("qwen3-pd-prefill-2-0", "new"),
        ("qwen3-pd-proxy", "changed"),
    ]
    assert restarts(found) == [("proxy", "qwen3-pd-proxy")]
    assert "start: qwen3-pd-prefill-2-0\n" in text(old, new)
    back = compare(new, old)
    assert [one.kind for one in back.differences] == ["changed", "gone"]
    assert "stop: qwen3-pd-prefill-2-0\n" in text(new, old)
    assert "198.18" not in text(old, new) + text(new, old)


def test_a_group_that_grows_restarts() -> None:
    node = ("  node3: 10.0.0.22\n", "  node3: 10.0.0.22\n  node4: 10.0.0.23\n  node5: 10.0.0.24\n")
    more = ("[node2, node3]}", "[node2, node3, node4, node5]}")
    found = compare(example("pd-3node"), example("pd-3node", node, more))
    kinds = {one.container.name: one.kind for one in found.differences}
    assert kinds == {
        "qwen3-pd-decode-0": "changed",
        "qwen3-pd-decode-1": "changed",
        "qwen3-pd-decode-2": "new",
        "qwen3-pd-decode-3": "new",
    }
    assert ("group", "qwen3-pd-decode") in restarts(found)


def test_an_image_and_a_node() -> None:
    image = ("release: v0.13.0rc1\n", "release: v0.13.0rc1\nimage: registry.example.com/x:y\n")
    found = compare(example("single"), example("single", image))
    assert changes(found) == {
        "qwen3-128k-serve-0": [
            ("", "image", "vllm-ascend:v0.13.0rc1-a3", "registry.example.com/x:y")
        ]
    }
    old = example("single")
    moved = compare(old, example("single", ("address: 10.0.0.1", "address: 10.0.0.9")))
    assert list(changes(moved).values()) == [[("", "address", "10.0.0.1", "10.0.0.9")]]


@pytest.mark.parametrize(
    ("what", "name", "proxy"),
    [
        ({"run": Run(drain_timeout=90, shm_gib=99)}, "run.shm", False),
        ({"run": Run(drain_timeout=90, restart="no")}, "run.restart", True),
        ({"volumes": (Volume("/weights", path="/other"),)}, "weights./weights", False),
        ({"secrets": (Secret("VLLM_API_KEY", env="OTHER"),)}, "secrets.VLLM_API_KEY", True),
        ({"options": ("--ulimit", "memlock=-1", "--cpus=65")}, "options", True),
    ],
)
def test_what_all_containers_are_started_with(
    what: dict[str, object], name: str, proxy: bool
) -> None:
    old = pd()
    new = replace(old, cluster=replace(old.cluster, **what))  # type: ignore[arg-type]
    found = compare(old, new)
    assert all(name in {one.name for one in each.changes} for each in found.differences)
    assert restarts(found) == [
        ("container", "qwen3-prefill-0"),
        ("group", "qwen3-decode"),
        *([("proxy", "qwen3-proxy")] if proxy else []),
    ]
    assert changed(found) == replaced(old, new)


def changed(found: Comparison) -> set[str]:
    return {one.container.name for one in found.differences if one.kind == "changed"}


def replaced(old: Deployment, new: Deployment) -> set[str]:
    """The containers that cluster.up would replace."""
    before, after = specs(old), specs(new)
    return {
        name
        for name in before.keys() & after.keys()
        if before[name].labels[DIGEST] != after[name].labels[DIGEST]
    }


@pytest.mark.parametrize(
    "change",
    [
        DECODE,
        ("port: 12347", "port: 12348"),
        ("kv: 36000", "kv: 37000"),
        ("10.0.0.22", "10.0.0.23"),
        ("/data/weights", "/data/others"),
        ("platform: a3", "platform: a3\nimage: registry.example.com/x"),
    ],
)
def test_what_is_told_is_what_would_be_replaced(change: tuple[str, str]) -> None:
    old, new = example("pd-3node"), example("pd-3node", change)
    assert changed(compare(old, new)) == replaced(old, new) != set()


def test_a_secret_that_changes_is_a_change_and_not_shown() -> None:
    def made(value: str) -> Deployment:
        return example(
            "single", ("nodes: [node0]}", f"nodes: [node0], env: {{X_TOKEN: {value}}}}}")
        )

    found = compare(made("hush1"), made("hush2"))
    assert ("environment", "X_TOKEN", "***", "***") in changes(found)["qwen3-128k-serve-0"]
    shown = text(made("hush1"), made("hush2")) + json.dumps(diff.data(found))
    assert "hush" not in shown
    assert "another value" in shown


def test_containers_with_the_same_changes_are_told_together() -> None:
    old = large(2, 20)
    shown = text(old, replace(old, cluster=replace(old.cluster, run=Run(shm_gib=9))))
    assert shown.count("+ run.shm: 9g") == 2
    assert shown.count("restart the whole group") == 20


def test_the_command(tmp_path: Path) -> None:
    old, new = str(EXAMPLES / "pd-3node.yaml"), tmp_path / "new.yaml"
    new.write_text((EXAMPLES / "pd-3node.yaml").read_text().replace(*DECODE))
    answer = invoke("cluster.diff", old, str(new), "--format", "json", "--exit-code")
    assert answer.returncode == 1
    assert json.loads(answer.stdout)["restarts"][0]["name"] == "qwen3-pd-decode"
    told = invoke("cluster.diff", old, str(new))
    assert told.returncode == 0
    assert told.stdout == (GOLDEN / "diff" / "decode.txt").read_text()
