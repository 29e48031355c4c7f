"""The host's driver, as the container sees it."""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from entrypoints.preflight import parse
from entrypoints.preflight.finding import Finding
from entrypoints.preflight.look import Check, Look


def _version(check: Check, look: Look) -> Iterator[Finding]:
    facts, release = look.facts["driver"], look.needs.release.name
    path = facts["version_file"]
    if not look.machine.exists(path):
        fix = f"give docker run -v {path}:{path}:ro"
        yield check.warning(f"{path} is not here", fix, facts["source"])
        return
    have = parse.pairs(look.machine.text(path)).get("Version", "")
    wanted = facts["releases"].get(release)
    if wanted is None:
        yield check.ok(f"{have or 'unknown'}; the documents of {release} name none")
        return
    ours, lowest = parse.version(have), parse.version(wanted["version"])
    if ours is None or lowest is None:
        message = f"{path} names version {have!r}, which cannot be compared with"
        message += f" {wanted['version']} of {release}"
        yield check.warning(message, "compare them by hand", wanted["source"])
    elif ours < lowest:
        message = f"{have} is older than {wanted['version']}, which {release} names"
        yield check.warning(message, "update the host's driver and firmware", wanted["source"])
    else:
        yield check.ok(f"{have}; {release} names {wanted['version']}")


def _libraries(check: Check, look: Look) -> Iterator[Finding]:
    """Stubs in a `devlib` folder are for building, not for running."""
    facts = look.facts["driver"]
    library, folders = facts["library"], facts["library_folders"]
    searched = [f for f in look.needs.env.get("LD_LIBRARY_PATH", "").split(":") if f]
    found = [f for f in searched if look.machine.exists(os.path.join(f, library))]
    real = [f for f in found if "devlib" not in f.split("/")]
    if real:
        yield check.ok(f"{library} is in {real[0]}")
        return
    there = [f for f in folders if look.machine.exists(os.path.join(f, library))]
    if there:
        message = f"{library} is in {there[0]}, which LD_LIBRARY_PATH leaves out"
        fix = "do not set LD_LIBRARY_PATH, or extend it: …:$LD_LIBRARY_PATH"
    else:
        message = f"{library} is not in {folders[0]} or below"
        fix = f"give docker run -v {folders[0]}:{folders[0]}:ro"
    yield check.failed(message, fix, facts["source"])


def _install(check: Check, look: Look) -> Iterator[Finding]:
    facts = look.facts["driver"]
    path = facts["install_file"]
    if not look.machine.exists(path):
        fix = f"give docker run -v {path}:{path}:ro"
        yield check.warning(f"{path} is not here", fix, facts["source"])
        return
    where = parse.pairs(look.machine.text(path)).get("Driver_Install_Path_Param", "")
    if where:
        yield check.ok(f"{path} says {where}")
    else:
        message = f"{path} has no Driver_Install_Path_Param"
        yield check.warning(message, "mount the host's own file", facts["source"])


VERSION = Check("driver-version", "driver version", _version, npu=True)
LIBRARIES = Check("driver-libraries", "driver libraries", _libraries, npu=True)
INSTALL = Check("driver-install", "driver installation", _install, npu=True)
