"""Which faults a cluster is put to, and how they are chosen by name."""

from __future__ import annotations

import pytest

from clusters.compile import deployment
from clusters.deployment import Deployment
from clusters.file import read
from common.errors import UserError
from tests import ROOT
from validation.rehearsal import faults
from validation.rehearsal.injection import INJECTIONS


def example(name: str, **changes: str) -> Deployment:
    text = (ROOT / f"clusters/examples/{name}.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    cluster = read.read_text("cluster.yaml", text).cluster
    assert cluster is not None
    return deployment(cluster)


def names(ones: list[faults.Fault]) -> list[tuple[str, ...]]:
    return [(one.kind.name, *one.targets) for one in ones]


def test_prefill_decode_and_proxy_on_three_nodes() -> None:
    found = names(list(faults.faults(example("pd-3node"))))
    everyone = ["prefill-0", "decode-0", "decode-1", "proxy"]
    assert [one[1] for one in found if one[0] == "killed"] == everyone
    assert [one[1] for one in found if one[0] == "stopped"] == everyone
    assert [one[1] for one in found if one[0] == "frozen"] == ["prefill-0", "decode-0", "proxy"]
    assert [one[1] for one in found if one[0] == "isolated"] == ["node1", "node2", "node3"]
    assert [one[1:] for one in found if one[0] == "severed"] == [
        ("node1", "node2"),
        ("node1", "node3"),
        ("node2", "node3"),
    ]


def test_every_replica_is_killed_and_one_of_them_stopped() -> None:
    found = names(list(faults.faults(example("kubernetes"))))
    killed = [one[1] for one in found if one[0] == "killed"]
    assert sum(name.startswith("prefill") for name in killed) == 2
    stopped = [one[1] for one in found if one[0] == "stopped"]
    assert sum(name.startswith("prefill") for name in stopped) == 1


def test_the_head_and_a_worker_of_ray() -> None:
    found = list(faults.faults(example("ray")))
    roles: dict[str, list[str]] = {one.kind.name: [] for one in found}
    for one in found:
        roles[one.kind.name].append(one.container.role)
    assert roles["killed"] == roles["stopped"] == ["ray-head", "ray-worker"]
    assert roles["frozen"] == ["ray-head"]
    assert roles["severed"] == ["ray-head"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("killed", 4),
        ("decode-0", 3),
        ("qwen3-pd-decode-0", 3),
        ("headless", 2),
        ("node1", 3),
        ("killed:decode-0", 1),
        ("severed:node3:node2", 1),
    ],
)
def test_a_name_means(name: str, number: int) -> None:
    assert len(faults.select(example("pd-3node"), [name])) == number


def test_several_names_mean_each_fault_once_and_in_the_usual_order() -> None:
    ones = faults.select(example("pd-3node"), ["proxy", "killed"])
    assert names(ones)[:4] == [
        ("killed", one) for one in ("prefill-0", "decode-0", "decode-1", "proxy")
    ]
    assert len(ones) == 6


def test_without_names_all_are_meant() -> None:
    made = example("pd-3node")
    assert faults.select(made, []) == list(faults.faults(made))


def test_every_wrong_name_is_told_with_those_that_are_known() -> None:
    with pytest.raises(UserError) as caught:
        faults.select(example("pd-3node"), ["kiled", "frozen:node1", "killed", ""])
    assert caught.value.exit_code == 64
    first, second, third = map(str, caught.value.findings)
    assert first.startswith("--fault kiled: 'kiled' is unknown (did you mean killed? known: ")
    assert {"isolated", "decode-0", "node3"} <= set(first.rstrip(")").replace(",", "").split())
    assert second.startswith("--fault frozen:node1: no fault matches all of these (known: ")
    assert third.startswith("--fault : '' is unknown (known: ")


def test_the_data_name_deeds_and_roles_that_are() -> None:
    roles = set()
    for name in ("pd-3node", "ray", "single", "multi-node"):
        roles |= {one.role for one in example(name).containers}
    for kind in faults.kinds():
        assert kind.action in INJECTIONS
        assert kind.target in (faults.CONTAINER, faults.NODE, faults.LINK)
        assert set(kind.roles) <= roles
        assert kind.seconds >= 0
