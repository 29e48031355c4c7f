"""The host's driver, as the container sees it."""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from entrypoints.findings import Finding
from entrypoints.preflight import parse
from entrypoints.preflight.inspection import Inspection, check, failed, ok, warning

_ABSENT = warning("{path} is not here", "give docker run -v {path}:{path}:ro")
_NO_MINIMUM = ok("{have}; the documents of {release} name none")
_INCOMPARABLE = warning(
    "{path} names version {have!r}, which cannot be compared with {wanted} of {release}",
    "compare them by hand",
)
_OLD = warning(
    "{have} is older than {wanted}, which {release} names", "update the host's driver and firmware"
)
_RECENT = ok("{have}; {release} names {wanted}")


@check(
    "driver-version",
    "driver version",
    "driver.source",
    *(_ABSENT, _NO_MINIMUM, _INCOMPARABLE, _OLD, _RECENT),
    npu=True,
)
def version(here: Inspection) -> Iterator[Finding]:
    facts, release = here.facts["driver"], here.needs.release.name
    path = facts["version_file"]
    if not here.machine.exists(path):
        yield _ABSENT(path=path)
        return
    have = parse.pairs(here.machine.text(path)).get("Version", "")
    known = facts["releases"].get(release)
    if known is None:
        yield _NO_MINIMUM(have=have or "unknown", release=release)
        return
    ours, lowest = parse.version(have), parse.version(known["version"])
    if ours is None or lowest is None:
        message = _INCOMPARABLE
    else:
        message = _OLD if ours < lowest else _RECENT
    wanted, source = known["version"], known["source"]
    yield message(source=source, path=path, have=have, wanted=wanted, release=release)


_FOUND = ok("{library} is in {folder}")
_LEFT_OUT = failed(
    "{library} is in {folder}, which LD_LIBRARY_PATH leaves out",
    "do not set LD_LIBRARY_PATH, or extend it: …:$LD_LIBRARY_PATH",
)
_NO_LIBRARY = failed(
    "{library} is not in {folder} or below", "give docker run -v {folder}:{folder}:ro"
)


@check(
    "driver-libraries",
    "driver libraries",
    "driver.source",
    *(_FOUND, _LEFT_OUT, _NO_LIBRARY),
    npu=True,
)
def libraries(here: Inspection) -> Iterator[Finding]:
    """Stubs in a `devlib` folder are for building, not for running."""
    facts = here.facts["driver"]
    library, folders = facts["library"], facts["library_folders"]
    searched = [f for f in here.needs.env.get("LD_LIBRARY_PATH", "").split(":") if f]
    found = [f for f in searched if here.machine.exists(os.path.join(f, library))]
    real = [f for f in found if "devlib" not in f.split("/")]
    present = [f for f in folders if here.machine.exists(os.path.join(f, library))]
    if real:
        yield _FOUND(library=library, folder=real[0])
    elif present:
        yield _LEFT_OUT(library=library, folder=present[0])
    else:
        yield _NO_LIBRARY(library=library, folder=folders[0])


_INSTALLED = ok("{path} names {folder}")
_INCOMPLETE = warning("{path} has no Driver_Install_Path_Param", "mount the host's own file")


@check(
    "driver-install",
    "driver installation",
    "driver.source",
    *(_ABSENT, _INSTALLED, _INCOMPLETE),
    npu=True,
)
def install(here: Inspection) -> Iterator[Finding]:
    path = here.facts["driver"]["install_file"]
    if not here.machine.exists(path):
        yield _ABSENT(path=path)
        return
    folder = parse.pairs(here.machine.text(path)).get("Driver_Install_Path_Param", "")
    yield _INSTALLED(path=path, folder=folder) if folder else _INCOMPLETE(path=path)
