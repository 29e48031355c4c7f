"""The proxy in front of prefill and decode servers: vllm-router, or the release's example.

Both speak the protocol of MooncakeConnectorV1: a request goes to a prefill server for one token,
then with its answer to a decode server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from entrypoints.findings import Finding
from entrypoints.inputs import arguments, data, settings
from entrypoints.inputs.arguments import Flag
from entrypoints.inputs.settings import Endpoint
from entrypoints.launch import kv
from entrypoints.launch.context import Context
from entrypoints.launch.model import Launch, Peer
from entrypoints.messages import finding

# The port of the reference deployment.
PORT = 12347
# vllm-router 0.1.17: the default of --prometheus-port, where it serves metrics.
METRICS_PORT = 29000

# The entry of a proxy in env/proxies.yaml.
_Known = Mapping[str, Mapping[str, str]]

_SIDES = (("PREFILL_ENDPOINTS", "a prefill server"), ("DECODE_ENDPOINTS", "a decode server"))


def launch(node: Context, findings: list[Finding]) -> Launch:
    """The launch of a proxy. Errors go to `findings`."""
    prefill, decode = _servers(node)
    for (name, _), endpoints in zip(_SIDES, (prefill, decode), strict=True):
        if not endpoints and name not in {one.where for one in findings}:
            findings.append(finding("missing-endpoints", variable=name))
    both = sorted(set(prefill) & set(decode))
    if both:
        findings.append(finding("bad-endpoints", endpoint=both[0]))
    connector = _connector(node)
    kind = node.settings.proxy or "vllm-router"
    known = data.read(data.path_of("proxies.yaml"))[kind]
    ports = {"api": node.settings.port or PORT}
    make = _router if kind == "vllm-router" else _example
    argv = make(node, connector, known, ports, findings)
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
        context=node,
        peers=peers,
    )


def _servers(node: Context) -> tuple[Sequence[Endpoint], Sequence[Endpoint]]:
    """The prefill and the decode servers."""
    return node.settings.prefill_endpoints or (), node.settings.decode_endpoints or ()


def _connector(node: Context) -> str:
    """The connector of the recipe's prefill side, else that of the reference deployment."""
    block = node.recipe.groups.get("prefill") if node.recipe else None
    named = map(kv.name_of, kv.each(block.kv_transfer if block else None))
    return next((name for name in named if name.startswith("Mooncake")), "MooncakeConnectorV1")


def _router(
    node: Context, connector: str, known: _Known, ports: dict[str, int], findings: list[Finding]
) -> list[str]:
    protocol, source = known["protocols"].get(connector), known["source"]["protocols"]
    if protocol is None:
        findings.append(finding("bad-proxy.no-protocol", source=source, connector=connector))
        protocol = ""
    urls = [
        Flag(flag, (f"http://{endpoint}",))
        for flag, endpoints in zip(("--prefill", "--decode"), _servers(node), strict=True)
        for endpoint in endpoints
    ]
    base = [
        Flag("--host", ("0.0.0.0",)),
        Flag("--port", (str(ports["api"]),)),
        Flag("--vllm-pd-disaggregation"),
        Flag("--kv-connector", (protocol,)),
        *urls,
        *(Flag(flag, (value,)) for flag, value in known["defaults"].items()),
    ]
    repeatable = frozenset(("--prefill", "--decode"))
    flags = arguments.merge(arguments.merge({}, base, repeatable), node.appended, repeatable)
    metrics = arguments.value_of(flags, "--prometheus-port") or str(METRICS_PORT)
    ports["metrics"] = settings.checked(settings.METRICS, metrics, settings.METRICS.flag, findings)
    if ports["metrics"] == ports["api"]:
        findings.append(finding("bad-ports.own-port", port=ports["api"]))
    chosen = arguments.value_of(flags, "--kv-connector")
    if protocol and chosen != protocol:
        named = {"chosen": chosen, "connector": connector, "protocol": protocol}
        findings.append(finding("bad-proxy.other-protocol", source=source, **named))
    return ["vllm-router", *arguments.render(flags)]


def _example(
    node: Context, connector: str, known: _Known, ports: dict[str, int], findings: list[Finding]
) -> list[str]:
    script = known["scripts"].get(connector, "")
    if not script:
        findings.append(
            finding("bad-proxy.no-example", connector=connector, known=", ".join(known["scripts"]))
        )
    base = [Flag("--host", ("0.0.0.0",)), Flag("--port", (str(ports["api"]),))]
    for side, servers in zip(("prefiller", "decoder"), _servers(node), strict=True):
        base.append(Flag(f"--{side}-hosts", tuple(one.host for one in servers)))
        base.append(Flag(f"--{side}-ports", tuple(str(one.port) for one in servers)))
    flags = arguments.merge(arguments.merge({}, base), node.appended)
    return ["python", f"{known['folder']['image']}/{script}", *arguments.render(flags)]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Both proxies send OPENAI_API_KEY to their servers, which read it from VLLM_API_KEY."""
    key = environ.get("OPENAI_API_KEY") or environ.get("VLLM_API_KEY")
    return {"OPENAI_API_KEY": key} if key else {}
