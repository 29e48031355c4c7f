"""What upstream's own test configurations set and their release does not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from entrypoints.plan import draft

LINES = yaml.safe_load(Path(__file__).with_name("dead_lines.yaml").read_text())
NODE = {
    "VLLM_ASCEND_RELEASE": "v0.23.0.post1",
    "ASCEND_PLATFORM": "a3",
    "MODEL": "m",
    "LOCAL_IP": "10.0.0.1",
    "NIC": "eth0",
}
CODES = (
    *("config-key-unread", "config-key-refused", "kv-key-unread"),
    *("unread-variable", "variable-gone", "unknown-variable"),
)


def dead(environ: dict[str, str], *tokens: str) -> list[str]:
    """What the findings of a plan are about; each says what to do."""
    launch, errors = draft({"ROLE": "single", **NODE, **environ}, tokens)
    found = [*(launch.warnings if launch else ()), *errors]
    found = [one for one in found if one.code in CODES]
    assert all(one.fix for one in found)
    return [one.where.rpartition("-config.")[2] or one.message.split()[0] for one in found]


@pytest.mark.parametrize("case", LINES["configs"], ids=lambda case: Path(case["file"]).stem)
def test_keys_of_additional_config(case: dict[str, Any]) -> None:
    found = dead({}, "--additional-config", json.dumps(case["config"]))
    assert sorted(found) == sorted(case["dead"])


@pytest.mark.parametrize("name", LINES["variables"]["read"])
def test_variables_that_are_read(name: str) -> None:
    assert dead({name: "1"}) == []


@pytest.mark.parametrize("name", LINES["variables"]["dead"])
def test_variables_that_are_not_read(name: str) -> None:
    assert dead({name: "1"}) == [name]


def test_keys_of_a_connector() -> None:
    case = LINES["extra_config"]
    transfer = {
        "kv_connector": "MooncakeConnectorV1",
        "kv_role": "kv_producer",
        "kv_port": "30000",
        "kv_connector_extra_config": case["config"],
    }
    environ = {"ROLE": "prefill", "TP_SIZE": "8", "DP_SIZE": "2"}
    found = dead(environ, "--kv-transfer-config", json.dumps(transfer))
    assert [one.rpartition(".")[2] for one in found] == case["dead"]
