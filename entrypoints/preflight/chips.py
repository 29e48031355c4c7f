"""What npu-smi says: whether the image is for these chips, their health, who else is on them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from entrypoints.preflight import parse
from entrypoints.preflight.finding import Finding
from entrypoints.preflight.look import Check, Look, several
from entrypoints.record import NamedTuple


class Chips(NamedTuple):
    """`soc` is the chip's name in lower case, `platform` the one it belongs to, None if unknown."""

    chips: Sequence[parse.Chip]
    processes: Sequence[parse.Process]
    soc: str
    platform: str | None


def find(look: Look) -> Chips | str:
    """The chips by npu-smi, or why they cannot be told."""
    tool = look.tool("npu-smi")
    if tool is None:
        return "npu-smi is not here: give docker run -v for it and for /usr/local/dcmi"
    info = look.ask(tool, "info")
    chips = parse.smi_chips(info.text)
    if info.code != 0 or not chips:
        return f"npu-smi info fails: {' '.join(info.text.split())[-200:] or 'it says nothing'}"
    board = look.ask(tool, "info", "-t", "board", "-i", str(chips[0].npu), "-c", "0")
    soc = (parse.smi_board(board.text) if board.code == 0 else None) or chips[0].name.lower()
    return Chips(chips, parse.smi_processes(info.text), soc, _platform(look, soc))


def _platform(look: Look, soc: str) -> str | None:
    name = soc.removeprefix("ascend")
    for platform, facts in look.facts["platforms"].items():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in facts["chips"]):
            return str(platform)
    return None


def _look(check: Check, look: Look) -> Iterator[Finding]:
    found = find(look)
    if isinstance(found, str):
        if look.tool("npu-smi") is None:
            yield check.skipped(found)
        else:
            fix = "mount /usr/local/dcmi and the driver's lib64, and see that no other container"
            fix += " holds the device alone"
            yield check.warning(found, fix, look.facts["smi_source"])
        return
    yield _fits(check, look, found)
    yield from _health(look, found)
    yield from _others(look, found)


def _fits(check: Check, look: Look, found: Chips) -> Finding:
    source, image = look.facts["platform_source"], look.needs.platform
    if found.platform is None:
        fix = "compare the chip with the list of supported ones"
        return check.warning(f"{found.soc} is no chip of a known platform", fix, source)
    if image and image.name != found.platform:
        tag = image_tag(look, found.platform)
        message = f"the image is for {image.name} ({image.soc}), the chips are {found.soc}"
        return check.failed(message, f"use the image tagged {tag}", source)
    return check.ok(f"{found.soc} is {found.platform}")


def image_tag(look: Look, platform: str) -> str:
    """The tag of the image for a platform: this release, this system."""
    system = ""
    if look.machine.exists("/etc/os-release"):
        release = parse.pairs(look.machine.text("/etc/os-release"))
        system = "-openeuler" if release.get("ID", "").strip('"').lower() == "openeuler" else ""
    return f"{look.needs.release.name}{look.facts['platforms'][platform]['tag']}{system}"


def _health(look: Look, found: Chips) -> Iterator[Finding]:
    ours = [chip for chip in found.chips if chip.device in look.used]
    for chip in ours:
        if chip.health != "OK":
            fix = f"see npu-smi info -t health -i {chip.npu}"
            message = f"device {chip.device} is {chip.health}"
            yield HEALTH.warning(message, fix, "npu-smi info")
    if ours and all(chip.health == "OK" for chip in ours):
        yield HEALTH.ok(f"{several(chip.device for chip in ours)} are OK")


def _others(look: Look, found: Chips) -> Iterator[Finding]:
    """Two jobs on one NPU meet at HCCL's port 16666."""
    device = {(chip.npu, chip.chip): chip.device for chip in found.chips}
    for process in found.processes:
        number = device.get((process.npu, process.chip))
        if number in look.used:
            message = f"process {process.pid} ({process.name}) is on device {number}"
            fix = "end it, or use other devices: one job on one NPU"
            yield IN_USE.warning(message, fix, look.facts["in_use_source"])


PLATFORM = Check("platform", "platform", _look, npu=True)
HEALTH = Check("npu-health", "health of devices", _look)
IN_USE = Check("npu-in-use", "devices in use", _look)
