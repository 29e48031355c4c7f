"""A rehearsal from beginning to end: the nodes, the cluster, requests, proof, faults, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

from docker import APIClient, DockerClient
from docker.errors import DockerException
from requests.exceptions import RequestException

from clusters.deployment import Deployment
from clusters.live.engine import Engine
from clusters.live.up import Options as Start
from clusters.live.up import up
from clusters.live.view import Row, View
from clusters.model import Cluster
from common.errors import EX_DATAERR, EX_UNAVAILABLE, UserError, user_error
from validation.endpoint.client import Endpoint
from validation.endpoint.verify import FAILED, OK, Result, verify
from validation.rehearsal import proof
from validation.rehearsal.cast import KEY, cast
from validation.rehearsal.engines import Engine as Runs
from validation.rehearsal.faults import Fault, chosen
from validation.rehearsal.inflict import inflict
from validation.rehearsal.load import Load, ask, authorization
from validation.rehearsal.outcome import Outcome, told
from validation.rehearsal.sizes import Machine
from validation.rehearsal.stage import Stage, stage

# A router chooses by itself: rounds of requests, so many for each server, until all took part.
ROUNDS, EACH, AT_ONCE = 3, 4, 8
# First requests of each server, of which each data parallel rank may get one; how many may fail.
FIRST, WARM = 2, 5
LOG_LINES = 400
CHECKS = "checks"
ENGINE_TIMEOUT = 300  # seconds; on a busy machine removing a container takes more than docker's 60


@dataclass(frozen=True)
class Event:
    """Something that happened, `at` seconds after the beginning, and how long it had taken by then.

    `who`: a container, CHECKS, or empty.
    """

    at: float
    who: str
    what: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Options:
    """`timeout`: seconds to be healthy, None for what the engine takes.

    `faults`: names of those that are done, empty for all, None for none.
    """

    faults: tuple[str, ...] | None = None
    timeout: float | None = None
    keep: bool = False


@dataclass
class Report:
    """What a rehearsal has shown. `begun`: on the clock of the requests (time.monotonic).

    `ready`: seconds until all was healthy. `failure`: why it ended early.
    """

    name: str
    begun: float
    changes: tuple[str, ...] = ()
    events: list[Event] = field(default_factory=list)
    checks: list[Result] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    ready: float | None = None
    failure: str = ""
    deployment: Deployment | None = None

    @property
    def passed(self) -> bool:
        checked = bool(self.checks) and all(one.state != FAILED for one in self.checks)
        return not self.failure and checked and all(one.good for one in self.outcomes)


def rehearse(cluster: Cluster, runs: Runs, options: Options, out: TextIO) -> Report:
    """Run it on an engine and say how it went; what fails on the way is in the report.

    Raises UserError (64) for faults that it has not, 65 for a cluster that cannot be rehearsed, 69
    without an engine or the image.
    """
    try:
        api: APIClient = DockerClient.from_env(timeout=ENGINE_TIMEOUT).api
        api.ping()
    except DockerException as error:
        raise user_error(
            "the Docker engine", str(error), "is it running?", EX_UNAVAILABLE
        ) from None
    check_image(api, runs)
    name = f"{cluster.name}-rehearsal"
    report = Report(cluster.name, time.monotonic())
    with stage(api, name, runs, options.keep) as place, _Recorder(out, report) as view:
        made = cast(cluster, place.network, runs, _machine(api))
        report.changes, report.deployment = made.changes, made.deployment
        ills = [] if options.faults is None else chosen(made.deployment, options.faults)
        try:
            _run(made.deployment, place, options, ills, report, view)
        except UserError as error:
            report.failure = "; ".join(map(str, error.findings))
        except (DockerException, RequestException) as error:
            report.failure = f"the Docker engine: {error}"
        finally:
            report.logs = _logs(api, made.deployment)
            report.seconds = time.monotonic() - report.begun
    return report


def check_image(api: APIClient, runs: Runs) -> None:
    """Raises UserError: 69 when the engine does not have the image, 64 when it is another one."""
    fix = f"make it with `{runs.build}`, or give another by --image"
    if Engine(api).image(runs.image) is None:
        raise user_error("--image", f"{runs.image} is not in the engine", fix, EX_UNAVAILABLE)
    has = api.inspect_image(runs.image)["Config"].get("Labels") or {}
    for name, value in runs.labels.items():
        if has.get(name) != value:
            what = f"the label {name} of {runs.image} is {has.get(name, 'missing')}, not {value}"
            raise user_error("--image", what, fix)


def _machine(api: APIClient) -> Machine:
    """The engine's, which need not be this one."""
    info = api.info()
    return Machine(info["NCPU"], info["MemTotal"] / 2**30)


