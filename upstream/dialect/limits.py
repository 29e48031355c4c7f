"""What a release refuses, takes for granted or has as a default: one function for one key."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from common.paths import ENV
from upstream.dialect import python
from upstream.dialect.known import ARGS, ENVS, known, trees
from upstream.model import Contradiction, Decision, Fact
from upstream.sources import Sources, Tree, vllm_version

Found = Iterator[Fact | Decision | Contradiction]

CACHE = "vllm/config/cache.py"
CONFIG = "vllm/config/vllm.py"
EXECUTOR = "vllm/v1/executor/abstract.py"
FORWARD = "vllm_ascend/ascend_forward_context.py"
OURS = "vllm_ascend/platform.py"
SERVE = "vllm/entrypoints/cli/serve.py"
TRANSFER = "vllm/config/kv_transfer.py"
UTILS = "vllm_ascend/utils.py"
# `[20000, 20000 + npu_per_node x 1000)` of vllm-ascend's documents.
RANGE = r"\[(\d{4,5}), \1 \+ npu_per_node \S (\d+)\)"
DOCUMENTS = r"docs/source/(?!locale/).*\.md"
MOONCAKE = r"ARG MOONCAKE_TAG=\"?([^\"\s]+)\"?"
P2P = r"vllm_ascend/distributed/(kv_transfer/kv_p2p/)?mooncake_connector\.py"


def vllm(sources: Sources, previous: Mapping[str, Any]) -> Found:
    _, source = vllm_version(sources.vllm_ascend)
    yield Fact("vllm", sources.vllm.version, source)


def mooncake(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """As the release's first Dockerfile that has one names it: a tag, or a wheel's version."""
    found = next(_everywhere(sources.vllm_ascend, r"Dockerfile[^/]*", MOONCAKE), None)
    if found:
        yield Fact("mooncake", found[0][1], found[1])
    else:
        question = "no Dockerfile has a MOONCAKE_TAG: which Mooncake does the release install?"
        yield Decision("mooncake", question, previous.get("mooncake"))


def adxl_ports(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """By the version of Mooncake: the ports stand in its C++ alone."""
    version = _mooncake(sources, previous)
    if version is None:
        question = "which ports does Mooncake's ascend transport take? See its adxl base port"
        yield Decision("adxl_ports", question, previous.get("adxl_ports"))
        return
    rule = _ports(version)
    yield Fact("adxl_ports.base", rule["base"], rule["source"])
    yield Fact("adxl_ports.step", rule["step"], rule["source"])
    documented = next(_everywhere(sources.vllm_ascend, DOCUMENTS, RANGE), None)
    for name, said in zip(
        ("base", "step"), documented[0].groups() if documented else (), strict=False
    ):
        if documented and int(said) != rule[name]:
            claims = ((rule[name], rule["source"]), (int(said), documented[1]))
            yield Contradiction(f"adxl_ports.{name}", claims, rule[name])
    before = _version(str(previous.get("mooncake", "")))
    if before is None or before.release[:2] != version.release[:2]:
        question = (
            f"Mooncake {version} is new here: do its ascend transport's ports still begin at"
            f" {rule['base']} and take {rule['step']} a device? They stand in its C++"
            " (mooncake-transfer-engine/src/transport/ascend_transport), in no Python package"
        )
        yield Decision("adxl_ports", question, {"base": rule["base"], "step": rule["step"]})


def kv_port(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """vLLM's own default; where Mooncake takes 1,000 ports a device, beyond those of an A3 node."""
    default = python.field(trees(sources)["vllm"], TRANSFER, "KVTransferConfig", "kv_port")
    if default is None:
        question = f"{TRANSFER} has no default of kv_port: which port is the first?"
        yield Decision("kv_port", question, previous.get("kv_port"))
        return
    version = _mooncake(sources, previous)
    rule = _ports(version) if version else None
    if rule and rule["step"] >= 1000:
        devices = yaml.safe_load((ENV / "platforms" / "a3.yaml").read_text("utf-8"))["devices"]
        yield Fact("kv_port", rule["base"] + rule["step"] * devices, rule["source"])
    else:
        yield Fact("kv_port", default.value, default.source)


def gpu_memory_utilization(sources: Sources, previous: Mapping[str, Any]) -> Found:
    name = "gpu_memory_utilization"
    default = python.field(trees(sources)["vllm"], CACHE, "CacheConfig", name)
    if default:
        yield Fact(name, default.value, default.source)
    else:
        yield Decision(name, f"{CACHE} has no default of it: what is it?", previous.get(name))


