"""What is derived of a release, and what is left to a person."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import EX_DATAERR, UserError
from tests.upstream.sample_sources import ASCEND, FACTORY, NAME, VLLM, made, without
from upstream.dialect import derive
from upstream.facts import Derived
from upstream.sources import Sources, Tree


def values(derived: Derived) -> dict[str, Any]:
    return {fact.key: fact.value for fact in derived.facts}


def asked(derived: Derived) -> dict[str, Any]:
    return {one.key: one.taken for one in derived.decisions}


def test_every_key_of_a_release_is_derived() -> None:
    found = values(derive(made(), {"mooncake": "v0.3.9"}))
    wanted = {
        "vllm": "1.0.0",
        "mooncake": "v0.3.9",
        "kv_port": 14579,
        "adxl_ports.base": 20000,
        "adxl_ports.step": 100,
        "features.yarn.arg": "hf-overrides.rope_parameters",
        "features.flashcomm1.env": "VLLM_ASCEND_ENABLE_FLASHCOMM1",
        "features.flashcomm1.values": [0, 1],
        "features.flashcomm1.default": 0,
        "features.weight_nz.arg": "additional-config.weight_nz_mode",
        "features.weight_nz.was": "VLLM_ASCEND_ENABLE_NZ",
        "features.weight_nz.values": [0, 1, 2],
        "features.nnodes.arg": "nnodes",
        "features.external_lb.missing": "vLLM 1.0.0 has no --data-parallel-external-lb",
        "features.engine_ready_timeout.env": "VLLM_ENGINE_READY_TIMEOUT_S",
        "features.engine_ready_timeout.default": 600,
        "connectors.vllm.names": ["NixlConnector", "MultiConnector"],
        "connectors.vllm-ascend.names": ["MooncakeConnectorV1"],
        "headless_api_servers.most": 0,
        "async_scheduling_refused.executors": ["ray"],
        "async_scheduling_refused.pipeline": True,
        "kv_blocks_checked.by_release": True,
        "prefill_over_nodes.works": True,
        "flashcomm1_asserted.by_release": True,
        "fused_mc2_largest_ep.value": 1,
        "fused_mc2_largest_ep.size": 32,
        "dense_external_dp.refused": True,
        "kv_engine_id_suffixed.by_release": False,
        "gpu_memory_utilization": 0.9,
    }
    assert {key: found.get(key) for key in wanted} == wanted


def test_every_fact_of_upstream_says_where_it_stands() -> None:
    for fact in derive(made(), {"mooncake": "v0.3.9"}).facts:
        package, _, place = fact.source.partition(" v1.0.0: ")
        if package in ("vllm", "vllm-ascend"):
            path, _, line = place.partition(":")
            files = VLLM if package == "vllm" else ASCEND
            assert path in files, fact
            assert not line or 0 < int(line) <= files[path].count("\n"), fact


@pytest.mark.parametrize(
    ("path", "of", "key"),
    [
        ("vllm/config/kv_transfer.py", "vllm", "kv_port"),
        ("vllm/config/cache.py", "vllm", "gpu_memory_utilization"),
        ("vllm/entrypoints/cli/serve.py", "vllm", "headless_api_servers.most"),
        ("vllm/config/vllm.py", "vllm", "async_scheduling_refused"),
    ],
)
def test_what_is_not_found_is_asked_and_stays_as_it_was(path: str, of: str, key: str) -> None:
    kind, _, leaf = key.partition(".")
    previous = {"mooncake": "v0.3.9", kind: {leaf: 7} if leaf else 7}
    derived = derive(without(path, of=of), previous)
    assert key not in values(derived)
    assert asked(derived)[key] == 7


def test_a_release_before_each_of_them() -> None:
    old = {
        "vllm_ascend/utils.py": "",
        "vllm_ascend/platform.py": "",
        "vllm_ascend/ascend_forward_context.py": "",
        "vllm_ascend/distributed/kv_transfer/kv_p2p/mooncake_connector.py": "",
        "Dockerfile": "ARG VLLM_TAG=v1.0.0\nARG MOONCAKE_TAG=v0.3.7.post2\n",
    }
    derived = derive(made({"vllm/engine/arg_utils.py": ""}, old), {"mooncake": "v0.3.7.post2"})
    found = values(derived)
    assert found["adxl_ports.step"] == 1000
    assert found["kv_port"] == 36000  # beyond 16 devices
    for key in (
        "kv_blocks_checked.by_release",
        "prefill_over_nodes.works",
        "flashcomm1_asserted.by_release",
        "dense_external_dp.refused",
    ):
        assert found[key] is False, key
    assert not [key for key in found if key.startswith("fused_mc2_largest_ep")]


def test_ports_of_mooncake_are_asked_when_it_is_new_and_documents_may_differ() -> None:
    derived = derive(made(), {"mooncake": "v0.2.0"})
    assert asked(derived)["adxl_ports"] == {"base": 20000, "step": 100}
    (said,) = derived.contradictions
    assert (said.key, said.taken) == ("adxl_ports.step", 100)
    assert [value for value, _ in said.claims] == [100, 1000]  # what holds comes first
    assert said.claims[1][1] == "vllm-ascend v1.0.0: docs/source/guide.md:1"
    assert "adxl_ports" not in asked(derive(made(), {"mooncake": "v0.3.9"}))


def test_a_feature_that_went_is_asked_for_once() -> None:
    previous = {"features": {"mlapo": {"env": "VLLM_ASCEND_ENABLE_MLAPO"}}}
    derived = derive(made(), previous)
    said = "vllm-ascend v1.0.0 has no VLLM_ASCEND_ENABLE_MLAPO"
    assert asked(derived)["features.mlapo"] == said
    assert values(derived)["features.mlapo.missing"] == said
    again = derive(made(), {"features": {"mlapo": {"missing": "another one covers it"}}})
    assert values(again)["features.mlapo.missing"] == "another one covers it"
    assert "features.mlapo" not in asked(again)


def test_a_feature_of_the_previous_release_alone_is_looked_for_by_its_names() -> None:
    previous = {
        "features": {
            "new_one": {"env": "SOC_VERSION"},
            "binding": {"arg": "hf-overrides.enable_cpu_binding"},
        }
    }
    found = values(derive(made(), previous))
    assert found["features.new_one.env"] == "SOC_VERSION"
    assert found["features.binding.arg"] == "hf-overrides.enable_cpu_binding"


def test_a_key_that_outlives_its_variable_and_one_inside_another() -> None:
    previous = {
        "features": {
            "weight_nz": {
                "arg": "hf-overrides.weight_nz_mode",
                "was": "VLLM_ASCEND_ENABLE_NZ",
                "values": [0, 1, 2],
                "default": 1,
            }
        }
    }
    envs = ASCEND["vllm_ascend/envs.py"].replace("ENABLE_NZ", "ENABLE_ND")
    derived = derive(made(None, {"vllm_ascend/envs.py": envs}), previous)
    assert values(derived)["features.weight_nz.arg"] == "hf-overrides.weight_nz_mode"
    assert "features.weight_nz.was" not in values(derived)
    assert asked(derived)["features.weight_nz.values"] == [0, 1, 2]
    assert asked(derived)["features.weight_nz.default"] == 1
    config = ASCEND["vllm_ascend/ascend_config.py"].replace(
        "additional_config, ", "scheduler_config, additional_config, "
    )
    found = values(derive(made(None, {"vllm_ascend/ascend_config.py": config}), {}))
    nested = "additional-config.scheduler_config.weight_nz_mode"
    assert found["features.weight_nz.arg"] == nested


def test_the_configuration_says_what_its_variable_said() -> None:
    """The variable is gone, its feature is a key of additional_config: no one has to be asked."""
    previous = {
        "features": {
            "weight_nz": {
                "arg": "hf-overrides.weight_nz_mode",
                "was": "VLLM_ASCEND_ENABLE_ND",
                "values": [0, 1],
                "default": 0,
            },
            "mlapo": {"env": "VLLM_ASCEND_ENABLE_MLAPO"},
        }
    }
    envs = ASCEND["vllm_ascend/envs.py"].replace("ENABLE_NZ", "ENABLE_NOTHING")
    config = (
        "class Config:\n    weight_nz_mode: int = 1\n\n    def check(self):\n"
        "        assert self.weight_nz_mode in (0, 1, 2)\n"
    )
    files = {"vllm_ascend/envs.py": envs, "vllm_ascend/ascend_config.py": config}
    derived = derive(made(None, files), previous)
    found = values(derived)
    assert found["features.weight_nz.values"] == [0, 1, 2]
    assert found["features.weight_nz.default"] == 1
    assert found["variables_gone.VLLM_ASCEND_ENABLE_ND.fix"] == "write the feature weight_nz"
    gone = found["variables_gone.VLLM_ASCEND_ENABLE_MLAPO.fix"]
    assert gone == "remove it: the feature mlapo is gone"
    assert "features.mlapo" in asked(derived)
    assert not [key for key in asked(derived) if key.startswith(("features.weight", "variables"))]


def test_ray_refuses_where_its_executor_does_not_say_otherwise() -> None:
    config = VLLM["vllm/config/vllm.py"].replace(
        'executor_backend in ("mp", "uni")', "executor_class.supports_async_scheduling()"
    )
    executor = "vllm/v1/executor/ray_executor_v2.py"
    switch = '"VLLM_USE_RAY_V2_EXECUTOR_BACKEND": lambda: os.getenv("X", "1"),\n}'
    files = {"vllm/config/vllm.py": config}
    assert values(derive(made(files), {}))["async_scheduling_refused.executors"] == ["ray"]
    files |= {
        "vllm/envs.py": VLLM["vllm/envs.py"].rstrip().removesuffix("}") + switch,
        executor: "class RayExecutorV2(MultiprocExecutor):\n    pass\n",
    }
    derived = derive(made(files), {})
    assert values(derived)["async_scheduling_refused.executors"] == []
    (source,) = {f.source for f in derived.facts if f.key.startswith("async_scheduling")}
    assert source == f"vllm v1.0.0: vllm/config/vllm.py:5, {executor}:1"


# ---- names that are gone -------------------------------------------------------------------------

PREVIOUS = {
    "connectors": {"vllm": {"names": ["NixlConnector", "OldConnector"]}},
    "connectors_gone": {"OlderConnector": {"instead": "NixlConnector", "source": "vllm v0.9: x"}},
    "flags_gone": {
        "rope-scaling": {"instead": "--hf-overrides"},
        "model": {"instead": "it came back"},
    },
    "variables_gone": {
        "VLLM_ASCEND_OLD": {"since": "v0.9.0", "fix": "remove it"},
        "VLLM_PORT": {"since": "v0.9.0", "fix": "it came back"},
        "VLLM_HIDDEN": {"since": "v0.9.0", "fix": "some file reads it"},
    },
}


def test_what_is_gone_keeps_its_words_and_what_goes_now_is_asked() -> None:
    names = {"VLLM_ASCEND_LATEST": "v0.9.0", "VLLM_ASCEND_LONG_GONE": "v0.8.0"}
    derived = derive(made(), PREVIOUS, names)
    found, questions = values(derived), asked(derived)
    assert found["connectors_gone.OlderConnector.instead"] == "NixlConnector"
    assert found["connectors_gone.OldConnector.gone"]
    assert questions["connectors_gone.OldConnector.instead"] is None
    assert found["flags_gone.rope-scaling.instead"] == "--hf-overrides"
    assert found["variables_gone.VLLM_ASCEND_OLD.since"] == "v0.9.0"
    assert found["variables_gone.VLLM_ASCEND_LATEST.since"] == NAME
    assert questions["variables_gone.VLLM_ASCEND_LATEST.fix"] == "remove it"
    assert "variables_gone.VLLM_ASCEND_LONG_GONE.fix" not in questions
    there = ("flags_gone.model", "variables_gone.VLLM_PORT", "variables_gone.VLLM_HIDDEN")
    assert not [key for key in found if key.startswith(there)]


def test_the_connector_in_place_of_one_that_is_gone_must_be_registered() -> None:
    files = {FACTORY: VLLM[FACTORY].replace("Nixl", "Pixl")}
    derived = derive(made(files), PREVIOUS)
    assert asked(derived)["connectors_gone.OlderConnector.instead"] == "NixlConnector"


def test_names_that_moved_are_not_taken_for_gone() -> None:
    derived = derive(without(FACTORY), PREVIOUS)
    assert asked(derived)["connectors.vllm.names"] == ["NixlConnector", "OldConnector"]
    assert "connectors_gone.OldConnector.gone" not in values(derived)
    with pytest.raises(UserError) as caught:
        derive(made({"vllm/envs.py": ""}, {"vllm_ascend/envs.py": "x = 1"}), {})
    assert caught.value.exit_code == EX_DATAERR
    assert [one.where for one in caught.value.findings] == [
        "vllm v1.0.0: vllm/envs.py",
        "vllm-ascend v1.0.0: vllm_ascend/envs.py",
    ]


def test_a_vllm_without_vllm_ascend() -> None:
    alone = Sources("cpu-1.0.0", Tree("vllm-ascend", "", {}), made().vllm)
    found = values(derive(alone, {}))
    assert found["features.flashcomm1.missing"] == "only vllm-ascend has it"
    assert found["features.nnodes.arg"] == "nnodes"
    assert "mooncake" not in found
    assert "kv_blocks_checked.by_release" not in found
    assert "connectors.vllm-ascend.names" not in found
