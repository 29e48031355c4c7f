"""What npu-smi reports: whether the image is for these chips, their health, who else uses them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.preflight import parse
from entrypoints.preflight.inspection import Inspection, check, ranges
from entrypoints.record import NamedTuple


class Chips(NamedTuple):
    """`soc`: the chip's name in lower case. `platform`: the one it belongs to, None if unknown."""

    chips: Sequence[parse.Chip]
    processes: Sequence[parse.Process]
    soc: str
    platform: str | None


@check("platform", npu=True)
def platform(here: Inspection) -> Iterator[Finding]:
    found = find(here)
    if isinstance(found, Finding):
        yield found
        return
    yield _fits(here, found)
    yield from _health(here, found)
    yield from _others(here, found)


def find(here: Inspection) -> Chips | Finding:
    """The chips that npu-smi lists, or why it cannot."""
    tool = here.tool("npu-smi")
    if tool is None:
        return finding("platform.not-asked")
    info = here.ask(tool, "info")
    chips = parse.smi_chips(info.text)
    if info.code != 0 or not chips:
        return finding(
            "platform.smi-fails", output=" ".join(info.text.split())[-200:] or "it prints nothing"
        )
    board = here.ask(tool, "info", "-t", "board", "-i", str(chips[0].npu), "-c", "0")
    soc = (parse.smi_board(board.text) if board.code == 0 else None) or chips[0].name.lower()
    return Chips(chips, parse.smi_processes(info.text), soc, _platform_of(here, soc))


def _platform_of(here: Inspection, soc: str) -> str | None:
    name = soc.removeprefix("ascend")
    for platform, facts in here.facts["platforms"].items():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in facts["chips"]):
            return str(platform)
    return None


def _fits(here: Inspection, found: Chips) -> Finding:
    image = here.needs.platform
    if found.platform is None:
        return finding("platform.unknown-chip", soc=found.soc)
    if image and image.name != found.platform:
        tag = image_tag(here, found.platform)
        return finding(
            "platform.other-platform", image=image.name, image_soc=image.soc, soc=found.soc, tag=tag
        )
    return finding("platform.fits", soc=found.soc, platform=found.platform)


def image_tag(here: Inspection, platform: str) -> str:
    """The tag of the image for a platform: this release, this operating system."""
    system = ""
    if here.machine.exists("/etc/os-release"):
        release = parse.pairs(here.machine.text("/etc/os-release"))
        system = "-openeuler" if release.get("ID", "").strip('"').lower() == "openeuler" else ""
    return f"{here.needs.release.name}{here.facts['platforms'][platform]['tag']}{system}"


def _health(here: Inspection, found: Chips) -> Iterator[Finding]:
    ours = [chip for chip in found.chips if chip.device in here.used]
    unhealthy = [chip for chip in ours if chip.health != "OK"]
    for chip in unhealthy:
        yield finding("npu-health.unhealthy", device=chip.device, health=chip.health, npu=chip.npu)
    if ours and not unhealthy:
        yield finding("npu-health.healthy", devices=ranges(chip.device for chip in ours))


def _others(here: Inspection, found: Chips) -> Iterator[Finding]:
    """Two jobs on one NPU collide at HCCL's port 16666."""
    device = {(chip.npu, chip.chip): chip.device for chip in found.chips}
    for process in found.processes:
        number = device.get((process.npu, process.chip))
        if number in here.used:
            yield finding("npu-in-use", pid=process.pid, name=process.name, device=number)
