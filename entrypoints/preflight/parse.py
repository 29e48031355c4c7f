"""Parsers for the output and files of the driver. They accept any text and never raise."""

from __future__ import annotations

import re

from entrypoints.record import NamedTuple

_RELEASE = re.compile(r"rc(\d{1,9})", re.IGNORECASE)


class Chip(NamedTuple):
    """One chip of `npu-smi info`: `device` is its number in /dev."""

    npu: int
    chip: int
    device: int
    name: str
    health: str


class Process(NamedTuple):
    """A process that `npu-smi info` shows on a chip."""

    npu: int
    chip: int
    pid: int
    name: str


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if "|" in line else []


def _number(word: str) -> int | None:
    return int(word) if word.isascii() and word.isdigit() and len(word) < 10 else None


def _numbers(cell: str) -> list[int]:
    found = [_number(word) for word in cell.split()]
    return [] if None in found else [number for number in found if number is not None]


def smi_chips(text: str) -> list[Chip]:
    """The chips of `npu-smi info`: a line with the NPU and its name, then one with the chip.

    A2 has one chip on an NPU. A3 has two, with their number in /dev beside the chip's.
    """
    found: list[Chip] = []
    head: tuple[int, str, str] | None = None
    for line in text.splitlines():
        cells = _cells(line)
        if len(cells) < 3:
            head = None
            continue
        words = cells[0].split()
        numbers = _numbers(cells[0])
        if head and numbers:
            npu, name, health = head
            device = numbers[1] if len(numbers) > 1 else npu
            found.append(Chip(npu, numbers[0], device, name, health))
            head = None
        elif len(words) == 2 and _number(words[0]) is not None and not numbers:
            head = (int(words[0]), words[1], cells[1])
        else:
            head = None
    return found


def smi_processes(text: str) -> list[Process]:
    """The processes at the end of `npu-smi info`."""
    found: list[Process] = []
    within = False
    for line in text.splitlines():
        cells = _cells(line)
        if len(cells) > 1 and cells[1].startswith("Process id"):
            within = True
        elif within and len(cells) > 2:
            place, pid = _numbers(cells[0]), _number(cells[1])
            if place and pid is not None:
                chip = place[1] if len(place) > 1 else 0
                found.append(Process(place[0], chip, pid, cells[2]))
    return found


def smi_board(text: str) -> str | None:
    """The SoC that `npu-smi info -t board -i N -c 0` describes, in lower case.

    A2 and 310P have a chip type and a chip name, A3 a chip name and an NPU name
    (vllm-ascend v0.18.0:setup.py).
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            values.setdefault(" ".join(name.split()), value.strip())
    chip, kind, npu = (values.get(k, "") for k in ("Chip Name", "Chip Type", "NPU Name"))
    if not chip:
        return None
    return (kind + chip if kind else f"{chip}_{npu}" if npu else chip).lower()


def pairs(text: str) -> dict[str, str]:
    """`name=value` lines, as in version.info, hccn.conf and ascend_install.info."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith("#"):
            found[name.strip()] = value.strip()
    return found


def device_addresses(text: str) -> dict[int, str]:
    """hccn.conf: device number -> address."""
    found: dict[int, str] = {}
    for name, value in pairs(text).items():
        number = _number(name.removeprefix("address_")) if name.startswith("address_") else None
        if number is not None and value:
            found[number] = value
    return found


def hccn_value(text: str, name: str) -> str | None:
    """The value in a `name: value` line of hccn_tool, `link status` for instance."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() == name:
            return value.strip()
    return None


def tls_switch(text: str) -> str | None:
    """0 or 1 of `hccn_tool -tls -g`: `dev_id:0, tls switch[0](0:disable, 1:enable), …`."""
    found = re.search(r"tls switch\[(\d)\]", text)
    return found.group(1) if found else None


def version(text: str) -> tuple[tuple[int, int], ...] | None:
    """A sort key for versions of the driver; None for an unknown form.

    25.3.rc1 comes before 25.3.0, and 25.5 is 25.5.0.
    """
    parts: list[tuple[int, int]] = []
    for word in text.strip().split("."):
        number, candidate = _number(word), _RELEASE.fullmatch(word)
        if candidate:
            parts.append((0, int(candidate.group(1))))
        elif number is not None:
            parts.append((1, number))
        else:
            return None
    while parts and parts[-1] == (1, 0):
        parts.pop()
    return (*parts, (1, -1)) if parts else None