def headless_api_servers(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """A headless node refuses --api-server-count above 1; later releases refuse any."""
    key, tree = "headless_api_servers.most", trees(sources)["vllm"]
    none = next(tree.find(SERVE, r"if args\.api_server_count is not None and .* > 0:"), None)
    one = next(tree.find(SERVE, r"if args\.api_server_count > 1:\n\s+raise .*headless"), None)
    if none:
        yield Fact(key, 0, none[1])
    elif one:
        yield Fact(key, 1, one[1])
    else:
        question = f"{SERVE} compares no api_server_count: how many may a headless node have?"
        yield Decision(key, question, _at(previous, key))


def async_scheduling_refused(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """What the branch for an explicit --async-scheduling raises on."""
    key, tree = "async_scheduling_refused", trees(sources)["vllm"]
    for path, test in (
        (CONFIG, "self.scheduler_config.async_scheduling"),
        (ARGS, "self.async_scheduling"),
    ):
        for branch in python.conditions(tree, path, test):
            if any(map(python.raises, branch.body)):
                yield from _refusals(tree, path, branch)
                return
    question = "no file of vLLM refuses --async-scheduling as before: where is it refused?"
    yield Decision(key, question, previous.get(key))


def _refusals(tree: Tree, path: str, branch: ast.If) -> Found:
    inner = [one for node in branch.body for one in ast.walk(node) if isinstance(one, ast.If)]
    tests = [ast.unparse(one.test) for one in inner if any(map(python.raises, one.body))]
    source = tree.cite(path, branch.lineno)
    executors: list[str] = []
    if any("executor_supports" in test for test in tests):
        named = re.search(
            r"executor_supports_async_sched = executor_backend in \(([^)]*)\)", tree.files[path]
        )
        refused, more = ("ray" not in named[1], "") if named else _ray(tree)
        executors = ["ray"] if refused else []
        source += more
    yield Fact("async_scheduling_refused.executors", executors, source)
    pipeline = any("pipeline_parallel_size > 1" in test for test in tests)
    yield Fact("async_scheduling_refused.pipeline", pipeline, source)


def _ray(tree: Tree) -> tuple[bool, str]:
    """Whether Ray's executor, as it is by default, refuses; and where it says otherwise."""
    switch = python.variables(tree, ENVS["vllm"]).get("VLLM_USE_RAY_V2_EXECUTOR_BACKEND")
    path = "vllm/v1/executor/ray_executor.py"
    if switch and switch.default == "1":
        path = "vllm/v1/executor/ray_executor_v2.py"
    own = next(tree.find(path, r"def supports_async_scheduling"), None)
    heir = next(tree.find(path, r"^class \w+\(MultiprocExecutor\):"), None)
    place = own or heir
    return place is None, f", {place[1].partition(': ')[2]}" if place else ""


def kv_blocks_checked(sources: Sources, previous: Mapping[str, Any]) -> Found:
    place = next(sources.vllm_ascend.find(UTILS, r"def check_kv_extra_config\b"), None)
    yield _whether("kv_blocks_checked.by_release", sources, place, UTILS)


def prefill_over_nodes(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """PR #5961: a decode node knows the host of each prefill rank that is to free its blocks."""
    pattern = r"remote_port_send_num\[.*(\['host'\]|\"host\")"
    place = next(_everywhere(sources.vllm_ascend, P2P, pattern), None)
    path = next(sources.vllm_ascend.matching(P2P), "vllm_ascend/distributed")
    yield _whether("prefill_over_nodes.works", sources, place, path)


def flashcomm1_asserted(sources: Sources, previous: Mapping[str, Any]) -> Found:
    pattern = r"assert .*tensor_parallel_size > 1,[ \\(]*\n\s*\"Flash Comm v1"
    found = (next(sources.vllm_ascend.find(path, pattern), None) for path in (OURS, UTILS))
    place = next(filter(None, found), None)
    yield _whether("flashcomm1_asserted.by_release", sources, place, UTILS)


def fused_mc2_largest_ep(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """The value 1 of fused_mc2 has an effect up to this size; without FUSED_MC2 nothing is said."""
    tree = sources.vllm_ascend
    if not next(tree.find(FORWARD, r"\bFUSED_MC2 ="), None):
        return
    key = "fused_mc2_largest_ep"
    size = next(tree.find(FORWARD, r"get_ep_group\(\s*\)\.world_size <= (\d+)"), None)
    if size is None:
        yield Decision(key, f"{FORWARD} bounds no size for FUSED_MC2: is there one elsewhere?")
        return
    yield Fact(f"{key}.value", 1, size[1])
    yield Fact(f"{key}.size", int(size[0][1]), size[1])


def dense_external_dp(sources: Sources, previous: Mapping[str, Any]) -> Found:
    tree = trees(sources)["vllm"]
    place = None
    for node in ast.walk(python.parsed(tree.files.get(ARGS, ""))):
        if isinstance(node, ast.If) and any(map(python.raises, node.body)):
            test = ast.unparse(node.test)
            if "data_parallel_external_lb" in test and "not model_config.is_moe" in test:
                place = tree.cite(ARGS, node.lineno)
    yield Fact("dense_external_dp.refused", place is not None, place or tree.cite(ARGS))


def kv_engine_id_suffixed(sources: Sources, previous: Mapping[str, Any]) -> Found:
    pattern = r"kv_transfer_config\.engine_id = f\".*engine_id\}-\{uuid4"
    place = next(sources.vllm_ascend.find(OURS, pattern), None)
    yield _whether("kv_engine_id_suffixed.by_release", sources, place, OURS)


def _whether(key: str, sources: Sources, place: tuple[Any, str] | None, path: str) -> Fact:
    return Fact(key, place is not None, place[1] if place else sources.vllm_ascend.cite(path))


def _everywhere(tree: Tree, paths: str, pattern: str) -> Iterator[tuple[re.Match[str], str]]:
    for path in tree.matching(paths):
        yield from tree.find(path, pattern)


def _mooncake(sources: Sources, previous: Mapping[str, Any]) -> Version | None:
    for found in mooncake(sources, previous):
        return _version(str(found.value if isinstance(found, Fact) else found.taken))
    return None


def _version(text: str) -> Version | None:
    try:
        return Version(text.removeprefix("v"))
    except InvalidVersion:
        return None


def _ports(version: Version) -> Mapping[str, Any]:
    rules: list[Mapping[str, Any]] = known()["adxl_ports"]
    return next(rule for rule in rules if version >= Version(rule["from"]))


def _at(document: Mapping[str, Any], key: str) -> Any:
    value: Any = document
    for part in key.split("."):
        value = value.get(part, {}) if isinstance(value, Mapping) else {}
    return None if value == {} else value
