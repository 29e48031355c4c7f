"""The variables that the operator sets, each with its check."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from entrypoints.findings import Finding, Message, Refused
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_OCTET = re.compile(r"0|[1-9][0-9]{0,2}")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")

_DASH = Message("{value!r} starts with a dash", "give a model name or a path", code="bad-value")
_NUMBER = Message(
    "{value!r} is not a whole number", "give one from {low} to {high}", code="bad-value"
)
_SERVICE_PORT = Message(
    "{value!r} is not a port but what Kubernetes sets for a Service of that name",
    "set enableServiceLinks: false in the pod, or rename the Service",
    code="bad-value",
)
_ADDRESS = Message(
    "{value!r} is not an IPv4 address", "give one such as 10.0.0.1", code="bad-value"
)
_NOT_A_HOST = Message(
    "{value!r} is not an IPv4 address or host name", "give the leader's address", code="bad-value"
)
_INTERFACE = Message(
    "{value!r} is not an interface name", "give one such as eth0", code="bad-value"
)
_CHOICE = Message("{value!r} is not known", "give {known}", code="bad-value")
_SWITCH = Message("{value!r} is not a switch", "give 1 or 0", code="bad-value")
_ENDPOINTS = Message(
    "{value!r} is not a list of endpoints", "give host:port,host:port", code="bad-value"
)


def _text(value: str) -> str:
    return value


def _model(value: str) -> str:
    if value.startswith("-"):
        raise Refused([_DASH(value=value)])
    return value


def _number(value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
        raise Refused([_NUMBER(value=value, low=low, high=high)])
    return int(value)


def _port(value: str) -> int:
    if value.startswith("tcp://"):
        raise Refused([_SERVICE_PORT(value=value)])
    return _number(value, 1, 65535)


def _count(value: str) -> int:
    return _number(value, 1, 65535)


def _rank(value: str) -> int:
    return _number(value, 0, 65535)


def _address(value: str) -> str:
    """HCCL and the Ascend connectors take IPv4 only (vllm-ascend#4103)."""
    parts = value.split(".")
    if len(parts) != 4 or any(not _OCTET.fullmatch(p) or int(p) > 255 for p in parts):
        raise Refused([_ADDRESS(value=value)])
    return value


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise Refused([_NOT_A_HOST(value=value)])
    return value


def _interface(value: str) -> str:
    if not re.fullmatch(r"[^\s/]{1,15}", value):
        raise Refused([_INTERFACE(value=value)])
    return value


def _one_of(*words: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in words:
            raise Refused([_CHOICE(value=value, known=" or ".join(words))])
        return value

    return check


def _switch(value: str) -> bool:
    if value.lower() not in ("0", "1", "true", "false", "on", "off"):
        raise Refused([_SWITCH(value=value)])
    return value.lower() in ("1", "true", "on")


def _seconds(value: str) -> int:
    return _number(value, 0, 604800)


def _endpoints(value: str) -> tuple[Endpoint, ...]:
    """`host:port` separated by commas, each optionally after `http://`."""
    found = []
    for word in value.split(","):
        host, _, port = word.strip().removeprefix("http://").rstrip("/").rpartition(":")
        try:
            found.append(Endpoint(_host(host), _number(port, 1, 65535)))
        except Refused:
            raise Refused([_ENDPOINTS(value=value)]) from None
    return tuple(found)


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Variable(NamedTuple):
    """One variable. `check` returns the value or raises Refused. `flag`: sets the same.

    `stands_in`: the variable that LeaderWorkerSet sets in its place. `default`: for people.
    """

    name: str
    check: Callable[[str], Any]
    meaning: str
    flag: str = ""
    stands_in: str = ""
    default: str = ""


_SIZE = "the recipe's, else 1"
VARIABLES = (
    Variable("ROLE", _text, "what this node does; see `roles`"),
    Variable(
        "RECIPE", _text, "a name from `recipes`, the path of a .yaml file, or a recipe itself"
    ),
    Variable("MODEL", _model, "model name or path", "--model", default="the recipe's"),
    Variable("SERVED_MODEL_NAME", _text, "the name clients use", default="the recipe's"),
    Variable(
        "PORT",
        _port,
        "port of the HTTP API",
        "--port",
        default="the recipe's, else 8000; of the proxy 12347",
    ),
    Variable("TP_SIZE", _count, "tensor parallel size", "--tensor-parallel-size", default=_SIZE),
    Variable(
        "PP_SIZE", _count, "pipeline parallel size", "--pipeline-parallel-size", default=_SIZE
    ),
    Variable(
        "PCP_SIZE",
        _count,
        "prefill context parallel size",
        "--prefill-context-parallel-size",
        default=_SIZE,
    ),
    Variable(
        "DP_SIZE",
        _count,
        "data parallel size of the whole group",
        "--data-parallel-size",
        default=_SIZE,
    ),
    Variable(
        "DP_SIZE_LOCAL",
        _count,
        "data parallel ranks on one node",
        "--data-parallel-size-local",
        default="DP_SIZE / NODES",
    ),
    Variable("NODES", _count, "nodes of the group", stands_in="LWS_GROUP_SIZE", default=_SIZE),
    Variable("NODE_RANK", _rank, "this node's place, 0 leads", stands_in="LWS_WORKER_INDEX"),
    Variable("GROUP", _text, "the group a headless node belongs to", default="leader"),
    Variable("LEADER_IP", _host, "address of rank 0", stands_in="LWS_LEADER_ADDRESS"),
    Variable(
        "LOCAL_IP", _address, "this node's address, IPv4", default="found from NIC or LEADER_IP"
    ),
    Variable(
        "NIC", _interface, "this node's interface", default="found from LOCAL_IP or LEADER_IP"
    ),
    Variable(
        "DP_RPC_PORT",
        _port,
        "port of the DP coordinator",
        "--data-parallel-rpc-port",
        default="the recipe's, else 29550",
    ),
    Variable(
        "KV_PORT",
        _port,
        "first port of the KV transfer",
        default="the recipe's, else the release's",
    ),
    Variable(
        "ENGINE_ID", _text, "identity in the KV transfer", default="the recipe's, else vLLM's own"
    ),
    Variable("DP_RANK", _rank, "external data parallel: the one rank that this container serves"),
    Variable(
        "CONCURRENCY",
        _count,
        "requests expected at once, compared with max-num-seqs",
        default="the recipe's",
    ),
    Variable("PREFILL_ENDPOINTS", _endpoints, "the proxy's prefill servers, host:port,host:port"),
    Variable("DECODE_ENDPOINTS", _endpoints, "the proxy's decode servers, host:port,host:port"),
    Variable(
        "PROXY",
        _one_of("vllm-router", "example"),
        "vllm-router, or example: the release's own script",
        default="vllm-router",
    ),
    Variable("RAY_PORT", _port, "port of the Ray head", default="6379"),
    Variable("RAY_ARGS", _text, "further arguments of `ray start`, quoted as for a shell"),
    Variable(
        "PREFLIGHT",
        _one_of("enforce", "warn", "off"),
        "what a failed check does: enforce, warn or off",
        default="enforce",
    ),
    Variable(
        "WAIT_TIMEOUT",
        _seconds,
        "seconds to wait for a peer before the start; 0: do not wait",
        default="1800",
    ),
    Variable(
        "SUPERVISE",
        _switch,
        "1: add a parent that limits the drain and reports failures",
        default="0",
    ),
    Variable(
        "DRAIN_TIMEOUT",
        _seconds,
        "seconds to finish open requests after SIGTERM",
        default="30 under SUPERVISE",
    ),
    Variable(
        "JEMALLOC",
        _switch,
        "0: do not preload jemalloc for the server",
        default="1, where it is installed",
    ),
    Variable("ASCEND_PLATFORM", _text, "set by the image: a2, a3, cpu"),
    Variable(
        "VLLM_ASCEND_RELEASE", _text, "set by the image: the release, or a file of env/releases"
    ),
)
NAMES = frozenset(v.name for v in VARIABLES)
# Not one of our variables: an argument of vllm-router with the same check.
METRICS = Variable("", _port, "port of the router's metrics", "--prometheus-port")


class Settings(NamedTuple):
    """The variables' values; None where a variable is absent or empty."""

    role: str | None
    recipe: str | None
    model: str | None
    served_model_name: str | None
    port: int | None
    tp_size: int | None
    pp_size: int | None
    pcp_size: int | None
    dp_size: int | None
    dp_size_local: int | None
    nodes: int | None
    node_rank: int | None
    group: str | None
    leader_ip: str | None
    local_ip: str | None
    nic: str | None
    dp_rpc_port: int | None
    kv_port: int | None
    engine_id: str | None
    dp_rank: int | None
    concurrency: int | None
    prefill_endpoints: tuple[Endpoint, ...] | None
    decode_endpoints: tuple[Endpoint, ...] | None
    proxy: str | None
    ray_port: int | None
    ray_args: str | None
    preflight: str | None
    wait_timeout: int | None
    supervise: bool | None
    drain_timeout: int | None
    jemalloc: bool | None
    ascend_platform: str | None
    vllm_ascend_release: str | None


def read(environ: Mapping[str, str], findings: list[Finding]) -> Settings:
    """Settings from the environment. A wrong value is an error and counts as absent."""
    found: dict[str, Any] = {}
    for variable in VARIABLES:
        name = variable.name
        if not environ.get(name) and environ.get(variable.stands_in):
            name = variable.stands_in
        found[variable.name.lower()] = checked(variable, environ.get(name), name, findings)
    return Settings(**found)


def checked(variable: Variable, value: str | None, where: str, findings: list[Finding]) -> Any:
    """The value after the variable's check, None when it is absent, empty or wrong."""
    if not value:
        return None
    try:
        return variable.check(value)
    except Refused as refused:
        findings += [finding._replace(where=where) for finding in refused.findings]
        return None
