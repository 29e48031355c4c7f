"""The health of this container's server: starting, ready or broken.

Each kind of node has its own check, which takes no longer than TIMEOUT.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

from entrypoints.launch.model import Launch
from entrypoints.record import NamedTuple
from entrypoints.running import probes, procfs, server_state
from entrypoints.running.probes import Answer, Target
from entrypoints.running.procfs import Process
from entrypoints.running.server_state import Backend, ServerState

# One probe; all of them run in parallel. HEALTHCHECK allows 10 s.
TIMEOUT = 3.0

STARTING, READY, BROKEN = "starting", "ready", "broken"

# vLLM's process titles behind VLLM_PROCESS_NAME_PREFIX (vllm: v1/engine/core.py,
# v1/executor/multiproc_executor.py; setproctitle is among its requirements in every release).
_ENGINE = re.compile(r"\S*::(EngineCore|Worker)")

_ANY = ("", "0.0.0.0", "::")


class Health(NamedTuple):
    """`state`: starting, ready or broken. `details`: what was probed and what it answered."""

    state: str
    text: str
    details: Mapping[str, str]


class Machine(NamedTuple):
    """What the checks ask of this machine, replaced in tests."""

    probe: Callable[[Sequence[Target], float], list[Answer]] = probes.probe_all
    processes: Callable[[], list[Process]] = procfs.processes
    connected_to: Callable[[Sequence[int]], set[tuple[str, int]]] = procfs.connected_to
    was_ready: Callable[[ServerState], bool] = server_state.was_ready


MACHINE = Machine()


def state_of(launch: Launch) -> ServerState:
    """What to probe for a launch."""
    base = ServerState(
        role=launch.role, kind="http", host=_listens_on(launch.argv), scheme=launch.scheme
    )
    api = launch.ports.get("api")
    port = api if isinstance(api, int) else 0
    role, settings = launch.context.role, launch.context.settings
    if role.program == "proxy":
        sides = (("prefill", settings.prefill_endpoints), ("decode", settings.decode_endpoints))
        backends = [Backend(side, *endpoint) for side, ends in sides for endpoint in ends or ()]
        return base._replace(kind="proxy", port=port, backends=tuple(backends))
    if role.program == "ray":
        (head,) = launch.peers
        return base._replace(kind="ray-worker", leader_host=head.host, leader_port=head.port)
    if launch.leader:
        _, host, leader_port, _ = launch.leader
        return base._replace(kind="headless", leader_host=host, leader_port=leader_port)
    return base._replace(port=port)


def save(server: ServerState) -> None:
    """Record what `now` has to probe. Called by the process that is about to exec the server."""
    import time

    pid = os.getpid()
    server_state.save(
        server._replace(pid=pid, born=procfs.started(pid) or 0, started_at=time.time())
    )


def now(fallback: Callable[[], ServerState]) -> Health:
    """The health of the recorded server, else of `fallback()`; records when it is ready."""
    server = server_state.load() or fallback()
    found = check(server)
    if found.state == READY and server.pid:
        server_state.mark_ready(server)
    return found


def check(server: ServerState, machine: Machine = MACHINE) -> Health:
    """Probe the server. Changes nothing."""
    return _CHECKS[server.kind](server, machine)


def text(found: Health) -> str:
    """`state: text` on one line."""
    from entrypoints.findings import one_line

    return one_line(f"{found.state}: {found.text}") + "\n"


def as_json(found: Health) -> str:
    """state, text and details as a JSON object."""
    import json

    return json.dumps({**found._asdict(), "details": dict(found.details)}, indent=2) + "\n"


def _http(server: ServerState, machine: Machine) -> Health:
    target = Target(server.host, server.port, "/health", server.scheme)
    (answer,) = machine.probe([target], TIMEOUT)
    details = {str(target): _text_of(answer)}
    if not answer.error:
        return Health(READY, f"{target} answers 200", details)
    if answer.status == 503:
        return Health(BROKEN, f"the engine has died: {target} answers 503", details)
    if answer.error == probes.NO_ANSWER:
        message = f"{target} does not answer within {TIMEOUT:.0f} s: busy or stuck"
        return Health(BROKEN, message, details)
    if answer.error != probes.REFUSED:
        return Health(BROKEN, f"{target}: {answer.error}", details)
    if machine.was_ready(server):
        return Health(BROKEN, f"was ready and no longer answers: {target}", details)
    starting = f"nothing listens on port {server.port} yet{_age(server)}"
    if server.role == "ray-head":
        running = {process.name for process in machine.processes()}
        missing = [name for name in ("gcs_server", "raylet") if name not in running]
        details["missing processes"] = ", ".join(missing) or "none"
        starting += f"; no {' and no '.join(missing)} of Ray" if missing else "; Ray is running"
    return Health(STARTING, starting, details)


def _headless(server: ServerState, machine: Machine) -> Health:
    """Engines, their connection to the leader, and the leader's own health."""
    target = Target(server.leader_host, server.leader_port, "/health", server.scheme)
    engines = [p for p in machine.processes() if _ENGINE.match(p.title)]
    connected = _connected(server.leader_host, None, engines, machine)
    (answer,) = machine.probe([target], TIMEOUT)
    details = {
        "engine processes": str(len(engines)),
        "connected to the leader": "yes" if connected else "no",
        str(target): _text_of(answer),
    }
    was_ready = machine.was_ready(server)
    lacking = BROKEN if was_ready else STARTING
    if answer.status == 503:
        return Health(BROKEN, f"the leader's engine has died: {target} answers 503", details)
    if not engines:
        return Health(lacking, f"no engine process is running{_age(server)}", details)
    if not connected:
        message = f"no engine is connected to the leader {server.leader_host}{_age(server)}"
        return Health(lacking, message, details)
    if answer.error:
        what = "was ready and is not" if was_ready else "is not ready yet"
        return Health(lacking, f"the leader {what}: {target}: {answer.error}", details)
    return Health(READY, f"{len(engines)} engine processes, {target} answers 200", details)


