"""Which nodes of a cluster file its dry run asks about."""

from __future__ import annotations

from clusters import dryrun
from tests.clusters.hand_made_clusters import container, node


def test_equal_nodes_are_asked_once() -> None:
    """Addresses, ports and places do not tell nodes apart."""
    one = node("n1")
    env = {"ROLE": "decode", "RECIPE": "r", "TP_SIZE": "4"}
    some = [
        container(one, f"decode-{rank}", env={**env, "LOCAL_IP": f"10.0.0.{rank}", "KV_PORT": "1"})
        for rank in range(1000)
    ]
    wide = container(one, "wide", env={**env, "TP_SIZE": "8"})
    with_flag = container(one, "flag", env=env, arguments=("--seed", "1"))
    found = dryrun.distinct([*some, wide, with_flag])
    assert list(found) == ["decode-0 and 999 equal", "wide", "flag"]


def test_a_command_of_its_own_is_not_asked() -> None:
    assert not dryrun.distinct([container(node("n1"), command=("sleep", "1"))])
