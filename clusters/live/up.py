"""Starts a cluster: all of it, or nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from clusters.deployment import Deployment
from clusters.live.config import container_configs
from clusters.live.engine import (
    Connect,
    ContainerInfo,
    Engine,
    EngineError,
    Rejected,
    Unreachable,
    connect,
    connect_all,
)
from clusters.live.failure import failure_reason
from clusters.live.parallel import each
from clusters.live.stop import Target, stop_all
from clusters.live.table import WAITING, Progress, Row, row
from clusters.runtime.spec import CLUSTER, DIGEST, NODE, Spec, specs, start_order
from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, Finding, UserError

INTERVAL = 1.0  # seconds between two polls
MIN_UPTIME = 3.0  # seconds that a container without a HEALTHCHECK must run
MAX_SILENCE = 30.0  # seconds without an answer of an engine before the start fails
CALL = "ascend.start"  # label: the call that started the container
LOG_LINES = 20  # of a container that failed


@dataclass(frozen=True)
class Options:
    """`npus`: false leaves out devices and driver. `detach`: do not wait until all are healthy."""

    npus: bool = True
    detach: bool = False
    timeout: float = 1800.0


@dataclass
class Step:
    """One container. `info`: from the last poll. `why`: reason to start it; empty to keep it.

    `image`: id of its image. `restarts`: its restart count before this call.
    `at`: when this call started it. `silent`: since when its engine does not answer.
    """

    spec: Spec
    node: str
    group: str
    engine: Engine
    body: Mapping[str, Any]
    info: ContainerInfo | None = None
    image: str = ""
    why: str = ""
    restarts: int = 0
    at: float | None = None
    silent: float | None = None
    log: str = ""

    @property
    def where(self) -> str:
        return f"{self.node}: {self.spec.name}"

    @property
    def current(self) -> bool:
        """Whether it matches the file: kept, or started by this call."""
        return not self.why or self.at is not None

    def row(self) -> Row:
        if not self.current:
            return Row(self.node, self.spec.name, WAITING)
        return row(self.node, self.spec.name, self.info, self.log)


class StartFailed(Exception):
    """Ends the start. `step`: the container whose last log lines to show."""

    def __init__(
        self, *findings: Finding, step: Step | None = None, code: int = EX_SOFTWARE
    ) -> None:
        self.findings, self.step, self.code = findings, step, code


@dataclass(frozen=True)
class Clock:
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def up(
    deployment: Deployment,
    environ: Mapping[str, str],
    view: Progress,
    options: Options = Options(),
    connect: Connect = connect,
    clock: Clock = Clock(),
) -> list[Row]:
    """Start every container that does not run as in the file; returns the state of all.

    `deployment`: without errors. Raises UserError before anything is started: for secrets and
    options (65), engines, names and images (69). Later, after removing what this call started: for
    the first container that fails (70), or for those that are not healthy in time (69).
    """
    steps = _steps(deployment, environ, options, connect)
    _pull_images(steps, view)
    for group in dict.fromkeys(step.group for step in steps):
        _decide_starts([step for step in steps if step.group == group])
    _announce(deployment, steps, view)
    start = _Starter(steps, view, options, clock)
    try:
        start.run()
    except StartFailed as failed:
        start.last_lines(failed.step)
        raise UserError([*failed.findings, *start.undo()], failed.code) from None
    except KeyboardInterrupt:
        if not options.detach:
            for finding in start.undo():
                view.say(f"error: {finding}")
        raise
    return [step.row() for step in steps]


def _steps(
    deployment: Deployment, environ: Mapping[str, str], options: Options, connect: Connect
) -> list[Step]:
    """Every container with its engine and its current state, in start order."""
    known = specs(deployment, options.npus)
    body = container_configs(deployment.cluster, known.values(), environ)
    containers = start_order(deployment)
    nodes = {one.node.name: one.node for one in containers}
    engines, findings = connect_all(nodes.values(), connect)
    _raise_any(findings)
    groups = {one.name: group.name for group in deployment.groups for one in group.containers}
    steps = [
        Step(
            spec=known[one.name],
            node=one.node.name,
            group=groups.get(one.name, one.name),
            engine=engines[one.node.name],
            body=body[one.name],
        )
        for one in containers
    ]
    _raise_any(each(_inspect, steps))
    return steps


def _raise_any(findings: Iterable[Finding | None]) -> None:
    """Raise UserError (69) with the findings, if there are any."""
    if found := [one for one in findings if one]:
        raise UserError(found, EX_UNAVAILABLE)


def _inspect(step: Step) -> Finding | None:
    try:
        step.info = step.engine.container(step.spec.name)
    except EngineError as error:
        return Finding(step.node, f"the Docker engine does not answer: {error}")
    if step.info is None:
        return None
    step.restarts = step.info.restarts
    if step.info.labels.get(CLUSTER) == step.spec.labels[CLUSTER]:
        return None
    what = f"a container '{step.spec.name}' exists, but not of this cluster"
    return Finding(step.node, what, "rename or remove it, or give the cluster another name")


def _pull_images(steps: list[Step], view: Progress) -> None:
    """Pull every image that an engine lacks, and note all ids."""
    wanted: dict[tuple[Engine, str], list[Step]] = {}
    for step in steps:
        wanted.setdefault((step.engine, step.spec.image), []).append(step)

    def ensure(steps: list[Step]) -> Finding | None:
        first = steps[0]
        engine, image = first.engine, first.spec.image
        try:
            if engine.image(image) is None:
                view.say(f"{first.node}: pulling {image}")
                engine.pull(image)
            found = engine.image(image) or ""
        except EngineError as error:
            fix = "build or push it, or `docker login` on this machine"
            return Finding(first.node, f"{image} cannot be pulled: {error}", fix)
        for step in steps:
            step.image = found
        return None

    _raise_any(each(ensure, list(wanted.values())))


def _decide_starts(group: list[Step]) -> None:
    """Decide what to start in a group: a node cannot rejoin the others alone."""
    for step in group:
        step.why = _start_reason(step)
    others = next((step.spec.name for step in group if step.why), "")
    for step in group:
        step.why = step.why or (f"with {others}, whose group starts as a whole" if others else "")


def _start_reason(step: Step) -> str:
    info = step.info
    if info is None:
        return "new"
    if info.state != "running":
        return f"was {info.state}"
    if info.health == "unhealthy":
        return "is unhealthy"
    if info.labels.get(DIGEST) != step.spec.labels[DIGEST]:
        return "its configuration has changed"
    if not set(step.body["Env"]) <= set(info.env):
        return "a secret has changed"
    if info.image != step.image:
        return "its image has changed"
    return ""


def _announce(deployment: Deployment, steps: list[Step], view: Progress) -> None:
    """Print what will happen, and the containers of this cluster that are not in the file."""
    known = {(step.node, step.spec.name) for step in steps}
    label = f"{CLUSTER}={deployment.cluster.name}"
    for step in steps:
        what = f"{'started' if step.info is None else 'replaced'}: {step.why}"
        view.say(f"{step.where}: {what if step.why else 'kept, it runs as in the file'}")
    there: set[tuple[str, str]] = set()
    for engine in {step.engine for step in steps}:
        with suppress(EngineError):  # reported when the container is polled
            there |= {(one.labels.get(NODE, ""), one.name) for one in engine.containers(label)}
    for node, name in sorted(there - known):
        view.say(f"{node}: {name}: no longer in the file; cluster.down removes it")


class _Starter:
    """The steps that must be undone when one fails."""

    def __init__(self, steps: list[Step], view: Progress, options: Options, clock: Clock) -> None:
        self.steps, self.view, self.options, self.clock = steps, view, options, clock
        self.call = uuid.uuid4().hex  # in a label of the containers that this call starts
        self.started: list[Step] = []

    def run(self) -> None:
        self._clear()
        for step in self.steps:
            if step.why:
                self._start(step)
                self._poll()
        if not self.options.detach:
            self._wait()

    def last_lines(self, step: Step | None) -> None:
        with suppress(EngineError):
            for line in step.engine.log(step.info.id, LOG_LINES) if step and step.info else ():
                self.view.say(f"  {line}")

    def undo(self) -> list[Finding]:
        """Stop and remove what this call started; a second interrupt kills it."""
        found: list[Target] = []
        findings: list[Finding] = []
        for step in self.started:
            try:
                info = step.engine.container(step.spec.name)
            except EngineError as error:
                findings.append(Finding(step.where, f"not removed: {error}", "see cluster.down"))
                continue
            if info and info.labels.get(CALL) == self.call:
                found.append(Target(step.node, step.engine, info))
        try:
            return [*findings, *stop_all(found, self._report)]
        except KeyboardInterrupt:
            return findings

    def _report(self, one: Target, did: str) -> None:
        self.view.say(f"{one.node}: {one.info.name}: {did}")

    def _clear(self) -> None:
        old = [Target(s.node, s.engine, s.info) for s in self.steps if s.why and s.info]
        findings = stop_all(old, self._report)
        if findings:
            raise StartFailed(*findings, code=EX_UNAVAILABLE)

    def _start(self, step: Step) -> None:
        labels = {**step.body["Labels"], CALL: self.call}
        self.started.append(step)
        try:
            id = step.engine.create(step.spec.name, {**step.body, "Labels": labels})
            step.engine.start(id)
        except Rejected as error:
            raise StartFailed(Finding(step.where, f"the engine cannot start it: {error}")) from None
        except Unreachable as error:
            what = f"the Docker engine does not answer: {error}"
            raise StartFailed(Finding(step.where, what), code=EX_UNAVAILABLE) from None
        step.at, step.restarts = self.clock.now(), 0

    def _poll(self) -> None:
        """Poll every current container, show all, and fail with the first that has failed."""
        current = [step for step in self.steps if step.current]
        each(self._refresh, current)
        self.view.show([step.row() for step in self.steps])
        for step in current:
            if step.silent is None:
                if why := failure_reason(step.engine, step.info, step.restarts):
                    fix = "its last lines are above" if step.log else ""
                    raise StartFailed(Finding(step.where, why, fix), step=step)
            elif self.clock.now() - step.silent >= MAX_SILENCE:
                what = f"its Docker engine has not answered for {MAX_SILENCE:.0f} s"
                raise StartFailed(Finding(step.where, what), code=EX_UNAVAILABLE)

    def _refresh(self, step: Step) -> None:
        try:
            step.info = step.engine.container(step.spec.name)
            lines = step.engine.log(step.info.id, 1) if step.info else []
            step.log, step.silent = "".join(lines), None
        except EngineError:
            step.silent = self.clock.now() if step.silent is None else step.silent

    def _wait(self) -> None:
        deadline = self.clock.now() + self.options.timeout
        while True:
            self._poll()
            waiting = [step for step in self.steps if not self._ready(step)]
            if not waiting:
                return
            if self.clock.now() >= deadline:
                late = f"not healthy within {self.options.timeout:.0f} s"
                findings = [Finding(s.where, late, s.log or "give --timeout") for s in waiting]
                raise StartFailed(*findings, step=waiting[0], code=EX_UNAVAILABLE)
            self.clock.sleep(INTERVAL)

    def _ready(self, step: Step) -> bool:
        if step.silent is not None or step.info is None or not step.info.ready:
            return False
        young = step.at is not None and self.clock.now() - step.at < MIN_UPTIME
        return bool(step.info.health) or not young