def _ray_worker(server: ServerState, machine: Machine) -> Health:
    raylets = [p for p in machine.processes() if p.name == "raylet"]
    connected = _connected(server.leader_host, server.leader_port, raylets, machine)
    head = f"{server.leader_host}:{server.leader_port}"
    details = {"raylets": str(len(raylets)), f"connected to {head}": "yes" if connected else "no"}
    lacking = BROKEN if machine.was_ready(server) else STARTING
    if not raylets:
        return Health(lacking, f"no raylet is running{_age(server)}", details)
    if not connected:
        return Health(lacking, f"the raylet is not connected to the head {head}", details)
    return Health(READY, f"the raylet is connected to the head {head}", details)


def _proxy(server: ServerState, machine: Machine) -> Health:
    """The example proxy has no /health (vllm-ascend v0.13.0rc1:
    examples/disaggregated_prefill_v1/load_balance_proxy_server_example.py): 404 is an answer.
    """
    own = Target(server.host, server.port, "/health", server.scheme)
    targets = [Target(b.host, b.port, "/health") for b in server.backends]
    answer, *answers = machine.probe([own, *targets], TIMEOUT)
    details = {
        str(t): _text_of(a) for t, a in zip((own, *targets), (answer, *answers), strict=True)
    }
    if answer.error and answer.status != 404:
        if answer.error == probes.REFUSED and not machine.was_ready(server):
            return Health(STARTING, f"nothing listens on port {server.port} yet", details)
        return Health(BROKEN, f"the proxy does not answer: {own}: {answer.error}", details)
    missing: dict[str, list[str]] = {}
    for backend, found in zip(server.backends, answers, strict=True):
        if found.error:
            words = f"{backend.host}:{backend.port} {found.error}"
            missing.setdefault(backend.side, []).append(words)
    sides = [backend.side for backend in server.backends]
    dead = [side for side, words in missing.items() if len(words) == sides.count(side)]
    if dead:
        texts = [f"no {side} server answers: {', '.join(missing[side])}" for side in dead]
        return Health(BROKEN, "; ".join(texts), details)
    if missing:
        texts = [f"{side}: {', '.join(words)}" for side, words in missing.items()]
        return Health(READY, f"the proxy answers; missing servers: {'; '.join(texts)}", details)
    return Health(READY, f"the proxy and {len(answers)} servers answer", details)


_CHECKS = {"http": _http, "headless": _headless, "ray-worker": _ray_worker, "proxy": _proxy}


def _connected(host: str, port: int | None, owners: Sequence[Process], machine: Machine) -> bool:
    """Whether a process has a connection to the host, and to the port if given."""
    far = machine.connected_to([process.pid for process in owners])
    addresses = _addresses(host)
    return any(address in addresses and port in (None, at) for address, at in far)


def _addresses(host: str) -> set[str]:
    """The host's IPv4 addresses, looked up as the servers do."""
    import socket

    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {str(address[0]) for *_, address in found}


def _listens_on(argv: Sequence[str]) -> str:
    """The address to probe: 127.0.0.1, unless --host names one address."""
    host = ""
    for word, following in zip(argv, (*argv[1:], ""), strict=True):
        if word == "--host":
            host = following
    return "127.0.0.1" if host in _ANY else host


def _text_of(answer: Answer) -> str:
    return str(answer.status or answer.error or "connected")


def _age(server: ServerState) -> str:
    import time

    return f", {time.time() - server.started_at:.0f} s after the start" if server.started_at else ""
