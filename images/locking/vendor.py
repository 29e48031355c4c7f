"""The vendor slice: packages of a release that the package index lacks, and their addresses.

The release's YAML has the address of each. `complete` gets the wheels from there or from a
directory, hashes them and writes `{arch}/vendor.txt`. `fetch` provides the wheels of the slice
for a build, and refuses a wheel with another hash: vendors replace builds under the same name.
"""

from __future__ import annotations

import email
import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import requests
from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from common.errors import EX_DATAERR, EX_UNAVAILABLE, Finding, UserError
from common.paths import WORK
from common.terminal import Say
from images.locking.lock import lock
from images.locking.slices import (
    EXCLUDED,
    LOCKS,
    VENDOR,
    Pinned,
    read,
    read_slice,
    render,
    slice_path,
)
from images.matrix import Arch, Matrix, Release

WHEELS = WORK / "vendor"
TIMEOUT = (10, 120)
CHUNK = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """One wheel: a package of a release for an architecture. `address`: a wheel, or a page."""

    release: Release
    name: str
    arch: Arch

    @property
    def version(self) -> str:
        return self.release.version_of(self.name)

    @property
    def address(self) -> str:
        vendor = self.release.vendor[self.name]
        return vendor.urls.get(self.arch.name) or f"{vendor.index.rstrip('/')}/{self.name}/"

    @property
    def describe(self) -> str:
        return f"{self.name} {self.version} for {self.arch.name}"

    def fits(self, file: str) -> bool:
        """Whether a file is this wheel by its name; the build may have a local version."""
        try:
            name, version, _, tags = parse_wheel_filename(file)
        except InvalidWheelFilename:
            return False
        python = f"cp{self.release.python.replace('.', '')}"
        return (
            name == canonicalize_name(self.name)
            and version.public == Version(self.version).public
            and any(
                tag.interpreter in (python, "py3") and tag.platform.endswith(self.arch.machine)
                for tag in tags
            )
        )


class _Unreachable(Exception):
    """Raised with the reason when an address has no such wheel, or does not answer."""


def complete(
    matrix: Matrix,
    release: Release,
    arches: Iterable[Arch],
    wheels: Path | None,
    certificates: str,
    say: Say,
    locks: Path = LOCKS,
) -> None:
    """Hash each wheel of the vendor that is not in a slice, and write the slices.

    Raises UserError: 69 with every package that cannot be reached, its address and what to do; 65
    for a wheel that requires a package that the lock lacks.
    """
    missing = [
        arch for arch in arches if not slice_path(release, arch.name, VENDOR, locks).is_file()
    ]
    problems: list[Finding] = []
    made: dict[Path, list[Pinned]] = {}
    for arch in missing if release.vendor else ():
        slices = read(matrix, release, arch.name, locks)
        locked = {one.name for packages in slices.values() for one in packages}
        pinned = []
        for wanted in (Wanted(release, name, arch) for name in release.vendor):
            try:
                wheel, where = _obtain(wanted, wheels, certificates)
            except _Unreachable as reason:
                problems.append(_unreachable(wanted, reason))
                continue
            sha256 = _sha256(wheel)
            say(f"{wheel.name}: sha256 {sha256}, from {where}")
            problems += _unlocked(wanted, wheel, {*locked, *release.vendor})
            version = parse_wheel_filename(wheel.name)[1]
            pinned.append(Pinned(wanted.name, str(version), (f"sha256:{sha256}",)))
        made[slice_path(release, arch.name, VENDOR, locks)] = pinned
    if problems:
        code = EX_UNAVAILABLE if any("is not on" in one.message for one in problems) else EX_DATAERR
        raise UserError(problems, code)
    for path, packages in made.items():
        path.write_text(render(packages), encoding="utf-8")
        say(f"{release.name}: wrote {path.relative_to(locks.parent)}")


def lock_release(
    matrix: Matrix,
    release: Release,
    torch_index: str | None,
    wheels: Iterable[str],
    certificates: str,
    say: Say,
    locks: Path = LOCKS,
) -> Path:
    """Lock a release, and complete its vendor slice if the wheels can be reached.

    `wheels`: directories or pages. Raises UserError (69) if anything else cannot be locked.
    """
    made = lock(matrix, release, torch_index, say, locks, wheels)
    for directory in (*(Path(one) for one in wheels if Path(one).is_dir()), None):
        try:
            arches = matrix.arches.values()
            complete(matrix, release, arches, directory, certificates, say, locks)
            break
        except UserError as error:
            if error.exit_code != EX_UNAVAILABLE:
                raise
            if directory is None:
                say(f"{release.name}: locked without the vendor's packages; a build completes it:")
                for finding in error.findings:
                    say(f"  {finding}")
    return made


