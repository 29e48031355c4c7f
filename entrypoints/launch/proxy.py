"""The proxy before prefill and decode servers: vllm-router, or the example of the release.

Both speak the protocol of MooncakeConnectorV1: a request goes to a prefill server for one token,
and with what that answers to a decode server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from entrypoints.inputs import arguments, data, settings
from entrypoints.inputs.arguments import Flag
from entrypoints.inputs.settings import Endpoint
from entrypoints.launch import kv
from entrypoints.launch.context import Context
from entrypoints.launch.plan import Launch, Peer
from entrypoints.problems import Problem

# The port of the reference deployment.
PORT = 12347
# vllm-router 0.1.17: default of --prometheus-port, on which it serves its metrics.
METRICS_PORT = 29000

_SIDES = (
    ("PREFILL_ENDPOINTS", "a prefill server"),
    ("DECODE_ENDPOINTS", "a decode server"),
)


def launch(node: Context, problems: list[Problem]) -> Launch:
    """The launch of a proxy. What is wrong goes to `problems`."""
    prefill = node.settings.prefill_endpoints or ()
    decode = node.settings.decode_endpoints or ()
    for (name, _), endpoints in zip(_SIDES, (prefill, decode), strict=True):
        if not endpoints and name not in {problem.where for problem in problems}:
            fix = "set it to the servers' host:port,host:port"
            problems.append(Problem("missing-endpoints", name, "is not set", fix))
    both = sorted(set(prefill) & set(decode))
    if both:
        message = f"{both[0]} is also a prefill server"
        fix = "give each server on one side"
        problems.append(Problem("bad-endpoints", "DECODE_ENDPOINTS", message, fix))
    connector = _connector(node)
    kind = node.settings.proxy or "vllm-router"
    proxies = data.read(data.path_of("proxies.yaml"))
    ports = {"api": node.settings.port or PORT}
    make = _router if kind == "vllm-router" else _example
    argv = make(node, ports, prefill, decode, connector, proxies[kind], problems)
    peers = [
        Peer(what, endpoint.host, endpoint.port, "/health")
        for (_, what), endpoints in zip(_SIDES, (prefill, decode), strict=True)
        for endpoint in endpoints
    ]
    return Launch(
        role=node.role.name,
        title=f"role proxy ({kind}), {len(prefill)} prefill and {len(decode)} decode servers,"
        f" release {node.release.name}",
        env=_environment(node.environ),
        expands=frozenset(),
        argv=tuple(argv),
        ports=ports,
        warnings=(),
        context=node,
        peers=peers,
    )


def _connector(node: Context) -> str:
    """The connector of the recipe's prefill side; that of the reference without a recipe."""
    block = node.recipe.groups.get("prefill") if node.recipe else None
    named = [name for name in kv.connectors(block) if name.startswith("Mooncake")] if block else []
    return named[0] if named else "MooncakeConnectorV1"


def _router(
    node: Context,
    ports: dict[str, int],
    prefill: Sequence[Endpoint],
    decode: Sequence[Endpoint],
    connector: str,
    facts: Mapping[str, Mapping[str, str]],
    problems: list[Problem],
) -> list[str]:
    protocol = facts["protocols"].get(connector)
    if protocol is None:
        fix = "set PROXY=example"
        message = f"vllm-router does not speak the protocol of {connector}"
        problems.append(Problem("bad-proxy", "PROXY", message, fix, facts["source"]["protocols"]))
        protocol = ""
    urls = [
        Flag(flag, (f"http://{endpoint}",))
        for flag, endpoints in (("--prefill", prefill), ("--decode", decode))
        for endpoint in endpoints
    ]
    base = [
        Flag("--host", ("0.0.0.0",)),
        Flag("--port", (str(ports["api"]),)),
        Flag("--vllm-pd-disaggregation"),
        Flag("--kv-connector", (protocol,)),
        *urls,
        *(Flag(flag, (value,)) for flag, value in facts["defaults"].items()),
    ]
    repeatable = frozenset(("--prefill", "--decode"))
    flags = arguments.merge(arguments.merge({}, base, repeatable), node.appended, repeatable)
    metrics = arguments.value_of(flags, "--prometheus-port") or str(METRICS_PORT)
    ports["metrics"] = settings.checked(settings.METRICS, metrics, settings.METRICS.flag, problems)
    if ports["metrics"] == ports["api"]:
        message = f"{ports['api']} is the proxy's own port"
        fix = "give the metrics another port"
        problems.append(Problem("bad-ports", settings.METRICS.flag, message, fix))
    chosen = arguments.value_of(flags, "--kv-connector")
    if protocol and chosen != protocol:
        message = f"{chosen!r} is another protocol than that of {connector}"
        fix = f"leave it out; {protocol} is the one"
        source = facts["source"]["protocols"]
        problems.append(Problem("bad-proxy", "--kv-connector", message, fix, source))
    return ["vllm-router", *arguments.render(flags)]


def _example(
    node: Context,
    ports: dict[str, int],
    prefill: Sequence[Endpoint],
    decode: Sequence[Endpoint],
    connector: str,
    facts: Mapping[str, Mapping[str, str]],
    problems: list[Problem],
) -> list[str]:
    script = facts["scripts"].get(connector)
    if script is None:
        fix = f"choose a recipe with one of {', '.join(facts['scripts'])}"
        message = f"no example proxy speaks the protocol of {connector}"
        problems.append(Problem("bad-proxy", "PROXY", message, fix))
        script = ""
    rows = (
        ("--prefiller-hosts", "--prefiller-ports", prefill),
        ("--decoder-hosts", "--decoder-ports", decode),
    )
    base = [Flag("--host", ("0.0.0.0",)), Flag("--port", (str(ports["api"]),))]
    for hosts, numbers, endpoints in rows:
        base.append(Flag(hosts, tuple(endpoint.host for endpoint in endpoints)))
        base.append(Flag(numbers, tuple(str(endpoint.port) for endpoint in endpoints)))
    flags = arguments.merge(arguments.merge({}, base), node.appended)
    return ["python", f"{facts['folder']['image']}/{script}", *arguments.render(flags)]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Both proxies send OPENAI_API_KEY to their servers, which know it as VLLM_API_KEY."""
    key = environ.get("OPENAI_API_KEY") or environ.get("VLLM_API_KEY")
    return {"OPENAI_API_KEY": key} if key else {}
