"""Run a rehearsal: start the nodes and the cluster, send requests, inject faults, and report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from docker import APIClient, DockerClient
from docker.errors import DockerException
from requests.exceptions import RequestException

from clusters.deployment import Deployment
from clusters.live.engine import Engine as Docker
from clusters.live.table import Progress, Row
from clusters.live.up import Options as UpOptions
from clusters.live.up import up
from clusters.model import Cluster
from common.errors import EX_DATAERR, EX_UNAVAILABLE, UserError, user_error
from validation.endpoint.client import Endpoint
from validation.endpoint.verify import FAILED, OK, Result, verify
from validation.rehearsal.deployment import KEY, rehearsal_deployment
from validation.rehearsal.engine import Engine
from validation.rehearsal.evidence import all_counters, check_work
from validation.rehearsal.faults import Fault, select
from validation.rehearsal.injection import inject
from validation.rehearsal.load_generator import LoadGenerator, ask, authorization
from validation.rehearsal.network import RehearsalNetwork, rehearsal_network
from validation.rehearsal.parallel_sizes import Machine
from validation.rehearsal.rehearsal_report import CHECKS, Event, RehearsalReport, outcome_line

# Rounds of requests until the router has used every server; requests for each server; threads.
ROUNDS, REQUESTS, THREADS = 3, 4, 8
# Warm-up requests for each server, at most one for each data parallel rank; how many may fail.
WARM_UP, WARM_UP_FAILURES = 2, 5
LOG_LINES = 400
DOCKER_TIMEOUT = 300  # seconds; on a busy machine, removing a container takes more than 60


@dataclass(frozen=True)
class Options:
    """`faults`: names to inject, empty for all, None for none.

    `timeout`: seconds until all containers are healthy, None for the engine's default.
    """

    faults: tuple[str, ...] | None = None
    timeout: float | None = None
    keep: bool = False


def rehearse(cluster: Cluster, engine: Engine, options: Options, out: TextIO) -> RehearsalReport:
    """Rehearse the cluster on an engine. Failures after the start are in the report.

    Raises UserError: 64 for unknown faults, 65 for a cluster that cannot be rehearsed, 69 without
    Docker or the image.
    """
    try:
        api: APIClient = DockerClient.from_env(timeout=DOCKER_TIMEOUT).api
        api.ping()
    except DockerException as error:
        raise user_error(
            "the Docker engine", str(error), "is it running?", EX_UNAVAILABLE
        ) from None
    check_image(api, engine)
    name = f"{cluster.name}-rehearsal"
    report = RehearsalReport(cluster.name, time.monotonic())
    with (
        rehearsal_network(api, name, engine, options.keep) as network,
        _Recorder(out, report) as view,
    ):
        local = rehearsal_deployment(cluster, network.subnet, engine, _machine(api))
        report.changes, report.deployment = local.changes, local.deployment
        faults = [] if options.faults is None else select(local.deployment, options.faults)
        try:
            _run(local.deployment, network, options, faults, report, view)
        except UserError as error:
            report.failure = "; ".join(map(str, error.findings))
        except (DockerException, RequestException) as error:
            report.failure = f"the Docker engine: {error}"
        finally:
            report.logs = _logs(api, local.deployment)
            report.seconds = time.monotonic() - report.begun
    return report


def check_image(api: APIClient, engine: Engine) -> None:
    """Raise UserError: 69 if Docker lacks the engine's image, 64 if its labels differ."""
    fix = f"build it with `{engine.build_command}`, or give another one with --image"
    if Docker(api).image(engine.image) is None:
        raise user_error("--image", f"{engine.image} is not in Docker", fix, EX_UNAVAILABLE)
    labels = api.inspect_image(engine.image)["Config"].get("Labels") or {}
    for name, value in engine.labels.items():
        if labels.get(name) != value:
            found = labels.get(name, "missing")
            what = f"the label {name} of {engine.image} is {found}, not {value}"
            raise user_error("--image", what, fix)


