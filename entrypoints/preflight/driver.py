"""The host's driver, as the container sees it."""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.preflight import parse
from entrypoints.preflight.inspection import Inspection, check


@check("driver-version", npu=True)
def version(here: Inspection) -> Iterator[Finding]:
    facts, release = here.facts["driver"], here.needs.release.name
    path = facts["version_file"]
    if not here.machine.exists(path):
        yield finding("driver-version.absent", path=path)
        return
    have = parse.pairs(here.machine.text(path)).get("Version", "")
    known = facts["releases"].get(here.needs.release.facts)
    if known is None:
        yield finding("driver-version.no-minimum", have=have or "unknown", release=release)
        return
    ours, lowest = parse.version(have), parse.version(known["version"])
    if ours is None or lowest is None:
        message = "driver-version.incomparable"
    else:
        message = "driver-version.old" if ours < lowest else "driver-version.recent"
    wanted, source = known["version"], known["source"]
    yield finding(message, source=source, path=path, have=have, wanted=wanted, release=release)


@check("driver-libraries", npu=True)
def libraries(here: Inspection) -> Iterator[Finding]:
    """Stubs in a `devlib` folder are for building, not for running."""
    facts = here.facts["driver"]
    library, folders = facts["library"], facts["library_folders"]
    searched = [f for f in here.needs.env.get("LD_LIBRARY_PATH", "").split(":") if f]
    found = [f for f in searched if here.machine.exists(os.path.join(f, library))]
    real = [f for f in found if "devlib" not in f.split("/")]
    present = [f for f in folders if here.machine.exists(os.path.join(f, library))]
    if real:
        yield finding("driver-libraries.found", library=library, folder=real[0])
    elif present:
        yield finding("driver-libraries.left-out", library=library, folder=present[0])
    else:
        yield finding("driver-libraries.no-library", library=library, folder=folders[0])


@check("driver-install", npu=True)
def install(here: Inspection) -> Iterator[Finding]:
    path = here.facts["driver"]["install_file"]
    if not here.machine.exists(path):
        yield finding("driver-install.absent", path=path)
        return
    folder = parse.pairs(here.machine.text(path)).get("Driver_Install_Path_Param", "")
    message = "driver-install.installed" if folder else "driver-install.incomplete"
    yield finding(message, path=path, folder=folder)
