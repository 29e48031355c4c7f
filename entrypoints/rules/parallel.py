"""Data parallel, executors, and flags that contradict a node's place."""

from __future__ import annotations

from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.inputs.arguments import value_of
from entrypoints.launch.facts import Facts
from entrypoints.launch.topology import NODES
from entrypoints.messages import finding


def headless_appended(facts: Facts) -> Iterator[Finding]:
    if "--headless" in facts.flags and not facts.place.role.headless:
        yield finding("headless-appended", role=facts.place.role.name)


def start_rank(facts: Facts) -> Iterator[Finding]:
    first = facts.number("--data-parallel-start-rank")
    asked = facts.on("--data-parallel-hybrid-lb") or "--data-parallel-rank" in facts.flags
    if first and "--headless" not in facts.flags and not asked:
        yield finding("start-rank-not-headless", first=first)


def hybrid_headless(facts: Facts) -> Iterator[Finding]:
    if facts.on("--data-parallel-hybrid-lb") and "--headless" in facts.flags:
        yield finding("hybrid-headless")


def rank_local(facts: Facts) -> Iterator[Finding]:
    local = value_of(facts.flags, "--data-parallel-size-local")
    by_flag = facts.on("--data-parallel-external-lb") or "--data-parallel-rank" in facts.flags
    if by_flag and local not in (None, "1"):
        yield finding("external-local-size", local=local)


def api_servers(facts: Facts) -> Iterator[Finding]:
    most, source = facts.release.headless_api_servers.values()
    count = facts.number("--api-server-count")
    if count is not None and "--headless" in facts.flags and count > most:
        yield finding("headless-api-servers", source=source, count=count)


def no_api_server(facts: Facts) -> Iterator[Finding]:
    if facts.number("--api-server-count") == 0 and "--headless" not in facts.flags:
        yield finding("no-api-server")


def dense_external(facts: Facts) -> Iterator[Finding]:
    rule = facts.release.dense_external_dp
    known_dense = facts.model is not None and not facts.model.moe
    if rule["refused"] and known_dense and facts.external and facts.place.dp > 1:
        yield finding("dense-external-dp", source=rule["source"])


def unsupported(facts: Facts) -> Iterator[Finding]:
    place, forms, release = facts.place, facts.release.features, facts.release.name
    for feature, wanted, given in (
        ("nnodes", place.layout == NODES, "NODES"),
        ("prefill_context_parallel", place.pcp > 1, "PCP_SIZE"),
    ):
        form = forms[feature]
        if wanted and form.missing:
            yield finding(
                "layout-unsupported",
                source=form.source,
                given=given,
                release=release,
                missing=form.missing,
            )


def async_executor(facts: Facts) -> Iterator[Finding]:
    rule = facts.release.async_scheduling_refused
    if facts.on("--async-scheduling") and facts.executor_name in rule["executors"]:
        yield finding(
            "async-scheduling-executor", source=rule["source"], executor=facts.executor_name
        )


def async_pipeline(facts: Facts) -> Iterator[Finding]:
    rule = facts.release.async_scheduling_refused
    if facts.on("--async-scheduling") and facts.place.pp > 1 and rule["pipeline"]:
        yield finding(
            "async-scheduling-pipeline",
            source=rule["source"],
            release=facts.release.name,
            pp=facts.place.pp,
        )


RULES = (
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