def _machine(api: APIClient) -> Machine:
    """The machine of the Docker engine, which may be remote."""
    info = api.info()
    return Machine(info["NCPU"], info["MemTotal"] / 2**30)


def _run(
    deployment: Deployment,
    network: RehearsalNetwork,
    options: Options,
    faults: Sequence[Fault],
    report: RehearsalReport,
    view: _Recorder,
) -> None:
    used = {one.node.name for one in deployment.containers}
    for node in deployment.cluster.nodes.values():
        if node.name in used:
            network.add(node)
    view.note("", f"{len(used)} nodes on {network.subnet}")
    secrets = {secret.env: KEY for secret in deployment.cluster.secrets}
    start = UpOptions(npus=False, timeout=options.timeout or network.engine.timeout)
    up(deployment, secrets, view, start, network.docker)
    report.ready = view.note("", "ready")
    key = KEY if "VLLM_API_KEY" in secrets else ""
    url, model = endpoint(deployment), _model(deployment)
    _checks(deployment, url, model, key, view)
    for fault in faults:
        view.note("", fault.name)
        load = LoadGenerator(url, model, key, network.engine.request_interval)
        outcome = inject(fault, network, load, deployment, view)
        report.outcomes.append(outcome)
        view.say(outcome_line(outcome))


def _checks(deployment: Deployment, url: str, model: str, key: str, view: _Recorder) -> None:
    count = WARM_UP * max(1, len(all_counters(deployment, key)))
    view.checked(warm_up(url, model, key, count))
    before = all_counters(deployment, key)
    for result in verify(Endpoint(url, key), model):
        view.checked(result)
    evidence = check_work(deployment, before, all_counters(deployment, key))
    for round in range(ROUNDS):
        if all(result.state == OK for result in evidence):
            break
        _send(url, model, key, round, REQUESTS * len(before))
        evidence = check_work(deployment, before, all_counters(deployment, key))
    for result in evidence:
        view.checked(result)
    view.note("", "verified")


def warm_up(url: str, model: str, key: str, count: int) -> Result:
    """Send requests one by one until `count` in a row succeed.

    Servers connect to each other on the first requests, which a busy machine may be too slow for:
    the handshake of NixlConnector times out after 5 s (vllm v0.32.0:
    vllm/distributed/kv_transfer/kv_connector/v1/nixl/base_worker.py:1044).
    """
    headers = authorization(key)
    begun, errors, streak = time.monotonic(), list[str](), 0
    while streak < count and len(errors) < WARM_UP_FAILURES:
        result = ask(url, model, f"first request {streak}.{len(errors)}", headers)
        streak = streak + 1 if result.ok else 0
        if not result.ok:
            errors.append(result.said or str(result.status))
    seconds = time.monotonic() - begun
    message = f"{streak} answered in a row" + (f" after {len(errors)} failed" if errors else "")
    if streak < count:
        message += f", the last: {errors[-1]}"
    return Result("first requests", OK if streak == count else FAILED, message, seconds)


def _send(url: str, model: str, key: str, round: int, count: int) -> None:
    """Send concurrent requests with different prefixes: a router keeps equal prefixes together."""
    headers = authorization(key)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda n: ask(url, model, f"{n}.{round} request", headers), range(count)))


def endpoint(deployment: Deployment) -> str:
    """The URL for clients: the proxy, or the first server. Raises UserError (65) without either."""
    proxy = deployment.proxy
    if proxy and proxy.launch:
        return f"http://{proxy.node.address}:{proxy.launch.ports['api']}"
    ends = [end for group in deployment.groups for end in group.endpoints]
    if not ends:
        fix = "remove `command` from an instance"
        raise user_error(
            deployment.cluster.file, "has no server to send requests to", fix, EX_DATAERR
        )
    host, port = ends[0]
    return f"http://{host}:{port}"


def _model(deployment: Deployment) -> str:
    """The name of the model for clients."""
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


class _Recorder(Progress):
    """A view that also records when each container changed its state."""

    def __init__(self, out: TextIO, report: RehearsalReport) -> None:
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
