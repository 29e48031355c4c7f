"""Each check, where it fires and where it is silent; and the reference, which must be allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from entrypoints import rules
from entrypoints.findings import ERROR, WARNING, Finding, Refused, errors
from entrypoints.inputs import arguments, data, model, settings, stack
from entrypoints.inputs.arguments import Flag
from entrypoints.launch import kv, topology
from entrypoints.launch.facts import Facts, number
from entrypoints.messages import messages
from entrypoints.plan import plan
from tests import ROOT
from tests.entrypoints.rules.conftest import Setup
from tests.entrypoints.templates import is_made_by

MESSAGES = messages("launch")
CASES = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text())
KEY = st.sampled_from(
    (
        *("prefill", "decode", "tp_size", "dp_size", "connectors", "kv_connector", "factor"),
        *("kv_connector_extra_config", "kv_connector_module_path", "enable_fused_mc2", "rope_type"),
        *("rope_parameters", "max_position_embeddings", "num_hidden_layers", "hidden_size"),
        *("num_attention_heads", "vocab_size", "num_experts", "moe_intermediate_size"),
    )
)
REFERENCE = json.loads((ROOT / "tests/cases/serve.json").read_text())


def setups(kind: str) -> list[Any]:
    return [
        pytest.param(code, setup, id=f"{code}-{i}")
        for code, both in CASES.items()
        for i, setup in enumerate(both[kind])
    ]


def found(code: str, facts: Facts) -> list[Finding]:
    return [one for one in rules.check(facts) if one.code == code]


@pytest.mark.parametrize(("code", "setup"), setups("fires"))
def test_fires(code: str, setup: Setup, facts: Callable[[Setup], Facts]) -> None:
    one = found(code, facts(setup))
    assert one, "nothing found"
    for each in one:
        assert each.message
        assert each.fix
        assert each.source
        assert each.where or each.severity == WARNING
        assert any(is_made_by(each, one) for one in MESSAGES.values() if one.code == code)


@pytest.mark.parametrize(("code", "setup"), setups("silent"))
def test_silent(code: str, setup: Setup, facts: Callable[[Setup], Facts]) -> None:
    assert found(code, facts(setup)) == []


def test_every_message_is_complete() -> None:
    for one in MESSAGES.values():
        assert all((one.text, one.fix, one.source))
        assert one.where or one.severity == WARNING


def test_every_check_has_cases() -> None:
    codes = {one.code for one in MESSAGES.values()}
    assert codes == set(CASES)
    assert all(CASES[code]["fires"] and CASES[code]["silent"] for code in codes)
    assert {one.severity for one in MESSAGES.values()} == {ERROR, WARNING}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("32k", 32000), ("32K", 32768), ("1.5k", 1500), ("7", 7), ("-1", None), ("x", None)],
)
def test_number(text: str, expected: int | None) -> None:
    assert number(text) == expected


@pytest.mark.parametrize(
    "release", [name for name in data.names("releases") if not name.startswith("cpu-")]
)
@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["name"])
def test_the_reference_is_allowed(case: dict[str, Any], release: str) -> None:
    """Its own release takes every case; another may refuse a flag or variable by name only."""
    seen: list[Finding] = []
    try:
        launch = plan({**case["inputs"], "VLLM_ASCEND_RELEASE": release})
    except Refused as error:
        refused = {p.code for p in error.findings}
    else:
        refused = set()
    if refused:
        assert release != "v0.13.0rc1"
        assert refused <= {"unknown-flag", "unknown-variable"}
        return
    place, node = launch.place, launch.context
    assert place is not None
    flags = arguments.merge({}, arguments.parse(launch.argv[3:], {}, seen))
    config = arguments.json_of(flags, "--kv-transfer-config")
    facts = Facts(
        node.release,
        node.platform,
        node.recipe,
        place,
        kv.read(config, seen) if config else None,
        launch.ports,
        flags,
        launch.env,
        model.find(node.model, flags),
        place.block.concurrency,
    )
    assert errors([*seen, *rules.check(facts)]) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.dictionaries(KEY, JSON), st.text(alphabet="0123456789.kM-", max_size=400))
@hypothesis(max_examples=300, deadline=None)
def test_strange_values_are_survived(raw: Any, config: dict[str, Any], text: str) -> None:
    """Whatever a flag's JSON holds, a rule looks away from what it does not understand."""
    findings: list[Finding] = []
    variables = settings.read({"ROLE": "prefill", "TP_SIZE": "8"}, findings)
    release = stack.release("v0.23.0.post1", findings)
    platform = stack.platform("a3", findings)
    role = topology.role_of(variables, findings)
    assert role
    place = topology.find_place(role, variables, None, platform, None, findings)
    assert release
    assert place
    numbers = ("--max-num-seqs", "--max-model-len", "--gpu-memory-utilization")
    documents = ("--kv-transfer-config", "--additional-config", "--hf-overrides")
    flags: dict[str, tuple[Flag, ...]] = {name: (Flag(name, (text,)),) for name in numbers}
    flags |= {name: (Flag(name, (json.dumps(raw),)),) for name in documents}
    extra = raw if isinstance(raw, dict) else {}
    transfer = kv.Transfer("MooncakeConnectorV1", True, 1, extra, "kv_producer", ("", "x"))
    env = {"HCCL_IF_BASE_PORT": text, "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": text}
    known = model._model(config, extra, 16, "test")
    rules.check(Facts(release, platform, None, place, transfer, {}, flags, env, known))
