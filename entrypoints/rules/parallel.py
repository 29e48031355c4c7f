"""Data parallel, executors, and flags that contradict a node's place."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import ERROR, Finding, Message, check
from entrypoints.inputs.arguments import value_of
from entrypoints.launch.facts import Facts
from entrypoints.launch.topology import NODES

_SERVE = "vllm: vllm/entrypoints/cli/serve.py"
_ARGS = "vllm v0.13.0: vllm/engine/arg_utils.py:1448-1483"


@check(
    "headless-appended",
    ERROR,
    "--headless on a role that serves",
    _SERVE,
    Message(
        "ROLE={role} serves HTTP, a headless node does not",
        "remove it, or set ROLE=headless",
        "--headless",
    ),
)
def headless_appended(facts: Facts, found: Message) -> Iterator[Finding]:
    if "--headless" in facts.flags and not facts.place.role.headless:
        yield found(role=facts.place.role.name)


@check(
    "start-rank-not-headless",
    ERROR,
    "a start rank above 0 on a node that serves",
    _ARGS,
    Message(
        "{first} without --headless makes this node a separate server (hybrid load balancing),"
        " not a part of the leader's",
        "set ROLE=headless and NODE_RANK, or add --data-parallel-hybrid-lb if intended",
        "--data-parallel-start-rank",
    ),
)
def start_rank(facts: Facts, found: Message) -> Iterator[Finding]:
    first = facts.number("--data-parallel-start-rank")
    asked = facts.on("--data-parallel-hybrid-lb") or "--data-parallel-rank" in facts.flags
    if first and "--headless" not in facts.flags and not asked:
        yield found(first=first)


@check(
    "hybrid-headless",
    ERROR,
    "hybrid load balancing on a headless node",
    _SERVE,
    Message(
        "a headless node has no API to balance",
        "remove it on headless nodes",
        "--data-parallel-hybrid-lb",
    ),
)
def hybrid_headless(facts: Facts, found: Message) -> Iterator[Finding]:
    if facts.on("--data-parallel-hybrid-lb") and "--headless" in facts.flags:
        yield found()


@check(
    "external-local-size",
    ERROR,
    "external load balancing with several local ranks",
    _ARGS,
    Message(
        "is {local}, and external load balancing means one rank for each `vllm serve`",
        "leave it out or make it 1, and start one container for each rank",
        "--data-parallel-size-local",
    ),
)
def rank_local(facts: Facts, found: Message) -> Iterator[Finding]:
    local = value_of(facts.flags, "--data-parallel-size-local")
    by_flag = facts.on("--data-parallel-external-lb") or "--data-parallel-rank" in facts.flags
    if by_flag and local not in (None, "1"):
        yield found(local=local)


@check(
    "headless-api-servers",
    ERROR,
    "API servers on a headless node",
    _SERVE,
    Message(
        "is {count} on a headless node, which has no API",
        "give it to the leader only",
        "--api-server-count",
    ),
)
def api_servers(facts: Facts, found: Message) -> Iterator[Finding]:
    most, source = facts.release.headless_api_servers.values()
    count = facts.number("--api-server-count")
    if count is not None and "--headless" in facts.flags and count > most:
        yield found(source=source, count=count)


@check(
    "no-api-server",
    ERROR,
    "no API server on a role that serves",
    _SERVE,
    Message(
        "0 makes this node headless, and its role serves HTTP",
        "give 1 or more, or set ROLE=headless",
        "--api-server-count",
    ),
)
def no_api_server(facts: Facts, found: Message) -> Iterator[Finding]:
    if facts.number("--api-server-count") == 0 and "--headless" not in facts.flags:
        yield found()


@check(
    "dense-external-dp",
    ERROR,
    "a model without experts under external data parallel",
    "vllm-ascend#11863",
    Message(
        "a model without experts is refused under external data parallel",
        "start independent servers with DP_SIZE=1 behind the load balancer",
        "DP_SIZE",
    ),
)
def dense_external(facts: Facts, found: Message) -> Iterator[Finding]:
    rule = facts.release.dense_external_dp
    known_dense = facts.model is not None and not facts.model.moe
    if rule["refused"] and known_dense and facts.external and facts.place.dp > 1:
        yield found(source=rule["source"])


@check(
    "layout-unsupported",
    ERROR,
    "one rank over several nodes, or prefill context parallel, in v0.11.0",
    "vllm v0.11.0: vllm/engine/arg_utils.py",
    Message(
        "{release} cannot do this: {missing}", "choose a later release, or other sizes", "{given}"
    ),
)
def unsupported(facts: Facts, found: Message) -> Iterator[Finding]:
    place, forms, release = facts.place, facts.release.features, facts.release.name
    for feature, wanted, given in (
        ("nnodes", place.layout == NODES, "NODES"),
        ("prefill_context_parallel", place.pcp > 1, "PCP_SIZE"),
    ):
        form = forms[feature]
        if wanted and form.missing:
            yield found(source=form.source, given=given, release=release, missing=form.missing)


@check(
    "async-scheduling-executor",
    ERROR,
    "--async-scheduling with Ray, from v0.13.0rc1 to v0.18.0",
    "vllm v0.13.0: vllm/config/vllm.py:536-570",
    Message(
        "is refused with the {executor} executor",
        "remove it from the recipe for this role (async_scheduling: null)",
        "--async-scheduling",
    ),
)
def async_executor(facts: Facts, found: Message) -> Iterator[Finding]:
    rule = facts.release.async_scheduling_refused
    if facts.on("--async-scheduling") and facts.executor_name in rule["executors"]:
        yield found(source=rule["source"], executor=facts.executor_name)


@check(
    "async-scheduling-pipeline",
    ERROR,
    "--async-scheduling with pipeline parallel, up to v0.13.0",
    "vllm v0.13.0: vllm/config/vllm.py:542-548",
    Message(
        "is refused by {release} with pipeline parallel ({pp})",
        "remove it, or set PP_SIZE=1",
        "--async-scheduling",
    ),
)
def async_pipeline(facts: Facts, found: Message) -> Iterator[Finding]:
    rule = facts.release.async_scheduling_refused
    if facts.on("--async-scheduling") and facts.place.pp > 1 and rule["pipeline"]:
        yield found(source=rule["source"], release=facts.release.name, pp=facts.place.pp)


CHECKS = (
    headless_appended,
    start_rank,
    hybrid_headless,
    rank_local,
    api_servers,
    no_api_server,
    dense_external,
    unsupported,
    async_executor,
    async_pipeline,
)
