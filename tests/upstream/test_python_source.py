"""What is read from upstream's Python files."""

from __future__ import annotations

import ast

from hypothesis import given
from hypothesis import strategies as st

from tests.upstream.sample_sources import FACTORY, made
from upstream.dialect import python_source
from upstream.sources import Tree

ENVS = "vllm_ascend/envs.py"


def test_variables_have_a_default_values_and_a_line() -> None:
    found = python_source.variables(made().vllm_ascend, ENVS)
    assert {name: (one.default, one.values) for name, one in found.items()} == {
        "VLLM_ASCEND_ENABLE_FLASHCOMM1": ("0", (0, 1)),
        "VLLM_ASCEND_ENABLE_NZ": ("1", (0, 1, 2)),
        "VLLM_ASCEND_FLASHCOMM2_PARALLEL_SIZE": ("0", ()),
        "SOC_VERSION": (None, ()),
    }
    assert found["VLLM_ASCEND_ENABLE_NZ"].source == f"vllm-ascend v1.0.0: {ENVS}:10"


NAMES = st.from_regex(r"VLLM_[A-Z]{1,12}", fullmatch=True)
KINDS = st.sampled_from(["bool(int({}))", "int({})", "{}"])
DEFAULTS = st.one_of(st.integers(0, 9).map(str), st.text("abc '\"\\", max_size=4))


@given(st.dictionaries(NAMES, st.tuples(KINDS, DEFAULTS), max_size=6))
def test_any_table_of_variables_is_read(table: dict[str, tuple[str, str]]) -> None:
    lines = [
        f'    "{name}": lambda: {kind.format(f"os.getenv({name!r}, {default!r})")},'
        for name, (kind, default) in table.items()
    ]
    text = "\n".join(["env_variables: dict[str, Any] = {", *lines, "}"])
    found = python_source.variables(Tree("vllm-ascend", "1", {ENVS: text}), ENVS)
    assert {name: one.default for name, one in found.items()} == {
        name: default for name, (_, default) in table.items()
    }
    for number, name in enumerate(table, 2):
        assert found[name].source.endswith(f":{number}")
        assert (found[name].values == (0, 1)) == table[name][0].startswith("bool")


@given(st.text(max_size=60))
def test_a_file_that_is_no_python_says_nothing(text: str) -> None:
    tree = Tree("vllm", "1", {"vllm/envs.py": text, "vllm/engine/arg_utils.py": text})
    python_source.variables(tree, "vllm/envs.py")
    python_source.flags(tree)
    assert python_source.defaults(tree) == {}


def test_flags_of_calls_of_loops_and_of_the_frontend() -> None:
    found = python_source.flags(made().vllm)
    assert set(found) == {
        "model",
        "nnodes",
        "hf-overrides",
        "gpu-memory-utilization",
        "device-memory",
        "guided-decoding",
        "enable-log-requests",
    }
    assert found["nnodes"] == "vllm v1.0.0: vllm/engine/arg_utils.py:10"


def test_the_default_of_an_argument_is_that_of_the_configuration_it_names() -> None:
    found = python_source.defaults(made().vllm)
    assert {name: said.value for name, said in found.items()} == {
        "nnodes": 1,
        "gpu_memory_utilization": 0.9,
    }
    assert found["gpu_memory_utilization"].source == "vllm v1.0.0: vllm/config/cache.py:3"


def test_the_default_of_a_field() -> None:
    tree = made().vllm
    for path, cls, name, value in (
        ("vllm/config/cache.py", "CacheConfig", "gpu_memory_utilization", 0.9),
        ("vllm/config/kv_transfer.py", "KVTransferConfig", "kv_port", 14579),
    ):
        said = python_source.field(tree, path, cls, name)
        assert said is not None
        assert said.value == value
    assert python_source.field(tree, "vllm/config/cache.py", "CacheConfig", "other") is None
    assert python_source.field(tree, "vllm/config/none.py", "CacheConfig", "other") is None


def test_connectors_and_keys_of_additional_config() -> None:
    sources = made()
    assert list(python_source.connectors(sources.vllm, FACTORY)) == [
        "NixlConnector",
        "MultiConnector",
    ]
    path = "vllm_ascend/ascend_config.py"
    assert python_source.config_keys(sources.vllm_ascend, path) == {
        "VLLM_ASCEND_ENABLE_NZ": ("weight_nz_mode", f"vllm-ascend v1.0.0: {path}:4")
    }


def test_fields_of_a_configuration_have_a_default_and_values() -> None:
    text = """
class Config:
    enable_mlapo: bool = True
    fused: int = 0
    size: int = 4
    name: str = "x"

    def check(self, config):
        self.scheduler = config.get("enable_flash", False)
        self.fused_again = config.get("fused", 1)
        if self.fused in (0, 1):
            pass
        elif self.fused == 2:
            raise ValueError
"""
    found = python_source.config_fields(Tree("vllm-ascend", "1", {"c.py": text}), "c.py")
    assert {name: (one.default, one.values) for name, one in found.items()} == {
        "enable_mlapo": ("1", (0, 1)),
        "fused": ("0", (0, 1, 2)),
        "size": ("4", ()),
        "enable_flash": ("0", (0, 1)),
    }
    assert found["enable_mlapo"].source == "vllm-ascend v1: c.py:3"


def test_who_reads_a_variable() -> None:
    assert python_source.reads(made().vllm, ["VLLM_HIDDEN", "VLLM_NOBODY"]) == {
        "VLLM_HIDDEN": "vllm v1.0.0: vllm/v1/engine/core_client.py:1"
    }


def test_conditions_and_what_raises() -> None:
    found = python_source.conditions(
        made().vllm, "vllm/config/vllm.py", "self.scheduler_config.async_scheduling"
    )
    (branch,) = found
    assert python_source.raises(branch)
    assert not python_source.raises(ast.parse("x = 1"))
