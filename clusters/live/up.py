"""Starting a cluster: all of it, or nothing of what this call has started."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from clusters.deployment import Deployment
from clusters.live.config import container_configs
from clusters.live.engine import (
    Connect,
    ContainerState,
    Engine,
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

INTERVAL = 1.0  # seconds between two looks
MIN_UPTIME = 3.0  # seconds that a container without a HEALTHCHECK has to run
MAX_SILENCE = 30.0  # seconds that an engine may not answer while the containers are waited for
CALL = "ascend.start"  # label: the call that has started it
LOG_LINES = 20  # of a container that failed


@dataclass(frozen=True)
class Options:
    """`npus`: false leaves devices and driver out. `detach`: do not wait until all are healthy."""

    npus: bool = True
    detach: bool = False
    timeout: float = 1800.0


@dataclass
class Step:
    """One container. `seen`: as it was when last looked at. `why` it is started; empty: it stays.

    `image`: id of its image. `restarts`: how often it had been started again before this call.
    `at`: when this call started it. `silent`: since when its engine does not answer.
    """

    spec: Spec
    node: str
    group: str
    engine: Engine
    body: Mapping[str, Any]
    seen: ContainerState | None = None
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
    def there(self) -> bool:
        """Whether it is as the file wants it: left alone, or started by this call."""
        return not self.why or self.at is not None

    def row(self) -> Row:
        if not self.there:
            return Row(self.node, self.spec.name, WAITING)
        return row(self.node, self.spec.name, self.seen, self.log)


class StartFailed(Exception):
    """Ends the start. `step`: the container whose last lines are of interest."""

    def __init__(
        self, *problems: Finding, step: Step | None = None, code: int = EX_SOFTWARE
    ) -> None:
        self.problems, self.step, self.code = problems, step, code


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
    """Start what is not running yet as the file has it; returns where every container is then.

    `deployment`: one without errors. Raises UserError with everything that stands in the way before
    anything is started: secrets and options (65), engines, names and images (69). Later with the
    first container that fails (70), or those that are not healthy in time (69), once what was
    started here is removed again.
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
        raise UserError([*failed.problems, *start.undo()], failed.code) from None
    except KeyboardInterrupt:
        if not options.detach:
            for problem in start.undo():
                view.say(f"error: {problem}")
        raise
    return [step.row() for step in steps]


def _steps(
    deployment: Deployment, environ: Mapping[str, str], options: Options, connect: Connect
) -> list[Step]:
    """Every container with its engine and what is there of it, in the order of the start."""
    known = specs(deployment, options.npus)
    body = container_configs(deployment.cluster, known.values(), environ)
    containers = start_order(deployment)
    engines, problems = connect_all(
        {one.node.name: one.node for one in containers}.values(), connect
    )
    if problems:
        raise UserError(problems, EX_UNAVAILABLE)
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
    problems = [problem for problem in each(_inspect, steps) if problem]
    if problems:
        raise UserError(problems, EX_UNAVAILABLE)
    return steps


def _inspect(step: Step) -> Finding | None:
    try:
        step.seen = step.engine.container(step.spec.name)
    except (Unreachable, Rejected) as error:
        return Finding(step.node, f"the Docker engine does not answer: {error}")
    if step.seen is None:
        return None
    step.restarts = step.seen.restarts
    if step.seen.labels.get(CLUSTER) == step.spec.labels[CLUSTER]:
        return None
    what = f"a container '{step.spec.name}' is there, and not of this cluster"
    return Finding(step.node, what, "rename or remove it, or give the cluster another name")


def _pull_images(steps: list[Step], view: Progress) -> None:
    """Every image on every engine, pulled where it is missing."""
    wanted: dict[tuple[Engine, str], list[Step]] = {}
    for step in steps:
        wanted.setdefault((step.engine, step.spec.image), []).append(step)

    def have(those: list[Step]) -> Finding | None:
        first = those[0]
        engine, image = first.engine, first.spec.image
        try:
            if engine.image(image) is None:
                view.say(f"{first.node}: pulling {image}")
                engine.pull(image)
            found = engine.image(image) or ""
        except (Unreachable, Rejected) as error:
            fix = "build or push it, or `docker login` on this machine"
            return Finding(first.node, f"{image} cannot be pulled: {error}", fix)
        for step in those:
            step.image = found
        return None

    problems = [problem for problem in each(have, list(wanted.values())) if problem]
    if problems:
        raise UserError(problems, EX_UNAVAILABLE)


def _decide_starts(group: list[Step]) -> None:
    """What is to be started of a group, and why: a node cannot come back to the others alone."""
    for step in group:
        step.why = _start_reason(step)
    others = next((step.spec.name for step in group if step.why), "")
    for step in group:
        step.why = step.why or (f"with {others}, whose group starts as one" if others else "")


def _start_reason(step: Step) -> str:
    seen = step.seen
    if seen is None:
        return "new"
    if seen.state != "running":
        return f"was {seen.state}"
    if seen.health == "unhealthy":
        return "is unhealthy"
    if seen.labels.get(DIGEST) != step.spec.labels[DIGEST]:
        return "its configuration has changed"
    if not set(step.body["Env"]) <= set(seen.env):
        return "a secret has changed"
    if seen.image != step.image:
        return "its image has changed"
    return ""


