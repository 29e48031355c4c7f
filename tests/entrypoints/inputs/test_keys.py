"""What is advised about a key that a release does not read, and the ports of a connector."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entrypoints.inputs import data, keys
from entrypoints.plan import plan
from tests.entrypoints import known_facts

NEWEST = "v0.23.0.post1"


@pytest.mark.parametrize(
    ("key", "fix", "others"),
    [
        ("enable_flashcom1", "did you mean enable_flashcomm1?", ()),
        ("fuse_muls_add", "write ascend_compilation_config.fuse_muls_add", ()),
        ("dynamic_eplb", "write eplb_config.dynamic_eplb", ("v0.11.0", "v0.13.0")),
        ("init_redundancy_expert", "write eplb_config.num_redundant_experts", ("v0.13.0",)),
        ("ascend_scheduler_config", "remove it: vLLM's scheduler", ("v0.11.0",)),
        ("enable_sparse_c8", "write enable_sparse_sfa_c8", ("v0.18.0",)),
        ("eplb_config.dynamic_epl", "did you mean eplb_config.dynamic_eplb?", ()),
        ("no_such_key", f"remove it; env/keys/{NEWEST}.json has the keys", ()),
    ],
)
def test_advice(key: str, fix: str, others: tuple[str, ...]) -> None:
    found = keys.advice(key, known_facts.release(NEWEST))
    assert found.fix.startswith(fix)
    assert set(others) <= set(found.others)


@pytest.mark.parametrize("name", keys.names())
def test_a_replacement_of_a_removed_key_is_read(name: str) -> None:
    """keys_gone.yaml is for keys that no group has under their own name."""
    gone = data.read(data.path_of("keys_gone.yaml"))["keys"]
    here = keys.load(name)["additional_config"]
    assert all(entry["source"] for entry in gone.values())
    assert not [key for key in gone if key not in here and keys.moved_to(key, here)]


def test_schedulers_listen_after_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """MooncakeConnectorV2 of v0.28.1rc1 and later: kv_port + dp·pp·pcp·tp + dp_rank."""
    load = keys.load

    def with_v2(name: str) -> Any:
        connector = {"source": "", "keys": [], "schedulers_after": True}
        return {**load(name), "connectors": {"MooncakeConnectorV1": connector}}

    monkeypatch.setattr(keys, "load", with_v2)
    transfer = {"kv_connector": "MooncakeConnectorV1", "kv_role": "kv_producer", "kv_port": "30000"}
    launch = plan(
        {
            **{"ROLE": "prefill", "MODEL": "m", "TP_SIZE": "4", "DP_SIZE": "4", "NODES": "2"},
            **{"LOCAL_IP": "10.0.0.2", "NIC": "eth0", "ASCEND_PLATFORM": "a3"},
        },
        ["--kv-transfer-config", json.dumps(transfer)],
    )
    assert launch.ports["kv"] == [30000, 30007]
    assert launch.ports["kv_schedulers"] == [30016, 30017]