def _run(
    deployment: Deployment,
    place: Stage,
    options: Options,
    ills: Sequence[Fault],
    report: Report,
    view: _Recorder,
) -> None:
    used = {one.node.name for one in deployment.containers}
    for node in deployment.cluster.nodes.values():
        if node.name in used:
            place.place(node)
    view.note("", f"{len(used)} nodes on {place.network}")
    secrets = {secret.env: KEY for secret in deployment.cluster.secrets}
    start = Start(npus=False, timeout=options.timeout or place.runs.timeout)
    up(deployment, secrets, view, start, place.engine)
    report.ready = view.note("", "ready")
    key = KEY if "VLLM_API_KEY" in secrets else ""
    url, model = endpoint(deployment), _model(deployment)
    _checks(deployment, url, model, key, view)
    for fault in ills:
        view.note("", fault.name)
        outcome = inflict(fault, place, Load(url, model, key, place.runs.every), deployment, view)
        report.outcomes.append(outcome)
        view.say(f"{'ok' if outcome.good else 'failed':8} {outcome.fault}: {told(outcome)}")


def _checks(deployment: Deployment, url: str, model: str, key: str, view: _Recorder) -> None:
    first = warm(url, model, key, FIRST * max(1, len(proof.work(deployment, key))))
    view.checked(first)
    before = proof.work(deployment, key)
    for result in verify(Endpoint(url, key), model):
        view.checked(result)
    proven = proof.prove(deployment, before, proof.work(deployment, key))
    for turn in range(ROUNDS):
        if all(result.state == OK for result in proven):
            break
        _send(url, model, key, turn, EACH * len(before))
        proven = proof.prove(deployment, before, proof.work(deployment, key))
    for result in proven:
        view.checked(result)
    view.note("", "verified")


def warm(url: str, model: str, key: str, count: int) -> Result:
    """Requests one after the other, until so many in a row are answered.

    With the first ones servers connect to each other, and a busy machine may be too slow for that:
    the handshake of NixlConnector has 5 s (vllm v0.32.0:
    vllm/distributed/kv_transfer/kv_connector/v1/nixl/base_worker.py:1044).
    """
    headers = authorization(key)
    begun, failed, row = time.monotonic(), list[str](), 0
    while row < count and len(failed) < WARM:
        one = ask(url, model, f"first request {row}.{len(failed)}", headers)
        row = row + 1 if one.ok else 0
        if not one.ok:
            failed.append(one.said or str(one.status))
    seconds = time.monotonic() - begun
    said = f"{row} answered in a row" + (f" after {len(failed)} failed" if failed else "")
    if row < count:
        said += f", the last: {failed[-1]}"
    return Result("first requests", OK if row == count else FAILED, said, seconds)


def _send(url: str, model: str, key: str, turn: int, count: int) -> None:
    """Requests at once, each with a beginning of its own: a router keeps alike ones together."""
    headers = authorization(key)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda n: ask(url, model, f"{n}.{turn} request", headers), range(count)))


def endpoint(deployment: Deployment) -> str:
    """Where clients send: the proxy, or the first server. Raises UserError (65) without any."""
    proxy = deployment.proxy
    if proxy and proxy.launch:
        return f"http://{proxy.node.address}:{proxy.launch.ports['api']}"
    ends = [end for group in deployment.groups for end in group.endpoints]
    if not ends:
        fix = "leave `command` out of one instance"
        raise user_error(
            deployment.cluster.file, "has no server that could be asked", fix, EX_DATAERR
        )
    host, port = ends[0]
    return f"http://{host}:{port}"


def _model(deployment: Deployment) -> str:
    """The name that clients use."""
    for container in deployment.containers:
        argv = list(container.launch.argv) if container.launch else []
        if "--served-model-name" in argv:
            return argv[argv.index("--served-model-name") + 1]
        if argv[:2] == ["vllm", "serve"]:
            return argv[2]
    return ""


def _logs(api: APIClient, deployment: Deployment) -> dict[str, str]:
    found = {}
    for one in deployment.containers:
        with suppress(DockerException):
            found[one.name] = api.logs(one.name, tail=LOG_LINES).decode(errors="replace")
    return found


class _Recorder(View):
    """Shows what a view shows, and keeps when each container came into which state."""

    def __init__(self, out: TextIO, report: Report) -> None:
        super().__init__(out)
        self._report = report
        self._states: dict[str, str] = {}

    def __enter__(self) -> _Recorder:
        super().__enter__()
        return self

    def note(self, who: str, what: str, seconds: float = 0.0) -> float:
        at = time.monotonic() - self._report.begun
        self._report.events.append(Event(at, who, what, seconds))
        return at

    def checked(self, result: Result) -> None:
        self._report.checks.append(result)
        self.note(CHECKS, f"{result.state}: {result.name}", result.seconds)
        self.say(f"{result.state:8} {result.name}: {result.message}")

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            state = f"{row.state} {row.health}".strip()
            if self._states.get(row.container, "waiting") != state:
                self._states[row.container] = state
                self.note(row.container, state)
        super().show(rows)
