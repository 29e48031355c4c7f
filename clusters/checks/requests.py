"""The path of a request: proxy, load balancing, concurrency; and what a late node causes."""

from __future__ import annotations

from clusters.checks.facts import Facts, Found, Server
from clusters.compile.locate import owner
from entrypoints.findings import ERROR, WARNING, Message, check
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
_PD_DOCS = "vllm-ascend docs: pd_disaggregation_mooncake_multi_node.md"


@check(
    "needless-proxy",
    ERROR,
    "a proxy without prefill and decode, or in front of a server whose port is unknown",
    _PD_DOCS,
    Message(
        "there is no prefill and no decode instance for the proxy",
        "remove proxy:, or add instances with these roles",
    ),
    Message(
        "the port of {group} is unknown, because the instance has its own command",
        "give ports: {{api: PORT}}, for the proxy",
    ),
)
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


@check(
    "proxy-misses-server",
    ERROR,
    "a prefill or decode server that the proxy does not send to",
    _PD_DOCS,
    Message(
        "the proxy does not send to {endpoint} of {group}",
        "remove the argument: all servers follow from the file",
    ),
)
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


@check(
    "no-proxy",
    WARNING,
    "prefill and decode without a proxy",
    _PD_DOCS,
    Message(
        "prefill and decode have no proxy in front of them, so that no request reaches both",
        "add proxy:, or run your own",
    ),
)
def no_proxy(facts: Facts, message: Message) -> Found:
    sides = facts.sides()
    if all(sides.values()) and facts.deployment.proxy is None:
        yield owner(sides["prefill"][0].containers[0]), message()


@check(
    "no-balancer",
    WARNING,
    "several servers without a load balancer",
    "docs/clusters.md",
    Message(
        "there are {count} servers, but no load balancer",
        "put your own load balancer in front of them",
    ),
)
def unbalanced(facts: Facts, message: Message) -> Found:
    """Kubernetes has a Service for that."""
    endpoints = [end for group in facts.deployment.groups for end in group.endpoints]
    placed = any(node.placed for node in facts.cluster.nodes.values())
    if facts.deployment.proxy or placed or any(facts.sides().values()) or len(endpoints) < 2:
        return
    at = ("instances", facts.deployment.groups[-1].instance)
    yield facts.first_given((*at, "replicas"), at), message(count=len(endpoints))


@check(
    "cluster-concurrency",
    WARNING,
    f"{_REQUESTS} of all servers together below the expected concurrency",
    "vllm-ascend docs Qwen3-235B-A22B",
    Message(
        f"{_REQUESTS} on {{ranks}} data parallel rank(s) allows {{have}} concurrent requests,"
        " fewer than the {wanted} expected: the others wait",
        f"set {_REQUESTS} to {{each}} or more, or add servers",
    ),
)
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


@check(
    "connect-timeout-order",
    WARNING,
    "the first node gives up before HCCL does",
    "vllm#35547, vllm-ascend#3977",
    Message(
        f"{_CONNECT} {{hccl}} is above the {{ready}} s that the first node waits for vLLM's"
        " engines: it stops before HCCL reports which node is missing",
        f"set {_CONNECT} below {{ready}}",
    ),
)
def connect_timeout(facts: Facts, message: Message) -> Found:
    """Only if HCCL's timeout is set: its default is below vLLM's."""
    fixed = bool(facts.release.features["engine_ready_timeout"].missing)
    for serving in facts.serving:
        server = serving.first
        hccl = number(server.env.get(_CONNECT, ""))
        ready = (not fixed and number(server.env.get(_READY, ""))) or _READY_SECONDS
        if len(serving.group.containers) > 1 and hccl and hccl > ready:
            yield facts.path_of(_CONNECT, server.container), message(hccl=hccl, ready=ready)


@check(
    "no-second-try",
    WARNING,
    "containers that neither wait for each other nor restart",
    "vllm-ascend#9447, #12461",
    Message(
        "containers neither wait for each other nor restart: one that starts early stays down",
        "leave out wait_timeout: 0, or restart: no",
    ),
)
def alone(facts: Facts, message: Message) -> Found:
    run = facts.cluster.run
    several = any(len(group.containers) > 1 for group in facts.deployment.groups)
    if (several or facts.deployment.proxy) and run.restart == "no" and run.wait_timeout == 0:
        yield facts.first_given(("run", "wait_timeout"), ("run",)), message()