def fetch(
    release: Release,
    arches: Iterable[Arch],
    wheels: Path | None,
    certificates: str,
    say: Say,
    locks: Path = LOCKS,
) -> Path:
    """Return a directory with the wheels of the vendor slices, each with the hash of its slice.

    Raises UserError: 65 with every wheel of another hash, 69 with those out of reach.
    """
    problems: list[Finding] = []
    directory = directory_of(release)
    for arch in arches:
        path = slice_path(release, arch.name, VENDOR, locks)
        for pinned in read_slice(path):
            wanted = Wanted(release, pinned.name, arch)
            kept = [one for one in directory.glob("*.whl") if wanted.fits(one.name)]
            if any(f"sha256:{_sha256(one)}" in pinned.hashes for one in kept):
                continue
            try:
                wheel, where = _obtain(wanted, wheels, certificates)
            except _Unreachable as reason:
                problems.append(_unreachable(wanted, reason))
                continue
            found = f"sha256:{_sha256(wheel)}"
            if found not in pinned.hashes:
                wheel.unlink()
                what = (
                    f"{pinned.name} {pinned.version} has {pinned.hashes[0]}; {wheel.name} from"
                    f" {where} has {found}: the vendor uploaded another build of this version"
                )
                fix = (
                    "--wheels DIR with the wheel that was locked; or, if you trust the new one,"
                    f" delete {VENDOR}.txt and run invoke lock --release {release.name}"
                )
                problems.append(Finding(f"locks/{path.relative_to(locks)}", what, fix))
            else:
                say(f"{wheel.name}: {found}, from {where}")
    if problems:
        changed = any("another build" in one.message for one in problems)
        raise UserError(problems, EX_DATAERR if changed else EX_UNAVAILABLE)
    return directory


def directory_of(release: Release) -> Path:
    """Where `fetch` puts the wheels of a release."""
    return WHEELS / release.name


def _unreachable(wanted: Wanted, reason: _Unreachable) -> Finding:
    release = wanted.release.name
    return Finding(
        f"--release {release}",
        f"{wanted.describe} is not on the package index, and {wanted.address}: {reason}",
        f"download that wheel elsewhere and give its directory as --wheels DIR; or run invoke lock"
        f" --release {release} where the address can be reached",
    )


def _unlocked(wanted: Wanted, wheel: Path, locked: set[str]) -> Iterator[Finding]:
    """What a wheel requires and the lock lacks."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (one for one in opened.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(opened.read(name))
    machine = {
        "python_version": wanted.release.python,
        "platform_machine": wanted.arch.machine,
        "sys_platform": "linux",
        "extra": "",
    }
    for required in map(Requirement, metadata.get_all("Requires-Dist") or ()):
        name = canonicalize_name(required.name)
        applies = required.marker is None or required.marker.evaluate(machine)
        if applies and name not in locked and not EXCLUDED.fullmatch(name):
            what = f"{wheel.name} requires {required}, which the lock lacks"
            fix = f"add it to requirements in releases/{wanted.release.name}.yaml, and lock again"
            yield Finding(f"vendor.{wanted.name}", what, fix)


# ---- obtaining wheels ----------------------------------------------------------------------------


def _obtain(wanted: Wanted, wheels: Path | None, certificates: str) -> tuple[Path, str]:
    """Copy or download a wheel into the release's directory. Return its path and origin."""
    directory = directory_of(wanted.release)
    directory.mkdir(parents=True, exist_ok=True)
    given = _newest([one.name for one in wheels.glob("*.whl")] if wheels else [], wanted)
    if wheels and given:
        return Path(shutil.copy2(wheels / given, directory)), str(wheels)
    try:
        url = wanted.address
        if url.endswith("/"):
            url = _on_page(wanted, certificates)
        name = unquote(urlsplit(url).path).rpartition("/")[2]
        with tempfile.NamedTemporaryFile(dir=directory, suffix=".part", delete=False) as part:
            path = Path(part.name)
            try:
                with _get(url, certificates) as answer:
                    for chunk in answer.iter_content(CHUNK):
                        part.write(chunk)
                part.close()
                return path.rename(directory / name), url
            finally:
                path.unlink(missing_ok=True)
    except (requests.RequestException, OSError) as error:
        raise _Unreachable(f"cannot be fetched: {error}") from None


def _on_page(wanted: Wanted, certificates: str) -> str:
    """The address of a wheel on the page of an index."""
    with _get(wanted.address, certificates) as answer:
        page = _Links()
        page.feed(answer.text)
        links = {unquote(urlsplit(one).path).rpartition("/")[2]: one for one in page.links}
        if name := _newest(links, wanted):
            return urljoin(answer.url, links[name]).partition("#")[0]
    raise _Unreachable(f"has no wheel for Python {wanted.release.python} on {wanted.arch.machine}")


def _newest(names: Iterable[str], wanted: Wanted) -> str:
    """The file that fits, the highest local version of several; empty if none does."""
    fitting = [name for name in names if wanted.fits(name)]
    return max(fitting, key=lambda name: (parse_wheel_filename(name)[1], name), default="")


def _get(url: str, certificates: str) -> requests.Response:
    answer = requests.get(url, stream=True, timeout=TIMEOUT, verify=certificates or True)
    answer.raise_for_status()
    return answer


class _Links(HTMLParser):
    """The links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
