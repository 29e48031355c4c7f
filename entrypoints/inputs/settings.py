"""The variables that the operator sets, each with its check."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from entrypoints.findings import Finding, Refused
from entrypoints.inputs import data
from entrypoints.messages import refused
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_HOST = r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?"


def _number(value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
        raise refused("bad-value.not-a-number", value=value, low=low, high=high)
    return int(value)


def _port(value: str) -> int:
    if value.startswith("tcp://"):
        raise refused("bad-value.service-port", value=value)
    return _number(value, 1, 65535)


def _matching(pattern: str, message: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.DOTALL):
            raise refused(f"bad-value.{message}", value=value)
        return value

    return check


_host = _matching(_HOST, "not-a-host")


def _switch(value: str) -> bool:
    if value.lower() not in ("0", "1", "true", "false", "on", "off"):
        raise refused("bad-value.not-a-switch", value=value)
    return value.lower() in ("1", "true", "on")


def _endpoints(value: str) -> tuple[Endpoint, ...]:
    """`host:port` separated by commas, each optionally after `http://`."""
    found = []
    for word in value.split(","):
        host, _, port = word.strip().removeprefix("http://").rstrip("/").rpartition(":")
        try:
            found.append(Endpoint(_host(host), _number(port, 1, 65535)))
        except Refused:
            raise refused("bad-value.not-endpoints", value=value) from None
    return tuple(found)


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


# The kinds of env/settings.yaml.
_KINDS: Mapping[str, Callable[[str], Any]] = {
    "text": str,
    "model": _matching("[^-].*", "starts-with-dash"),
    "port": _port,
    "count": partial(_number, low=1, high=65535),
    "rank": partial(_number, low=0, high=65535),
    # HCCL and the Ascend connectors take IPv4 only (vllm-ascend#4103).
    "address": _matching(rf"{_OCTET}(\.{_OCTET}){{3}}", "not-an-address"),
    "host": _host,
    "interface": _matching(r"[^\s/]{1,15}", "not-an-interface"),
    "switch": _switch,
    "seconds": partial(_number, low=0, high=604800),
    "endpoints": _endpoints,
}


class Variable(NamedTuple):
    """One variable: an entry of env/settings.yaml, which explains the fields."""

    name: str
    kind: str | list[str]
    meaning: str
    flag: str = ""
    lws_variable: str = ""
    default: str = ""

    def check(self, value: str) -> Any:
        """The value as its kind. Raises Refused."""
        if isinstance(self.kind, str):
            return _KINDS[self.kind](value)
        if value not in self.kind:
            raise refused("bad-value.not-a-choice", value=value, known=" or ".join(self.kind))
        return value


VARIABLES = tuple(
    Variable(name, **entry) for name, entry in data.read(data.path_of("settings.yaml")).items()
)
NAMES = frozenset(v.name for v in VARIABLES)
# Not one of our variables: an argument of vllm-router with the same check.
METRICS = Variable("", "port", "port of the router's metrics", "--prometheus-port")


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
        if not environ.get(name) and environ.get(variable.lws_variable):
            name = variable.lws_variable
        found[variable.name.lower()] = checked(variable, environ.get(name), name, findings)
    return Settings(**found)


def checked(variable: Variable, value: str | None, where: str, findings: list[Finding]) -> Any:
    """The value after the variable's check, None when it is absent, empty or wrong."""
    if not value:
        return None
    try:
        return variable.check(value)
    except Refused as error:
        findings += [one._replace(where=where) for one in error.findings]
        return None
