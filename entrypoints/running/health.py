"""How the server of this container is: starting, ready or broken, in one line.

Each kind of node has a check. None waits longer than TIMEOUT.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

from entrypoints.launch.model import Launch
from entrypoints.record import NamedTuple
from entrypoints.running import procfs, reach, watched
from entrypoints.running.procfs import Process
from entrypoints.running.reach import Answer, Target
from entrypoints.running.watched import Backend, Watch

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
    """This machine as questions, so that tests can answer them."""

    ask: Callable[[Sequence[Target], float], list[Answer]] = reach.attempts
    processes: Callable[[], list[Process]] = procfs.processes
    connected_to: Callable[[Sequence[int]], set[tuple[str, int]]] = procfs.connected_to
    was_ready: Callable[[Watch], bool] = watched.was_ready


MACHINE = Machine()


def watch(launch: Launch) -> Watch:
    """What is to be probed for a launch."""
    base = Watch(role=launch.role, kind="http", host=_listens_on(launch.argv), scheme=launch.scheme)
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


def save(noted: Watch) -> None:
    """Notes for `now` what is to be probed, by the process that is about to become the server."""
    import time

    pid = os.getpid()
    watched.save(noted._replace(pid=pid, born=procfs.started(pid) or 0, started_at=time.time()))


def now(fallback: Callable[[], Watch]) -> Health:
    """The health of what was noted, else of `fallback()`; notes when it is ready."""
    noted = watched.load() or fallback()
    found = check(noted)
    if found.state == READY and noted.pid:
        watched.mark_ready(noted)
    return found


def check(noted: Watch, machine: Machine = MACHINE) -> Health:
    """Probes what the watch names. Changes nothing."""
    return _CHECKS[noted.kind](noted, machine)


def text(found: Health) -> str:
    """`state: text` on one line."""
    from entrypoints.findings import one_line

    return one_line(f"{found.state}: {found.text}") + "\n"


def as_json(found: Health) -> str:
    """state, text and details as a JSON object."""
    import json

    return json.dumps({**found._asdict(), "details": dict(found.details)}, indent=2) + "\n"


def _http(noted: Watch, machine: Machine) -> Health:
    target = Target(noted.host, noted.port, "/health", noted.scheme)
    (answer,) = machine.ask([target], TIMEOUT)
    details = {str(target): _word(answer)}
    if not answer.error:
        return Health(READY, f"{target} answers 200", details)
    if answer.status == 503:
        return Health(BROKEN, f"the engine has died: {target} answers 503", details)
    if answer.error == reach.SILENT:
        message = f"{target} does not answer within {TIMEOUT:.0f} s: busy or stuck"
        return Health(BROKEN, message, details)
    if answer.error != reach.REFUSED:
        return Health(BROKEN, f"{target}: {answer.error}", details)
    if machine.was_ready(noted):
        return Health(BROKEN, f"was ready and no longer answers: {target}", details)
    starting = f"nothing listens on port {noted.port} yet{_age(noted)}"
    if noted.role == "ray-head":
        running = {process.name for process in machine.processes()}
        missing = [name for name in ("gcs_server", "raylet") if name not in running]
        details["missing processes"] = ", ".join(missing) or "none"
        starting += f"; no {' and no '.join(missing)} of Ray" if missing else "; Ray is running"
    return Health(STARTING, starting, details)


def _headless(noted: Watch, machine: Machine) -> Health:
    """Engines, their connection to the leader, and the leader's own health."""
    target = Target(noted.leader_host, noted.leader_port, "/health", noted.scheme)
    engines = [p for p in machine.processes() if _ENGINE.match(p.title)]
    connected = _connected(noted.leader_host, None, engines, machine)
    (answer,) = machine.ask([target], TIMEOUT)
    details = {
        "engine processes": str(len(engines)),
        "connected to the leader": "yes" if connected else "no",
        str(target): _word(answer),
    }
    was_ready = machine.was_ready(noted)
    lacking = BROKEN if was_ready else STARTING
    if answer.status == 503:
        return Health(BROKEN, f"the leader's engine has died: {target} answers 503", details)
    if not engines:
        return Health(lacking, f"no engine process is running{_age(noted)}", details)
    if not connected:
        message = f"no engine is connected to the leader {noted.leader_host}{_age(noted)}"
        return Health(lacking, message, details)
    if answer.error:
        what = "was ready and is not" if was_ready else "is not ready yet"
        return Health(lacking, f"the leader {what}: {target}: {answer.error}", details)
    return Health(READY, f"{len(engines)} engine processes, {target} answers 200", details)


def _ray_worker(noted: Watch, machine: Machine) -> Health:
    raylets = [p for p in machine.processes() if p.name == "raylet"]
    connected = _connected(noted.leader_host, noted.leader_port, raylets, machine)
    head = f"{noted.leader_host}:{noted.leader_port}"
    details = {"raylets": str(len(raylets)), f"connected to {head}": "yes" if connected else "no"}
    lacking = BROKEN if machine.was_ready(noted) else STARTING
    if not raylets:
        return Health(lacking, f"no raylet is running{_age(noted)}", details)
    if not connected:
        return Health(lacking, f"the raylet is not connected to the head {head}", details)
    return Health(READY, f"the raylet is connected to the head {head}", details)


def _proxy(noted: Watch, machine: Machine) -> Health:
    """The example proxy has no /health (vllm-ascend v0.13.0rc1:
    examples/disaggregated_prefill_v1/load_balance_proxy_server_example.py): 404 is an answer.
    """
    own = Target(noted.host, noted.port, "/health", noted.scheme)
    targets = [Target(b.host, b.port, "/health") for b in noted.backends]
    answer, *answers = machine.ask([own, *targets], TIMEOUT)
    details = {str(t): _word(a) for t, a in zip((own, *targets), (answer, *answers), strict=True)}
    if answer.error and answer.status != 404:
        if answer.error == reach.REFUSED and not machine.was_ready(noted):
            return Health(STARTING, f"nothing listens on port {noted.port} yet", details)
        return Health(BROKEN, f"the proxy does not answer: {own}: {answer.error}", details)
    missing: dict[str, list[str]] = {}
    for backend, found in zip(noted.backends, answers, strict=True):
        if found.error:
            words = f"{backend.host}:{backend.port} {found.error}"
            missing.setdefault(backend.side, []).append(words)
    sides = [backend.side for backend in noted.backends]
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
    """Whether one of the processes has a connection to the host, and to the port if given."""
    far = machine.connected_to([process.pid for process in owners])
    addresses = _addresses(host)
    return any(address in addresses and port in (None, at) for address, at in far)


def _addresses(host: str) -> set[str]:
    """The host's IPv4 addresses; looked up like the servers do, and only when it is a name."""
    import socket

    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {str(address[0]) for *_, address in found}


def _listens_on(argv: Sequence[str]) -> str:
    """Where to ask: 127.0.0.1, unless --host names one address."""
    host = ""
    for word, following in zip(argv, (*argv[1:], ""), strict=True):
        if word == "--host":
            host = following
    return "127.0.0.1" if host in _ANY else host


def _word(answer: Answer) -> str:
    return str(answer.status or answer.error or "connected")


def _age(noted: Watch) -> str:
    import time

    return f", {time.time() - noted.started_at:.0f} s after the start" if noted.started_at else ""
