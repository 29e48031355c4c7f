"""What a release refuses, asserts, or has as default: one function for each key."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from common.paths import ENV
from common.yaml import document
from upstream import shipped
from upstream.dialect import python_source
from upstream.dialect.upstream_names import ARGS, ENVS, package_trees, upstream_names
from upstream.facts import Contradiction, Decision, Fact, join_citations
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
    """The tag or version in the first Dockerfile that has one."""
    found = next(_find_all(sources.vllm_ascend, r"Dockerfile[^/]*", MOONCAKE), None)
    if found:
        yield Fact("mooncake", found[0][1], found[1])
    else:
        question = "no Dockerfile has a MOONCAKE_TAG: which Mooncake does the release install?"
        yield Decision("mooncake", question, previous.get("mooncake"))


def adxl_ports(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """By the version of Mooncake, since only its C++ code has the ports."""
    version = _mooncake(sources, previous)
    if version is None:
        question = "which ports does Mooncake's ascend transport use? See its adxl base port"
        yield Decision("adxl_ports", question, previous.get("adxl_ports"))
        return
    rule = _ports(version)
    yield Fact("adxl_ports.base", rule["base"], rule["source"])
    yield Fact("adxl_ports.step", rule["step"], rule["source"])
    documented = next(_find_all(sources.vllm_ascend, DOCUMENTS, RANGE), None)
    for name, text in zip(
        ("base", "step"), documented[0].groups() if documented else (), strict=False
    ):
        if documented and int(text) != rule[name]:
            claims = ((rule[name], rule["source"]), (int(text), documented[1]))
            yield Contradiction(f"adxl_ports.{name}", claims, rule[name])
    before = _version(str(previous.get("mooncake", "")))
    if before is None or before.release[:2] != version.release[:2]:
        question = (
            f"Mooncake {version} is new: do the ports of its ascend transport still start at"
            f" {rule['base']}, with {rule['step']} for each device? Only its C++ code has them"
            " (mooncake-transfer-engine/src/transport/ascend_transport)"
        )
        yield Decision("adxl_ports", question, {"base": rule["base"], "step": rule["step"]})


def kv_port(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """vLLM's default, or above an A3 node's ports if Mooncake uses 1,000 for each device."""
    default = python_source.field(
        package_trees(sources)["vllm"], TRANSFER, "KVTransferConfig", "kv_port"
    )
    if default is None:
        question = f"{TRANSFER} has no default kv_port: which is the first port?"
        yield Decision("kv_port", question, previous.get("kv_port"))
        return
    version = _mooncake(sources, previous)
    rule = _ports(version) if version else None
    if rule and rule["step"] >= 1000:
        devices = document(ENV / "platforms" / "a3.yaml")["devices"]
        yield Fact("kv_port", rule["base"] + rule["step"] * devices, rule["source"])
    else:
        yield Fact("kv_port", default.value, default.source)


def gpu_memory_utilization(sources: Sources, previous: Mapping[str, Any]) -> Found:
    name = "gpu_memory_utilization"
    default = python_source.field(package_trees(sources)["vllm"], CACHE, "CacheConfig", name)
    if default:
        yield Fact(name, default.value, default.source)
    else:
        yield Decision(name, f"{CACHE} has no default: what is it?", previous.get(name))


def headless_api_servers(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Early releases refuse --api-server-count above 1 on a headless node, later ones any."""
    key, tree = "headless_api_servers.most", package_trees(sources)["vllm"]
    none = tree.locate(SERVE, r"if args\.api_server_count is not None and .* > 0:")
    one = tree.locate(SERVE, r"if args\.api_server_count > 1:\n\s+raise .*headless")
    if none:
        yield Fact(key, 0, none)
    elif one:
        yield Fact(key, 1, one)
    else:
        question = f"{SERVE} does not check api_server_count: how many may a headless node have?"
        yield Decision(key, question, _lookup(previous, key))


