"""The variables the operator sets, read once and checked one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from entrypoints.problems import Problem
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_OCTET = re.compile(r"0|[1-9][0-9]{0,2}")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")


def _text(value: str) -> str:
    return value


def _model(value: str) -> str:
    if value.startswith("-"):
        raise ValueError("starts with a dash; give a model name or a path")
    return value


def _number(value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
        raise ValueError(f"is not a whole number; give one from {low} to {high}")
    return int(value)


def _port(value: str) -> int:
    if value.startswith("tcp://"):
        raise ValueError(
            "is not a port but what Kubernetes sets for a Service of that name;"
            " set enableServiceLinks: false in the pod, or rename the Service"
        )
    return _number(value, 1, 65535)


def _count(value: str) -> int:
    return _number(value, 1, 65535)


def _rank(value: str) -> int:
    return _number(value, 0, 65535)


def _address(value: str) -> str:
    """HCCL and the Ascend connectors take IPv4 only (vllm-ascend#4103)."""
    parts = value.split(".")
    if len(parts) != 4 or any(not _OCTET.fullmatch(p) or int(p) > 255 for p in parts):
        raise ValueError("is not an IPv4 address; give one such as 10.0.0.1")
    return value


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("is no IPv4 address or host name; give the leader's address")
    return value


def _interface(value: str) -> str:
    if not re.fullmatch(r"[^\s/]{1,15}", value):
        raise ValueError("is no interface name; give one such as eth0")
    return value


def _one_of(*words: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in words:
            raise ValueError(f"is not known; give {' or '.join(words)}")
        return value

    return check


def _switch(value: str) -> bool:
    if value.lower() not in ("0", "1", "true", "false", "on", "off"):
        raise ValueError("is no switch; give 1 or 0")
    return value.lower() in ("1", "true", "on")


def _seconds(value: str) -> int:
    return _number(value, 0, 604800)


def _endpoints(value: str) -> tuple[Endpoint, ...]:
    """`host:port` separated by commas; `http://` may stand before each."""
    found = []
    for word in value.split(","):
        host, _, port = word.strip().removeprefix("http://").rstrip("/").rpartition(":")
        try:
            found.append(Endpoint(_host(host), _number(port, 1, 65535)))
        except ValueError:
            raise ValueError("is no list of endpoints; give host:port,host:port") from None
    return tuple(found)


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Variable(NamedTuple):
    """One variable: how it is checked, the flag that says the same, and its stand-in in a pod.

    `default`: what holds without it; empty where that is nothing.
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
        "ENGINE_ID",
        _text,
        "identity in the KV transfer",
        default="the recipe's, else vLLM's own",
    ),
    Variable("DP_RANK", _rank, "external data parallel: the one rank that this container serves"),
    Variable(
        "CONCURRENCY",
        _count,
        "requests expected at once, held against max-num-seqs",
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
        "seconds to wait for a peer before the start; 0: do not",
        default="1800",
    ),
    Variable(
        "SUPERVISE",
        _switch,
        "1: keep a parent that bounds the drain and tells failures",
        default="0",
    ),
    Variable(
        "DRAIN_TIMEOUT",
        _seconds,
        "seconds that open requests have after SIGTERM",
        default="30 under SUPERVISE",
    ),
    Variable(
        "JEMALLOC",
        _switch,
        "0: do not preload jemalloc for the server",
        default="1, where it is installed",
    ),
    Variable("ASCEND_PLATFORM", _text, "set by the image: a2, a3, cpu"),
    Variable("VLLM_ASCEND_RELEASE", _text, "set by the image: the release, or what has its facts"),
)
NAMES = frozenset(v.name for v in VARIABLES)
# No variable of ours, but an argument of vllm-router that is checked alike.
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


def read(environ: Mapping[str, str], problems: list[Problem]) -> Settings:
    """Settings from the environment. A wrong value is a problem and counts as absent."""
    found: dict[str, Any] = {}
    for variable in VARIABLES:
        name = variable.name
        if not environ.get(name) and environ.get(variable.stands_in):
            name = variable.stands_in
        found[variable.name.lower()] = checked(variable, environ.get(name), name, problems)
    return Settings(**found)


def checked(variable: Variable, value: str | None, where: str, problems: list[Problem]) -> Any:
    """The value after the variable's check, None when it is absent, empty or wrong."""
    if not value:
        return None
    try:
        return variable.check(value)
    except ValueError as error:
        message, _, fix = str(error).partition("; ")
        problems.append(Problem("bad-value", where, f"{value!r} {message}", fix))
        return None
