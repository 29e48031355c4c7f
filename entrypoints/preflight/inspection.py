"""What every check of the machine uses: what the launch needs, and what the machine has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from entrypoints.findings import ERROR, MACHINE, WARNING, Finding
from entrypoints.inputs import data
from entrypoints.inputs.stack import Platform, Release
from entrypoints.preflight.machine import Machine, Output
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_NODE = re.compile(r"davinci([0-9]{1,4})")


class Needs(NamedTuple):
    """What the launch needs of the machine. `devices`: how many chips this node uses.

    `multi_node`: its chips communicate with those of other nodes. `ports`: those it will listen
    on, each a number or the first and the last. `env`: the server's complete environment.
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


class Inspection(NamedTuple):
    """`nodes`: the numbers of /dev/davinci*. `facts`: env/preflight.yaml."""

    needs: Needs
    machine: Machine
    facts: Mapping[str, Any]
    nodes: tuple[int, ...]

    @property
    def used(self) -> tuple[int, ...]:
        """The nodes that the launch will use.

        CANN numbers the devices of a container from 0, and ASCEND_RT_VISIBLE_DEVICES selects by
        that number (vllm-ascend PR #16256).
        """
        chosen = visible(self.needs.visible)
        if chosen is not None:
            return tuple(self.nodes[n] for n in chosen if n < len(self.nodes))
        return self.nodes[: self.needs.devices]

    @property
    def platform(self) -> Mapping[str, Any]:
        """What env/preflight.yaml states about the image's platform."""
        name = self.needs.platform.name if self.needs.platform else ""
        known: Mapping[str, Any] = self.facts["platforms"].get(name, {})
        return known

    def tool(self, name: str) -> str | None:
        """The path of a tool of the driver."""
        paths: Iterable[str] = self.facts["tools"][name]
        return next((path for path in paths if self.machine.exists(path)), None)

    def ask(self, *argv: str) -> Output:
        """The output of a command, which has a limited time."""
        return self.machine.run(argv, self.needs.env, float(self.facts["tool_timeout"]))


def inspect(needs: Needs, machine: Machine) -> Inspection:
    """Read the facts and the device nodes."""
    found = (_NODE.fullmatch(name) for name in machine.names("/dev"))
    nodes = tuple(sorted(int(node.group(1)) for node in found if node))
    return Inspection(needs, machine, data.read(data.path_of("preflight.yaml")), nodes)


class Check(NamedTuple):
    """One check of the machine. `npu`: without an NPU it is skipped.

    `code` is that of its own messages; some report under others as well.
    """

    code: str
    findings: Callable[[Inspection], Iterator[Finding]]
    npu: bool


def check(
    code: str, npu: bool = False
) -> Callable[[Callable[[Inspection], Iterator[Finding]]], Check]:
    """Make a check of the decorated function."""
    return lambda findings: Check(code, findings, npu)


def complete(found: Finding, facts: Mapping[str, Any]) -> Finding:
    """A finding of a check, with the source under its dotted key of env/preflight.yaml."""
    source = source_of(found.source, facts) if found.severity in (ERROR, WARNING) else ""
    return found._replace(source=source, exit_code=MACHINE)


def source_of(key: str, facts: Mapping[str, Any]) -> str:
    """The source under a dotted key of env/preflight.yaml; other text is a source itself."""
    found: Any = facts
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else key


def visible(value: str | None) -> list[int] | None:
    """The numbers in ASCEND_RT_VISIBLE_DEVICES; None when it is not set or holds something else."""
    words = [word.strip() for word in (value or "").split(",")]
    if all(word.isascii() and word.isdigit() and len(word) < 6 for word in words):
        return [int(word) for word in words]
    return None


def ranges(numbers: Iterable[int]) -> str:
    """1, 2, 3 and 7 as `1-3, 7`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)
