"""The path of a request: proxy, load balancing, concurrency; and what a late node causes."""

from __future__ import annotations

from clusters.checks.definitions import check
from clusters.checks.facts import Facts, Found, Server
from clusters.compile.locate import owner
from entrypoints.findings import Message
from entrypoints.inputs import arguments
from entrypoints.inputs.recipes import SIDES
from entrypoints.launch.facts import number

_CONNECT = "HCCL_CONNECT_TIMEOUT"
_READY = "VLLM_ENGINE_READY_TIMEOUT_S"
_READY_SECONDS = 600
_REQUESTS = "--max-num-seqs"
# The flags that give a proxy its servers: of vllm-router, then of the examples.
_SERVERS = (
    ("--prefill", "--prefiller-hosts", "--prefiller-ports"),
    ("--decode", "--decoder-hosts", "--decoder-ports"),
)


@check("needless-proxy")
def needless_proxy(facts: Facts, needless: Message, unknown_port: Message) -> Found:
    """The entrypoint would report endpoints that are not set."""
    if facts.deployment.proxy is None:
        return
    sides = facts.sides()
    if not any(sides.values()):
        yield ("proxy",), needless()
    for group in (group for groups in sides.values() for group in groups):
        first = group.containers[0]
        if first.command and not group.endpoints:
            yield (*owner(first), "command"), unknown_port(group=group.name)


@check("proxy-misses-server")
def uncovered(facts: Facts, message: Message) -> Found:
    """Arguments of the proxy replace the servers that follow from the file."""
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
            for endpoint in (f"{host}:{port}" for host, port in group.endpoints):
                if endpoint not in named:
                    path = facts.path_of_any(*((flag, proxy) for flag in (router, hosts, ports)))
                    yield path, message(endpoint=endpoint, group=group.name)


def _values(flags: arguments.Flags, name: str) -> tuple[str, ...]:
    return flags[name][-1].values if name in flags else ()


@check("no-proxy")
def no_proxy(facts: Facts, message: Message) -> Found:
    sides = facts.sides()
    if all(sides.values()) and facts.deployment.proxy is None:
        yield owner(sides["prefill"][0].containers[0]), message()


@check("no-balancer")
def unbalanced(facts: Facts, message: Message) -> Found:
    """Kubernetes has a Service for that."""
    endpoints = [end for group in facts.deployment.groups for end in group.endpoints]
    placed = any(node.placed for node in facts.cluster.nodes.values())
    if facts.deployment.proxy or placed or any(facts.sides().values()) or len(endpoints) < 2:
        return
    at = ("instances", facts.deployment.groups[-1].instance)
    yield facts.first_given((*at, "replicas"), at), message(count=len(endpoints))


@check("cluster-concurrency")
def concurrency(facts: Facts, message: Message) -> Found:
    """Adds up the servers that answer requests together; prefill hands each request on."""
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
        ranks = sum(dp for _, dp in room)
        if have < wanted:
            each = -(-wanted // ranks)
            found = message(ranks=ranks, have=have, wanted=wanted, each=each)
            yield facts.path_of("CONCURRENCY", servers[0].container), found


@check("connect-timeout-order")
def connect_timeout(facts: Facts, message: Message) -> Found:
    """Only if HCCL's timeout is set: its default is below vLLM's."""
    fixed = bool(facts.release.features["engine_ready_timeout"].missing)
    for serving in facts.serving:
        server = serving.first
        hccl = number(server.env.get(_CONNECT, ""))
        ready = (not fixed and number(server.env.get(_READY, ""))) or _READY_SECONDS
        if len(serving.group.containers) > 1 and hccl and hccl > ready:
            yield facts.path_of(_CONNECT, server.container), message(hccl=hccl, ready=ready)


@check("no-second-try")
def alone(facts: Facts, message: Message) -> Found:
    run = facts.cluster.run
    several = any(len(group.containers) > 1 for group in facts.deployment.groups)
    if (several or facts.deployment.proxy) and run.restart == "no" and run.wait_timeout == 0:
        yield facts.first_given(("run", "wait_timeout"), ("run",)), message()
