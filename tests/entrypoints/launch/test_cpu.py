"""Platform cpu: a vLLM alone, on a machine without NPUs."""

from __future__ import annotations

from typing import Any

import pytest

from entrypoints import preflight
from entrypoints.findings import Refused
from entrypoints.inputs import stack
from entrypoints.launch.model import Launch
from entrypoints.plan import plan
from entrypoints.preflight import doctor

IMAGE = {"ASCEND_PLATFORM": "cpu", "VLLM_ASCEND_RELEASE": "cpu-0.32.0", "MODEL": "/weights/m"}
LEADER = {**IMAGE, "ROLE": "leader", "LOCAL_IP": "10.0.0.1", "NIC": "eth0"}
PREFILL = {**LEADER, "ROLE": "prefill"}
NIXL = '{"kv_connector":"NixlConnector","kv_role":"kv_producer"}'


def made(environ: dict[str, Any], *tokens: str) -> Launch:
    return plan({**IMAGE, "ROLE": "single", **environ}, tokens)


def codes(launch: Launch) -> list[str]:
    return [warning.code for warning in launch.warnings]


def test_no_size_is_refused_for_lack_of_npus() -> None:
    launch = made({"TP_SIZE": "64"})
    assert launch.argv[-2:] == ("--tensor-parallel-size", "64")
    with pytest.raises(Refused, match="need 64 devices"):
        made({"TP_SIZE": "64", "ASCEND_PLATFORM": "a3"})


def test_no_check_asks_for_an_npu() -> None:
    launch = plan({**LEADER, "DP_SIZE": "2", "NODES": "2"}, [])
    needs = preflight.needs(launch, launch.environment({}))
    assert needs.devices == 0
    found = {one.code: one for one in preflight.run(needs)}
    for check in preflight.CHECKS:
        if check.npu:
            assert found[check.code].severity == "skipped"
            assert found[check.code].message == "this role uses no NPU"


def test_the_doctor_of_such_a_host() -> None:
    found = {one.code: one for one in doctor.run("cpu", "cpu-0.32.0", {}).findings}
    assert found["devices"].severity == "skipped"
    assert {one.message for one in found.values() if one.code.startswith("driver")} == {
        "this role uses no NPU"
    }


def test_flags_are_those_of_the_vllm_inside() -> None:
    newer = ("--shutdown-timeout", "30")
    assert made({}, *newer).argv[-2:] == newer
    with pytest.raises(Refused, match=r"vLLM 0\.13\.0 .* does not know this flag"):
        made({"VLLM_ASCEND_RELEASE": "v0.13.0rc1"}, *newer)
    with pytest.raises(Refused, match="unknown-variable"):
        made({"VLLM_ASCEND_ENABLE_NZ": "1"})


def test_a_choice_that_may_be_none() -> None:
    """vLLM 0.32 has None among the choices, which an empty value is."""
    for value in ("", "None", "a2a"):
        assert made({}, "--dcp-comm-backend", value).argv[-1] == value
    with pytest.raises(Refused, match="bad-choice"):
        made({}, "--dcp-comm-backend", "none")


def test_a_drain_is_given_to_vllm_itself() -> None:
    launch = made({"DRAIN_TIMEOUT": "30"})
    assert launch.argv[-2:] == ("--shutdown-timeout", "30")
    assert "no-drain" not in codes(launch)


def test_the_ports_of_hccl_and_mooncake_are_free() -> None:
    environ, tokens = {**PREFILL, "PORT": "60001"}, ["--kv-transfer-config", NIXL]
    launch = plan(environ, tokens)
    assert "port-reserved" not in codes(launch)
    assert "adxl" not in launch.ports
    assert "port-reserved" in codes(plan({**environ, "ASCEND_PLATFORM": "a3"}, tokens))


def test_a_connector_of_vllm_ascend_is_unknown() -> None:
    mooncake = NIXL.replace("NixlConnector", "MooncakeConnectorV1")
    with pytest.raises(Refused, match="NixlConnector"):
        plan(PREFILL, ["--kv-transfer-config", mooncake])


def test_ray_waits_for_no_npus() -> None:
    environ = {**LEADER, "ROLE": "ray-head", "NODES": "2"}
    assert plan(environ, []).npus == 0
    assert plan({**environ, "ASCEND_PLATFORM": "a3"}, []).npus == 32


def test_what_only_vllm_ascend_has_is_missing() -> None:
    alone = stack.release("cpu-0.32.0", [])
    ascend = stack.release("v0.23.0.post1", [])
    assert alone
    assert ascend
    missing = {name for name, form in alone.features.items() if form.missing}
    assert {"flashcomm1", "weight_prefetch", "cpu_binding"} <= missing
    assert not {"nnodes", "external_lb", "async_scheduling", "shutdown_timeout"} & missing
