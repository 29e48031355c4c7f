"""Which keys a source reads of a JSON option: each way to read one, and what is not one."""

from __future__ import annotations

import pytest

from upstream.catalogues import config_catalogue
from upstream.catalogues.config_reads import Reader
from upstream.sources import Sources, Tree

HEAD = """
import os
from vllm_ascend import envs

class Group:
    def __init__(self, config):
        self.size = config.get("size", 0)

class Table:
    _defaults = {"on": False, "every": 600}
    def __init__(self, user=None):
        if user is None:
            user = {}
        for key, value in user.items():
            if key not in self._defaults:
                raise ValueError(key)

class Spread:
    def __init__(self, fuse: bool = True, **kwargs):
        self.more = kwargs.get("more", True)

class AscendConfig:
    def __init__(self, vllm_config):
        additional_config = vllm_config.additional_config if vllm_config.additional_config else {}
        BODY

    @staticmethod
    def _value(additional_config, key, variable, default):
        return additional_config[key] if key in additional_config else default
"""


def read(body: str, **more: str) -> dict[str, dict[str, object]]:
    text = HEAD.replace("BODY", body.replace("\n", "\n        "))
    files = {"vllm_ascend/ascend_config.py": text, **more}
    ours = Tree("vllm-ascend", "1", files)
    made = config_catalogue.catalogue(Sources("v1", ours, Tree("vllm", "1", {})))
    return {
        key: {name: one for name, one in entry.items() if name != "source"}
        for key, entry in made["additional_config"].items()
    }


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ('self.a = additional_config.get("a", 1)', {"a": {"default": 1}}),
        ('self.a = bool(additional_config.get("a", False)) and x', {"a": {"default": False}}),
        ('a = additional_config["a"]', {"a": {}}),
        ('if "a" in additional_config:\n    pass', {"a": {}}),
        ('b = additional_config.get("a", {}).get("b", 2)', {"a": {}, "a.b": {"default": 2}}),
        (
            'group = additional_config.get("group", {})\nself.group = Group(group)',
            {"group": {}, "group.size": {"default": 0}},
        ),
        (
            'self.table = Table(additional_config.get("table"))',
            {
                "table": {"strict": True},
                "table.every": {"default": 600},
                "table.on": {"default": False},
            },
        ),
        (
            'Spread(**additional_config.get("spread", {}))',
            {"spread": {}, "spread.fuse": {"default": True}, "spread.more": {"default": True}},
        ),
        (
            'self.a = self._value(additional_config, "a", "VLLM_ASCEND_A", envs.VLLM_ASCEND_A)',
            {"a": {"was": "VLLM_ASCEND_A"}},
        ),
        (
            'self.h = additional_config.get("h", {"on": False})\nself.on = self.h["on"]',
            {"h": {}, "h.on": {"default": False}},
        ),
        (
            'self.count = additional_config.get("old", 1)\n'
            'self.count = additional_config.get("group", {}).get("new", 2)',
            {
                "group": {},
                "group.new": {"default": 2},
                "old": {"default": 1, "same_as": "group.new"},
            },
        ),
        (
            'def resolve(key):\n    return additional_config.get(key)\nself.a = resolve("a")',
            {"a": {}},
        ),
        ('additional_config["written"] = 1', {}),
        ('other.get("a", 1)\nvllm_config.cache_config.get("b")', {}),
        (
            'group = additional_config.get("group", {})\ngroup.get("a")\nlibrary(group)',
            {"group": {"open": True}, "group.a": {}},
        ),
    ],
)
def test_each_way_to_read_a_key(body: str, keys: dict[str, dict[str, object]]) -> None:
    assert read(body) == keys


def test_other_files_read_the_option_too() -> None:
    more = {
        "vllm_ascend/utils.py": (
            "def f(vllm_config):\n"
            '    config = getattr(vllm_config, "additional_config", None) or {}\n'
            '    return config.get("a", 1)\n'
        ),
        "vllm_ascend/passes.py": (
            "class Pass:\n"
            "    def __init__(self, config):\n"
            '        self.own: dict = config.additional_config.get("group", {})\n'
            "    def run(self):\n"
            '        return self.own.get("b", True)\n'
        ),
    }
    assert set(read("pass", **more)) == {"a", "group", "group.b"}


def test_a_typed_class_refuses_other_keys() -> None:
    files = {
        "vllm_ascend/ascend_config.py": (
            "@config\nclass Inner:\n    size: int = 2\n    _own: int = 0\n"
            "@config\nclass AscendConfig:\n    inner: Inner = field()\n    mode: str = ''\n"
            "# additional_config\n"
        )
    }
    made = config_catalogue.catalogue(
        Sources("v1", Tree("vllm-ascend", "1", files), Tree("vllm", "1", {}))
    )["additional_config"]
    assert list(made) == ["", "inner", "inner.size", "mode"]
    assert made[""] == {"strict": True}
    assert made["inner"]["strict"]


REGISTRY = """
KVConnectorFactory.register_connector(
    "MooncakeConnectorV2", "vllm_ascend.distributed.mooncake.connector", "MooncakeConnector")
"""
CONNECTOR = "from vllm_ascend.distributed.mooncake.parts import Worker, Scheduler\n"
# Excerpt of vllm-ascend v0.30.0rc2: vllm_ascend/distributed/kv_transfer/kv_p2p/mooncake/base_*.py
PARTS = """
class BaseWorker:
    def __init__(self, vllm_config):
        self.tls = self.kv_transfer_config.get_from_extra_config("tls_config", {}).get("cert")
        self.side_channel_port = (
            self.kv_transfer_config.kv_port
            + vllm_config.parallel_config.data_parallel_rank * self.tp_size * self.pp_size
        )

class BaseScheduler:
    def __init__(self, vllm_config):
        self.side_channel_port = (
            self.kv_transfer_config.kv_port + self.max_device_id
            + vllm_config.parallel_config.data_parallel_rank
        )
"""


def test_a_connector_has_its_keys_and_its_ports() -> None:
    files = {
        "vllm_ascend/distributed/__init__.py": REGISTRY,
        "vllm_ascend/distributed/mooncake/connector.py": CONNECTOR,
        "vllm_ascend/distributed/mooncake/parts.py": PARTS,
        "vllm_ascend/utils.py": (
            'def f(config):\n    return config.get_from_extra_config("prefill", {})["tp_size"]\n'
        ),
        "vllm_ascend/distributed/other.py": 'def f(c):\n    c.get_from_extra_config("other")\n',
    }
    made = config_catalogue.catalogue(
        Sources("v1", Tree("vllm-ascend", "1", files), Tree("vllm", "1", {}))
    )
    assert made["shared"] == ["prefill", "prefill.tp_size"]
    assert made["connectors"] == {
        "MooncakeConnectorV2": {
            "source": "vllm_ascend/distributed/__init__.py:2",
            "keys": ["tls_config", "tls_config.cert"],
            "ports": {
                "worker": "kv_port + dp_rank * tp_size * pp_size",
                "scheduler": "kv_port + max_device_id + dp_rank",
            },
            "schedulers_after": True,
        }
    }


def test_a_source_that_is_no_python_has_no_keys() -> None:
    assert Reader({"a.py": "additional_config ="}, "additional_config").reads.places == {}
