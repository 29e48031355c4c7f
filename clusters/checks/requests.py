"""The way of a request: proxy, balance, how many at once; and what happens when a node is late."""

from __future__ import annotations

from collections.abc import Iterator

from clusters.checks.facts import Check, Facts, Found, Server
from clusters.compile.locate import owner
from common.errors import ERROR, WARNING
from entrypoints.inputs import arguments
from entrypoints.inputs.recipes import SIDES
from entrypoints.rules.facts import number

_CONNECT = "HCCL_CONNECT_TIMEOUT"
_READY = "VLLM_ENGINE_READY_TIMEOUT_S"
_READY_SECONDS = 600
_REQUESTS = "--max-num-seqs"
# Where a proxy is told its servers: vllm-router, then the examples.
_SERVERS = (
    ("--prefill", "--prefiller-hosts", "--prefiller-ports"),
    ("--decode", "--decoder-hosts", "--decoder-ports"),
)


def no_proxy(facts: Facts) -> Iterator[Found]:
    sides = facts.sides()
    if all(sides.values()) and facts.deployment.proxy is None:
        yield Found(
            owner(sides["prefill"][0].containers[0]),
            "prefill and decode have no proxy before them, and no request reaches both",
            "add proxy:, or have one of your own",
        )


def needless_proxy(facts: Facts) -> Iterator[Found]:
    """The entrypoint's words for these would be endpoints that are not set."""
    if facts.deployment.proxy is None:
        return
    sides = facts.sides()
    if not any(sides.values()):
        yield Found(
            ("proxy",),
            "there is no prefill and no decode, and the proxy is for these",
            "take proxy: out, or add instances with these roles",
        )
    for groups in sides.values():
        for group in groups:
            first = group.containers[0]
            if first.command and not group.endpoints:
                yield Found(
                    (*owner(first), "command"),
                    f"the port of {group.name} is not known, as it runs a command of its own",
                    "give ports: {api: PORT}, for the proxy",
                )


def uncovered(facts: Facts) -> Iterator[Found]:
    """Arguments of the operator's own replace the servers that follow from the file."""
    proxy = facts.deployment.proxy
    if proxy is None or proxy.launch is None:
        return
    words = arguments.parse(proxy.launch.argv[proxy.launch.argv.index("--host") :], {}, [])
    flags = arguments.merge({}, words, frozenset(router for router, _, _ in _SERVERS))
    for side, (router, hosts, ports) in zip(SIDES, _SERVERS, strict=True):
        named = {url.partition("://")[2] for flag in flags.get(router, ()) for url in flag.values}
        pairs = zip(_values(flags, hosts), _values(flags, ports), strict=False)
        named.update(f"{host}:{port}" for host, port in pairs)
        for group in facts.sides()[side]:
            for end in (f"{host}:{port}" for host, port in group.endpoints):
                if end not in named:
                    yield Found(
                        facts.said_as(*((flag, proxy) for flag in (router, hosts, ports))),
                        f"the proxy does not send to {end} of {group.name}",
                        "take the argument out: all servers follow from the file",
                    )


def _values(flags: arguments.Flags, name: str) -> tuple[str, ...]:
    return flags[name][-1].values if name in flags else ()


def unbalanced(facts: Facts) -> Iterator[Found]:
    """Kubernetes has a Service for that."""
    ends = [end for group in facts.deployment.groups for end in group.endpoints]
    placed = any(node.placed for node in facts.cluster.nodes.values())
    if facts.deployment.proxy or placed or any(facts.sides().values()) or len(ends) < 2:
        return
    last = facts.deployment.groups[-1]
    yield Found(
        facts.given(("instances", last.instance, "replicas"), ("instances", last.instance)),
        f"there are {len(ends)} servers, and nothing here spreads requests over them",
        "put a load balancer of your own before them",
    )


