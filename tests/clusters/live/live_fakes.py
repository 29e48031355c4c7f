"""Engines that only remember what they were asked, and do what a test has told them to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from clusters.live.engine import ContainerInfo, Engine, Rejected, Unreachable

IMAGE_ID = "sha256:1"
HEALTHY: dict[str, Any] = {"health": "healthy"}


class FakeEngine(Engine):
    """`becomes`: container's name → what it is after its start, in place of healthy.

    `refuses`: container's name → why it cannot start. `answers` false: nobody is there.
    """

    def __init__(self, done: list[str]) -> None:
        self.done = done
        self.known: dict[str, ContainerInfo] = {}
        self.becomes: dict[str, dict[str, Any]] = {}
        self.refuses: dict[str, str] = {}
        self.images = {"registry.example.com/vllm-ascend:v0.13.0rc1-a3": IMAGE_ID}
        self.answers = True
        self.on_stop: Callable[[], None] = lambda: None
        self._ids = itertools.count()

    def containers(self, label: str) -> list[ContainerInfo]:
        self._there()
        name, _, value = label.partition("=")
        return [one for one in self.known.values() if one.labels.get(name) == value]

    def container(self, name: str) -> ContainerInfo | None:
        self._there()
        return self.known.get(name)

    def image(self, reference: str) -> str | None:
        self._there()
        return self.images.get(reference)

    def pull(self, reference: str) -> None:
        self.done.append(f"pull {reference}")
        if "gone" in reference:
            raise Rejected("manifest unknown")
        self.images[reference] = IMAGE_ID

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        if name in self.known:
            raise Rejected(f"Conflict: the name {name} is in use")
        self.done.append(f"create {name}")
        self.known[name] = ContainerInfo(
            id=f"{name}#{next(self._ids)}",
            name=name,
            state="created",
            image=self.images[body["Image"]],
            labels=body["Labels"],
            env=(*body["Env"], "PATH=/bin"),
            stop_timeout=body["StopTimeout"],
        )
        return self.known[name].id

    def start(self, id: str) -> None:
        name = id.partition("#")[0]
        if name in self.refuses:
            raise Rejected(self.refuses[name])
        self.done.append(f"start {name}")
        changes = {"state": "running", **self.becomes.get(name, HEALTHY)}
        self.known[name] = replace(self.known[name], **changes)

    def stop(self, id: str, timeout: int) -> None:
        self.on_stop()
        self.done.append(f"stop {id.partition('#')[0]} {timeout}")

    def remove(self, id: str, force: bool = False) -> None:
        name = id.partition("#")[0]
        self.done.append(f"remove {name}")
        del self.known[name]

    def log(self, id: str, lines: int) -> list[str]:
        return [f"line of {id.partition('#')[0]}"]

    def exit_code(self, seen: ContainerInfo) -> int | None:
        return 78

    def _there(self) -> None:
        if not self.answers:
            raise Unreachable("connection refused")


class FakeClock:
    """Time that passes only while someone sleeps; `then` happens once it has."""

    def __init__(self) -> None:
        self.time = 0.0
        self.then: Callable[[float], None] = lambda time: None

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.then(self.time)


def interrupt() -> None:
    raise KeyboardInterrupt