def async_scheduling_refused(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """The conditions under which an explicit --async-scheduling raises."""
    key, tree = "async_scheduling_refused", package_trees(sources)["vllm"]
    for path, test in (
        (CONFIG, "self.scheduler_config.async_scheduling"),
        (ARGS, "self.async_scheduling"),
    ):
        for branch in python_source.conditions(tree, path, test):
            if any(map(python_source.raises, branch.body)):
                yield from _refusals(tree, path, branch)
                return
    question = "vLLM no longer refuses --async-scheduling in the known files: where does it?"
    yield Decision(key, question, previous.get(key))


def _refusals(tree: Tree, path: str, branch: ast.If) -> Found:
    inner = [one for node in branch.body for one in ast.walk(node) if isinstance(one, ast.If)]
    tests = [ast.unparse(one.test) for one in inner if any(map(python_source.raises, one.body))]
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
    """Whether the default Ray executor refuses; and the citation if it does not."""
    switch = python_source.variables(tree, ENVS["vllm"]).get("VLLM_USE_RAY_V2_EXECUTOR_BACKEND")
    path = "vllm/v1/executor/ray_executor.py"
    if switch and switch.default == "1":
        path = "vllm/v1/executor/ray_executor_v2.py"
    own = tree.locate(path, r"def supports_async_scheduling")
    heir = tree.locate(path, r"^class \w+\(MultiprocExecutor\):")
    place = own or heir
    return place is None, f", {place.partition(': ')[2]}" if place else ""


def kv_blocks_checked(sources: Sources, previous: Mapping[str, Any]) -> Found:
    place = sources.vllm_ascend.locate(UTILS, r"def check_kv_extra_config\b")
    yield _presence("kv_blocks_checked.by_release", sources, place, UTILS)


def prefill_over_nodes(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """PR #5961: a decode node knows the host of every prefill rank that must free blocks."""
    pattern = r"remote_port_send_num\[.*(\['host'\]|\"host\")"
    match = next(_find_all(sources.vllm_ascend, P2P, pattern), None)
    path = next(sources.vllm_ascend.matching(P2P), "vllm_ascend/distributed")
    yield _presence("prefill_over_nodes.works", sources, match and match[1], path)


def flashcomm1_asserted(sources: Sources, previous: Mapping[str, Any]) -> Found:
    pattern = r"assert .*tensor_parallel_size > 1,[ \\(]*\n\s*\"Flash Comm v1"
    ours = sources.vllm_ascend
    place = ours.locate(OURS, pattern) or ours.locate(UTILS, pattern)
    yield _presence("flashcomm1_asserted.by_release", sources, place, UTILS)


def fused_mc2_largest_ep(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Value 1 of fused_mc2 has an effect up to this size; no fact without FUSED_MC2."""
    tree = sources.vllm_ascend
    if not tree.locate(FORWARD, r"\bFUSED_MC2 ="):
        return
    key = "fused_mc2_largest_ep"
    size = next(tree.find(FORWARD, r"get_ep_group\(\s*\)\.world_size <= (\d+)"), None)
    if size is None:
        yield Decision(key, f"{FORWARD} has no size limit for FUSED_MC2: is there one elsewhere?")
        return
    yield Fact(f"{key}.value", 1, size[1])
    yield Fact(f"{key}.size", int(size[0][1]), size[1])


def dense_external_dp(sources: Sources, previous: Mapping[str, Any]) -> Found:
    tree = package_trees(sources)["vllm"]
    place = None
    for node in ast.walk(python_source.parsed(tree.files.get(ARGS, ""))):
        if isinstance(node, ast.If) and any(map(python_source.raises, node.body)):
            test = ast.unparse(node.test)
            if "data_parallel_external_lb" in test and "not model_config.is_moe" in test:
                place = tree.cite(ARGS, node.lineno)
    yield Fact("dense_external_dp.refused", place is not None, place or tree.cite(ARGS))


def kv_engine_id_suffixed(sources: Sources, previous: Mapping[str, Any]) -> Found:
    pattern = r"kv_transfer_config\.engine_id = f\".*engine_id\}-\{uuid4"
    place = sources.vllm_ascend.locate(OURS, pattern)
    yield _presence("kv_engine_id_suffixed.by_release", sources, place, OURS)


def image_env(sources: Sources, previous: Mapping[str, Any]) -> Found:
    """Derive what upstream's image sets for every process; its Dockerfiles may disagree."""
    claims = shipped.environment(sources.vllm_ascend)
    taken = shipped.taken(sources.vllm_ascend, claims)
    source = join_citations(one.source for one in taken.values())
    for name, one in taken.items():
        yield Fact(f"image_env.{name}", _number(one.value), source)
    for name, given in claims.items():
        if name not in taken or len({one.value for one in given}) > 1:
            said = tuple((_number(one.value), one.source) for one in given)
            yield Contradiction(f"image_env.{name}", said, said[0][0] if name in taken else None)


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _presence(key: str, sources: Sources, place: str | None, path: str) -> Fact:
    return Fact(key, place is not None, place or sources.vllm_ascend.cite(path))


def _find_all(tree: Tree, paths: str, pattern: str) -> Iterator[tuple[re.Match[str], str]]:
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
    rules: list[Mapping[str, Any]] = upstream_names()["adxl_ports"]
    return next(rule for rule in rules if version >= Version(rule["from"]))


def _lookup(document: Mapping[str, Any], key: str) -> Any:
    value: Any = document
    for part in key.split("."):
        value = value.get(part, {}) if isinstance(value, Mapping) else {}
    return None if value == {} else value