def _announce(deployment: Deployment, steps: list[Step], view: Progress) -> None:
    """What is going to happen, and what this cluster also has there and the file has not."""
    known = {(step.node, step.spec.name) for step in steps}
    label = f"{CLUSTER}={deployment.cluster.name}"
    for step in steps:
        what = f"{'started' if step.seen is None else 'replaced'}: {step.why}"
        view.say(f"{step.where}: {what if step.why else 'left alone, it runs as the file has it'}")
    there: set[tuple[str, str]] = set()
    for engine in {step.engine for step in steps}:
        with suppress(Unreachable, Rejected):  # told where it matters
            there |= {(one.labels.get(NODE, ""), one.name) for one in engine.containers(label)}
    for node, name in sorted(there - known):
        view.say(f"{node}: {name}: not in the file any more; cluster.down removes it")


class _Starter:
    """The part of the work that has to be undone when it fails."""

    def __init__(self, steps: list[Step], view: Progress, options: Options, clock: Clock) -> None:
        self.steps, self.view, self.options, self.clock = steps, view, options, clock
        self.call = uuid.uuid4().hex  # in a label: this call's containers, and no others
        self.begun: list[Step] = []

    def run(self) -> None:
        self._clear()
        for step in self.steps:
            if step.why:
                self._start(step)
                self._look()
        if not self.options.detach:
            self._wait()

    def last_lines(self, step: Step | None) -> None:
        with suppress(Unreachable, Rejected):
            for line in step.engine.log(step.seen.id, LOG_LINES) if step and step.seen else ():
                self.view.say(f"  {line}")

    def undo(self) -> list[Finding]:
        """Stop and remove what this call has started; a second interrupt kills it."""
        found: list[Target] = []
        problems: list[Finding] = []
        for step in self.begun:
            try:
                seen = step.engine.container(step.spec.name)
            except (Unreachable, Rejected) as error:
                problems.append(Finding(step.where, f"not removed: {error}", "see cluster.down"))
                continue
            if seen and seen.labels.get(CALL) == self.call:
                found.append(Target(step.node, step.engine, seen))
        try:
            return [*problems, *stop_all(found, self._told)]
        except KeyboardInterrupt:
            return problems

    def _told(self, one: Target, did: str) -> None:
        self.view.say(f"{one.node}: {one.seen.name}: {did}")

    def _clear(self) -> None:
        old = [Target(s.node, s.engine, s.seen) for s in self.steps if s.why and s.seen]
        problems = stop_all(old, self._told)
        if problems:
            raise StartFailed(*problems, code=EX_UNAVAILABLE)

    def _start(self, step: Step) -> None:
        labels = {**step.body["Labels"], CALL: self.call}
        self.begun.append(step)
        try:
            id = step.engine.create(step.spec.name, {**step.body, "Labels": labels})
            step.engine.start(id)
        except Rejected as error:
            raise StartFailed(Finding(step.where, f"the engine cannot start it: {error}")) from None
        except Unreachable as error:
            what = f"the Docker engine does not answer: {error}"
            raise StartFailed(Finding(step.where, what), code=EX_UNAVAILABLE) from None
        step.at, step.restarts = self.clock.now(), 0

    def _look(self) -> None:
        """See every container that is there, show all, and fail with the first that has failed."""
        there = [step for step in self.steps if step.there]
        each(self._see, there)
        self.view.show([step.row() for step in self.steps])
        for step in there:
            if step.silent is not None and self.clock.now() - step.silent >= MAX_SILENCE:
                what = f"its Docker engine has not answered for {MAX_SILENCE:.0f} s"
                raise StartFailed(Finding(step.where, what), code=EX_UNAVAILABLE)
            why = (
                ""
                if step.silent is not None
                else failure_reason(step.engine, step.seen, step.restarts)
            )
            if why:
                fix = "its last lines are above" if step.log else ""
                raise StartFailed(Finding(step.where, why, fix), step=step)

    def _see(self, step: Step) -> None:
        try:
            step.seen = step.engine.container(step.spec.name)
            lines = step.engine.log(step.seen.id, 1) if step.seen else []
            step.log, step.silent = "".join(lines), None
        except (Unreachable, Rejected):
            step.silent = self.clock.now() if step.silent is None else step.silent

    def _wait(self) -> None:
        deadline = self.clock.now() + self.options.timeout
        while True:
            self._look()
            waiting = [step for step in self.steps if not self._ready(step)]
            if not waiting:
                return
            if self.clock.now() >= deadline:
                late = f"not healthy within {self.options.timeout:.0f} s"
                problems = [Finding(s.where, late, s.log or "give --timeout") for s in waiting]
                raise StartFailed(*problems, step=waiting[0], code=EX_UNAVAILABLE)
            self.clock.sleep(INTERVAL)

    def _ready(self, step: Step) -> bool:
        if step.silent is not None or step.seen is None or not step.seen.ready:
            return False
        young = step.at is not None and self.clock.now() - step.at < MIN_UPTIME
        return bool(step.seen.health) or not young
