"""Data parallel, executors, and flags that contradict a node's place."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.inputs.arguments import value_of
from entrypoints.launch.topology import NODES
from entrypoints.rules.facts import ERROR, Check, Facts, Found

_SERVE = "vllm: vllm/entrypoints/cli/serve.py"
_ARGS = "vllm v0.13.0: vllm/engine/arg_utils.py:1448-1483"


def headless_appended(facts: Facts) -> Iterator[Found]:
    if "--headless" in facts.flags and not facts.place.role.headless:
        yield Found(
            f"ROLE={facts.place.role.name} serves HTTP, a headless node does not",
            "take it out, or set ROLE=headless",
            "--headless",
        )


def start_rank(facts: Facts) -> Iterator[Found]:
    first = facts.number("--data-parallel-start-rank")
    asked = facts.on("--data-parallel-hybrid-lb") or "--data-parallel-rank" in facts.flags
    if first and "--headless" not in facts.flags and not asked:
        yield Found(
            f"{first} without --headless makes this node a server of its own (hybrid load"
            " balancing), not a part of the leader's",
            "set ROLE=headless and NODE_RANK, or add --data-parallel-hybrid-lb if that is meant",
            "--data-parallel-start-rank",
        )


def hybrid_headless(facts: Facts) -> Iterator[Found]:
    if facts.on("--data-parallel-hybrid-lb") and "--headless" in facts.flags:
        yield Found(
            "a headless node has no API to balance",
            "take it out on headless nodes",
            "--data-parallel-hybrid-lb",
        )


def rank_local(facts: Facts) -> Iterator[Found]:
    local = value_of(facts.flags, "--data-parallel-size-local")
    by_flag = facts.on("--data-parallel-external-lb") or "--data-parallel-rank" in facts.flags
    if by_flag and local not in (None, "1"):
        yield Found(
            f"is {local}, and external load balancing means one rank for each `vllm serve`",
            "leave it out or make it 1, and start one container for each rank",
            "--data-parallel-size-local",
        )


def api_servers(facts: Facts) -> Iterator[Found]:
    most, source = facts.release.headless_api_servers.values()
    count = facts.number("--api-server-count")
    if count is not None and "--headless" in facts.flags and count > most:
        yield Found(
            f"is {count} on a headless node, which has no API",
            "give it to the leader only",
            "--api-server-count",
            source,
        )


def no_api_server(facts: Facts) -> Iterator[Found]:
    if facts.number("--api-server-count") == 0 and "--headless" not in facts.flags:
        yield Found(
            "0 makes this node headless, and its role serves HTTP",
            "give 1 or more, or set ROLE=headless",
            "--api-server-count",
        )


def dense_external(facts: Facts) -> Iterator[Found]:
    rule = facts.release.dense_external_dp
    known_dense = facts.model is not None and not facts.model.moe
    if rule["refused"] and known_dense and facts.external and facts.place.dp > 1:
        yield Found(
            "a model without experts is refused under external data parallel",
            "start independent servers with DP_SIZE=1 behind the load balancer",
            "DP_SIZE",
            rule["source"],
        )


def unsupported(facts: Facts) -> Iterator[Found]:
    place, forms = facts.place, facts.release.features
    for feature, wanted, where in (
        ("nnodes", place.layout == NODES, "NODES"),
        ("prefill_context_parallel", place.pcp > 1, "PCP_SIZE"),
    ):
        if wanted and forms[feature].missing:
            yield Found(
                f"{facts.release.name} cannot do this: {forms[feature].missing}",
                "choose a later release, or other sizes",
                where,
                forms[feature].source,
            )


def async_executor(facts: Facts) -> Iterator[Found]:
    rule = facts.release.async_scheduling_refused
    if facts.on("--async-scheduling") and facts.executor_name in rule["executors"]:
        yield Found(
            f"is refused with the {facts.executor_name} executor",
            "take it out of the recipe for this role (async_scheduling: null)",
            "--async-scheduling",
            rule["source"],
        )


def async_pipeline(facts: Facts) -> Iterator[Found]:
    rule = facts.release.async_scheduling_refused
    if facts.on("--async-scheduling") and facts.place.pp > 1 and rule["pipeline"]:
        yield Found(
            f"is refused by {facts.release.name} with pipeline parallel ({facts.place.pp})",
            "take it out, or set PP_SIZE=1",
            "--async-scheduling",
            rule["source"],
        )


CHECKS = (
    Check(
        "headless-appended", ERROR, "--headless on a role that serves", _SERVE, headless_appended
    ),
    Check(
        "start-rank-not-headless",
        ERROR,
        "a start rank above 0 on a node that serves",
        _ARGS,
        start_rank,
    ),
    Check(
        "hybrid-headless",
        ERROR,
        "hybrid load balancing on a headless node",
        _SERVE,
        hybrid_headless,
    ),
    Check(
        "external-local-size",
        ERROR,
        "external load balancing with several local ranks",
        _ARGS,
        rank_local,
    ),
    Check("headless-api-servers", ERROR, "API servers on a headless node", _SERVE, api_servers),
    Check("no-api-server", ERROR, "no API server on a role that serves", _SERVE, no_api_server),
    Check(
        "dense-external-dp",
        ERROR,
        "a model without experts under external data parallel",
        "vllm-ascend#11863",
        dense_external,
    ),
    Check(
        "layout-unsupported",
        ERROR,
        "one rank over several nodes, or prefill context parallel, in v0.11.0",
        "vllm v0.11.0: vllm/engine/arg_utils.py",
        unsupported,
    ),
    Check(
        "async-scheduling-executor",
        ERROR,
        "--async-scheduling with Ray, from v0.13.0rc1 to v0.18.0",
        "vllm v0.13.0: vllm/config/vllm.py:536-570",
        async_executor,
    ),
    Check(
        "async-scheduling-pipeline",
        ERROR,
        "--async-scheduling with pipeline parallel, up to v0.13.0",
        "vllm v0.13.0: vllm/config/vllm.py:542-548",
        async_pipeline,
    ),
)