def concurrency(facts: Facts) -> Iterator[Found]:
    """Requests at once of all servers that answer them together; prefill hands each one on."""
    decodes = any(serving.group.role == "decode" for serving in facts.serving)
    together: dict[str, list[Server]] = {}
    for serving in facts.serving:
        if serving.group.role == "prefill" or (decodes and serving.group.role != "decode"):
            continue
        instance = facts.cluster.instances[serving.group.instance]
        key = instance.name if "concurrency" in instance.settings else ""
        together.setdefault(key, []).append(serving.first)
    for servers in together.values():
        wanted = max(server.place.block.concurrency or 0 for server in servers)
        room = [(server.number(_REQUESTS), server.place.dp) for server in servers]
        if not wanted or any(not each for each, _ in room):
            continue
        have = sum((each or 0) * dp for each, dp in room)
        if have < wanted:
            ranks = sum(dp for _, dp in room)
            yield Found(
                facts.said("CONCURRENCY", servers[0].container),
                f"{_REQUESTS} over {ranks} data parallel rank{'' if ranks == 1 else 's'} comes to"
                f" {have} requests at once, fewer than the {wanted} expected: the others wait",
                f"set {_REQUESTS} to {-(-wanted // ranks)} or more, or add servers",
            )


def connect_timeout(facts: Facts) -> Iterator[Found]:
    """Only where HCCL's is set: its own default is below vLLM's."""
    fixed = bool(facts.release.features["engine_ready_timeout"].missing)
    for serving in facts.serving:
        server = serving.first
        hccl = number(server.env.get(_CONNECT, ""))
        ready = (not fixed and number(server.env.get(_READY, ""))) or _READY_SECONDS
        if len(serving.group.containers) > 1 and hccl and hccl > ready:
            yield Found(
                facts.said(_CONNECT, server.container),
                f"{_CONNECT} {hccl} is above the {ready} s that the first node waits for the"
                " engines: when a node is missing, it stops before HCCL says which",
                f"set {_CONNECT} below {ready}",
            )


def alone(facts: Facts) -> Iterator[Found]:
    run = facts.cluster.run
    several = any(len(group.containers) > 1 for group in facts.deployment.groups)
    if (several or facts.deployment.proxy) and run.restart == "no" and run.wait_timeout == 0:
        yield Found(
            facts.given(("run", "wait_timeout"), ("run",)),
            "containers neither wait for each other nor start again: one that is early stays down",
            "leave out wait_timeout: 0, or restart: no",
        )


CHECKS = (
    Check(
        "needless-proxy",
        ERROR,
        "a proxy without prefill and decode, or before a server whose port is not known",
        "vllm-ascend docs: pd_disaggregation_mooncake_multi_node.md",
        needless_proxy,
        ("missing-endpoints",),
    ),
    Check(
        "proxy-misses-server",
        ERROR,
        "a prefill or decode server to which the proxy does not send",
        "vllm-ascend docs: pd_disaggregation_mooncake_multi_node.md",
        uncovered,
    ),
    Check(
        "no-proxy",
        WARNING,
        "prefill and decode without a proxy",
        "vllm-ascend docs: pd_disaggregation_mooncake_multi_node.md",
        no_proxy,
    ),
    Check(
        "no-balancer",
        WARNING,
        "several servers, and nothing that spreads requests over them",
        "docs/clusters.md",
        unbalanced,
    ),
    Check(
        "cluster-concurrency",
        WARNING,
        f"{_REQUESTS} of all servers together below the expected concurrency",
        "vllm-ascend docs Qwen3-235B-A22B",
        concurrency,
        ("concurrency",),
    ),
    Check(
        "connect-timeout-order",
        WARNING,
        "the first node gives up before HCCL does",
        "vllm#35547, vllm-ascend#3977",
        connect_timeout,
    ),
    Check(
        "no-second-try",
        WARNING,
        "containers that neither wait nor start again",
        "vllm-ascend#9447, #12461",
        alone,
    ),
)
