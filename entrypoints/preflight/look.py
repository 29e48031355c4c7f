"""What every check starts from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from entrypoints.inputs import data
from entrypoints.inputs.stack import Platform, Release
from entrypoints.preflight.finding import FAILED, OK, SKIPPED, WARNING, Finding
from entrypoints.preflight.machine import Machine, Output
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_NODE = re.compile(r"davinci([0-9]{1,4})")


class Needs(NamedTuple):
    """What the launch needs of the machine. `devices` is how many chips this node uses.

    `multi_node`: its chips talk to those of other nodes. `ports` are those it will listen on, each
    a number or the first and the last. `env` is the server's complete environment.
    """

    platform: Platform | None
    release: Release
    devices: int
    visible: str | None
    multi_node: bool
    local_ip: str | None
    nic: str | None
    ports: Mapping[str, int | list[int]]
    model: str
    env: Mapping[str, str]


class Look(NamedTuple):
    """`nodes` are the numbers of /dev/davinci*; `facts` is env/preflight.yaml."""

    needs: Needs
    machine: Machine
    facts: Mapping[str, Any]
    nodes: tuple[int, ...]

    @property
    def used(self) -> tuple[int, ...]:
        """The nodes that the launch will use.

        CANN numbers what a container has from 0; ASCEND_RT_VISIBLE_DEVICES chooses by that number
        (vllm-ascend PR #16256).
        """
        chosen = visible(self.needs.visible)
        if chosen is not None:
            return tuple(self.nodes[n] for n in chosen if n < len(self.nodes))
        return self.nodes[: self.needs.devices]

    @property
    def platform(self) -> Mapping[str, Any]:
        """What env/preflight.yaml says of the image's platform."""
        name = self.needs.platform.name if self.needs.platform else ""
        known: Mapping[str, Any] = self.facts["platforms"].get(name, {})
        return known

    def tool(self, name: str) -> str | None:
        """Where a tool of the driver is."""
        paths: Iterable[str] = self.facts["tools"][name]
        return next((path for path in paths if self.machine.exists(path)), None)

    def ask(self, *argv: str) -> Output:
        """What a command says within the time that one has."""
        return self.machine.run(argv, self.needs.env, float(self.facts["tool_timeout"]))


class Check(NamedTuple):
    """One idea about the machine. `npu`: it means nothing where no NPU is visible or used."""

    code: str
    what: str
    look: Callable[[Check, Look], Iterator[Finding]]
    npu: bool = False

    def ok(self, message: str) -> Finding:
        return Finding(self.code, OK, self.what, message)

    def skipped(self, why: str) -> Finding:
        return Finding(self.code, SKIPPED, self.what, why)

    def warning(self, message: str, fix: str, source: str) -> Finding:
        return Finding(self.code, WARNING, self.what, message, fix, source)

    def failed(self, message: str, fix: str, source: str) -> Finding:
        return Finding(self.code, FAILED, self.what, message, fix, source)


def look(needs: Needs, machine: Machine) -> Look:
    """Reads the facts and the device nodes."""
    found = (_NODE.fullmatch(name) for name in machine.names("/dev"))
    nodes = tuple(sorted(int(node.group(1)) for node in found if node))
    return Look(needs, machine, data.read(data.path_of("preflight.yaml")), nodes)


def visible(value: str | None) -> list[int] | None:
    """The numbers in ASCEND_RT_VISIBLE_DEVICES; None when it is not set or holds something else."""
    words = [word.strip() for word in (value or "").split(",")]
    if all(word.isascii() and word.isdigit() and len(word) < 6 for word in words):
        return [int(word) for word in words]
    return None


def several(numbers: Iterable[int]) -> str:
    """1, 2, 3 and 7 as `1-3, 7`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)
