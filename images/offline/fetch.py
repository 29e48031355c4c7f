"""Make a bundle: fetch everything that a build needs from the network into a directory."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
import tomli

from common.errors import EX_DATAERR, EX_UNAVAILABLE, Finding, UserError, user_error
from common.paths import WORK
from common.terminal import Say
from images.build import base as bases
from images.build import push, rootfs
from images.build.bake import bake
from images.build.build import common_target, provide_vendor
from images.build.bundle import (
    IMAGES,
    INDEX,
    ROOTS,
    SOURCES,
    WHEELS,
    Bundle,
    File,
    Image,
    Package,
    read,
)
from images.build.progress import Progress
from images.build.targets import BuildTarget
from images.locking import lock, slices, vendor
from images.locking.uv import UV
from images.mirrors import Mirrors
from images.offline import needs
from images.offline.needs import Needs, Slice
from images.registry.transfer import run_all

ATTEMPTS = 4  # of one download; each resumes the last
PAUSE = 2.0
TIMEOUT = (10, 120)
AT_ONCE = 4
CHUNK = 1 << 20
FIX = "--pip-index, --torch-index; for platform cpu --wheels"
LARGE = 50_000_000  # bytes; such a file gets a line of progress


@dataclass(frozen=True)
class Remote:
    """A file of an index, with the hash of the lock."""

    name: str
    url: str
    sha256: str
    size: int = 0


Resolver = Callable[[Slice], dict[str, list[Remote]]]
Downloader = Callable[[Remote, Path, threading.Event], None]


@dataclass(frozen=True)
class Fetched:
    bundle: Bundle
    kept: int
    seconds: float


def fetch(
    targets: list[BuildTarget],
    directory: Path,
    say: Say,
    resolver: Resolver | None = None,
    downloader: Downloader | None = None,
) -> Fetched:
    """Complete the bundle in `directory` for the targets; intact files stay.

    Raises UserError: 65 for a file that differs from the lock, 69 when something cannot be fetched.
    The index is written last: a directory with an index is complete.
    """
    began = time.monotonic()
    directory = directory.resolve()
    before = _before(directory)
    options = targets[0].options
    provide_vendor(targets, say)
    mirrors = options.mirrors
    made = _Fetch(directory, targets, needs.collect(targets), say)
    made.add_packages(
        resolver or partial(resolve, mirrors=mirrors, wheels=options.wheels),
        downloader or partial(download, certificates=mirrors.certificates),
    )
    made.add_roots()
    made.add_sources(before)
    made.add_stages()
    images = {target.base.image for target in targets if target.base.image}
    wanted = made.needs
    bundle = Bundle(
        directory,
        wanted.builder,
        mirrors.registry_mirror,
        {
            name: Image(one.digest, one.stages, wanted.pins[name])
            for name, one in wanted.inputs.items()
        },
        {image: bases.identify(image, options.builder).identity for image in sorted(images)},
        needs.fingerprints(wanted),
        made.stages,
        wanted.sources,
        made.slices,
        made.files,
    )
    bundle.write()
    for name in before.files.keys() - made.files.keys() if before else ():
        (directory / name).unlink(missing_ok=True)
    return Fetched(bundle, made.kept, time.monotonic() - began)


def _before(directory: Path) -> Bundle | None:
    """The bundle in the directory. Raises UserError (64) for a directory with other files."""
    if (directory / INDEX).is_file():
        with suppress(UserError):
            return read(directory)
        return None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        others = {path.name for path in directory.iterdir() if f".{INDEX}." not in path.name}
    except OSError as error:
        raise user_error(
            str(directory), f"cannot be used: {error.strerror}", "another DIR"
        ) from None
    if others - {WHEELS, ROOTS, IMAGES, SOURCES}:
        raise user_error(str(directory), "has other files in it", "an empty or new directory")
    return None


@dataclass
class _Fetch:
    """One run, with the contents of the bundle so far."""

    directory: Path
    targets: list[BuildTarget]
    needs: Needs
    say: Say
    files: dict[str, File] = field(default_factory=dict)
    slices: dict[str, dict[str, Package]] = field(default_factory=dict)
    stages: dict[str, dict[str, str]] = field(default_factory=dict)
    kept: int = 0

    def add_packages(self, resolver: Resolver, downloader: Downloader) -> None:
        (self.directory / WHEELS).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(resolver, self.needs.slices))
        problems: list[Finding] = []
        remotes: dict[str, Remote] = {}
        for one, packages in zip(self.needs.slices, found, strict=True):
            self.slices[one.path] = {}
            for pin in one.pinned():
                files = [
                    file
                    for file in packages.get(pin.name, [])
                    if f"sha256:{file.sha256}" in pin.hashes
                ]
                if not files:
                    kind = "source distribution" if one.from_source else f"wheel for {one.machine}"
                    which = f"{kind} of {pin.name} {pin.version}"
                    what = f"the index has no {which} with a hash of the lock"
                    problems.append(Finding(f"locks/{one.path}", what, FIX))
                remotes |= {file.name: file for file in files}
                names = tuple(sorted(file.name for file in files))
                self.slices[one.path][pin.name] = Package(pin.version, names)
        if problems:
            raise UserError(problems, EX_UNAVAILABLE)
        self._download(remotes.values(), downloader)
        for name, remote in sorted(remotes.items()):
            size = (self.directory / WHEELS / name).stat().st_size
            self.files[f"{WHEELS}/{name}"] = File(size, remote.sha256)

    def _download(self, remotes: Iterable[Remote], downloader: Downloader) -> None:
        """Download missing and damaged files; a file gets its name once its hash matches."""
        waiting = []
        for remote in remotes:
            path = self.directory / WHEELS / remote.name
            if path.is_file() and File.of(path).sha256 == remote.sha256:
                self.kept += 1
            else:
                waiting.append(remote)
        megabytes = sum(remote.size for remote in waiting) / 1e6
        self.say(f"{self.kept} packages present, {len(waiting)} to fetch: {megabytes:.0f} MB")
        stop = threading.Event()
        action = partial(self._one, downloader=downloader, stop=stop)
        problems = [one for found in run_all(waiting, action, stop, AT_ONCE) for one in found]
        if problems:
            wrong = any("sha256" in problem.message for problem in problems)
            raise UserError(sorted(problems, key=str), EX_DATAERR if wrong else EX_UNAVAILABLE)

    def _one(self, remote: Remote, downloader: Downloader, stop: threading.Event) -> list[Finding]:
        part = self.directory / WHEELS / f".{remote.name}.part"
        try:
            downloader(remote, part, stop)
        except (requests.RequestException, OSError) as error:
            fix = "run invoke fetch again to resume"
            return [Finding(remote.name, f"cannot be fetched: {error}", fix)]
        found = File.of(part)
        if found.sha256 != remote.sha256:
            part.unlink()
            what = f"its sha256 is {found.sha256}, the lock says {remote.sha256}"
            return [Finding(remote.name, what, "do not trust an index that changes packages")]
        part.replace(part.with_name(remote.name))
        if found.size > LARGE:
            self.say(f"{remote.name}: {found.size / 1e6:.0f} MB")
        return []

    def add_roots(self) -> None:
        mirror = self.targets[0].options.mirrors.apt_mirror
        for name, (debian, arch) in self.needs.roots.items():
            kind = name.removesuffix(f"-{arch.name}.tar")
            archive = rootfs.provide(debian, arch, kind, WORK / "roots", self.say, mirror)
            for source in (archive, archive.with_suffix(".sha256")):
                target = self.directory / ROOTS / source.name
                self.kept += _copied(source, target)
                self.files[f"{ROOTS}/{target.name}"] = File.of(target)

    def add_sources(self, before: Bundle | None) -> None:
        for name, address in self.needs.sources.items():
            file = f"{SOURCES}/{name}.tar"
            path = self.directory / file
            known = before and before.sources.get(name) == address and before.files.get(file)
            if known and path.is_file() and File.of(path) == known:
                self.kept += 1
            else:
                self.say(f"{name}: {address}")
                path.parent.mkdir(exist_ok=True)
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
                    _clone(address, Path(scratch) / name)
                    part = Path(scratch) / path.name
                    with tarfile.open(part, "w") as archive:
                        archive.add(Path(scratch) / name, arcname=".", filter=_without_git)
                    part.replace(path)
            self.files[file] = File.of(path)

    def add_stages(self) -> None:
        """Build stages that need a registry or a package manager into the bundle's layout."""
        wanted = self.needs.stages
        if not wanted:
            return
        layout = self.directory / IMAGES
        layout.mkdir(exist_ok=True)
        exported = {}
        for target in self.targets:
            common = common_target(target, target.dockerfile.text, f"{target.name}.fetch")
            for stage in wanted.get(target.name, ()):
                self.say(f"{target.name}: {stage}")
                exported[f"{stage}-{target.name}"] = {
                    **common,
                    "target": stage,
                    "platforms": [arch.oci_platform for arch in target.options.arches],
                    "output": [f"type=oci,tar=false,dest={layout},oci-mediatypes=true"],
                }
        builder = self.targets[0].options.builder
        metadata = bake(exported, WORK / "bake-fetch", Progress(), builder=builder)
        for name, stages in wanted.items():
            self.stages[name] = {
                stage: metadata[f"{stage}-{name}"]["containerimage.digest"] for stage in stages
            }
        kept = [digest for found in self.stages.values() for digest in found.values()]
        push.prune_layout(kept, layout)
        for path in sorted(path for path in layout.rglob("*") if path.is_file()):
            self.files[str(path.relative_to(self.directory))] = File.of(path)


def resolve(one: Slice, mirrors: Mirrors, wheels: Path | None = None) -> dict[str, list[Remote]]:
    """Package → files that uv can choose from for a slice. Raises UserError (69).

    Includes every file that fits, so that the build makes the same choice as online. `wheels` is a
    directory besides the index.
    """
    options = ["--no-binary" if one.from_source else "--only-binary", ":all:"]
    options += ["--find-links", str(wheels)] if wheels else []
    if Path(one.path).stem == slices.VENDOR:
        options += ["--find-links", str(vendor.WHEELS / Path(one.path).parts[0])]
    certificates = {"SSL_CERT_FILE": mirrors.certificates} if mirrors.certificates else {}
    answer = subprocess.run(
        [
            *(UV, "pip", "compile", "--quiet", "--no-header", "--no-deps", *options),
            *("--format", "pylock.toml", "--python-version", one.python),
            *("--python-platform", f"{one.machine}-{lock.MANYLINUX}"),
            str(slices.LOCKS / one.path),
        ],
        env={**os.environ, **mirrors.settings, **certificates},
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        words = " ".join(answer.stderr.split()) or "failed without output"
        raise user_error(f"locks/{one.path}", words, FIX, EX_UNAVAILABLE)
    found: dict[str, list[Remote]] = {}
    for package in tomli.loads(answer.stdout).get("packages", []):
        entries = [package["sdist"]] if one.from_source else package.get("wheels", [])
        found[package["name"]] = [
            Remote(
                entry.get("name") or unquote(urlsplit(url).path).rpartition("/")[2],
                url,
                entry["hashes"]["sha256"],
                entry.get("size", 0),
            )
            for entry in entries
            if (url := entry.get("url") or Path(entry["path"]).resolve().as_uri())
        ]
    return found


def download(remote: Remote, path: Path, stop: threading.Event, certificates: str = "") -> None:
    """Download over HTTP; resume a partial download. Raises OSError, RequestException."""
    if remote.url.startswith("file:"):
        shutil.copyfile(unquote(urlsplit(remote.url).path), path)
        return
    for attempt in range(ATTEMPTS):
        try:
            return _attempt(remote, path, stop, certificates)
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            if attempt == ATTEMPTS - 1 or stop.wait(PAUSE * 2**attempt):
                raise


def _attempt(remote: Remote, path: Path, stop: threading.Event, certificates: str) -> None:
    had = path.stat().st_size if path.is_file() else 0
    if had and had == remote.size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
    with requests.get(
        remote.url, stream=True, headers=headers, timeout=TIMEOUT, verify=certificates or True
    ) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            path.unlink()  # longer than the file: it is another file
            raise requests.ConnectionError("the partial download is longer than the file")
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        with path.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_content(CHUNK):
                if stop.is_set():
                    raise requests.ConnectionError("stopped")
                file.write(chunk)


def _copied(source: Path, target: Path) -> bool:
    """Copy a file unless an equal one exists; return whether it did."""
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return True
    target.parent.mkdir(exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.replace(target)
    return False


def _clone(address: str, target: Path) -> None:
    url, _, reference = address.partition("#")
    branch = ["--branch", reference] if reference else []
    answer = subprocess.run(
        [
            *("git", "clone", "--quiet", "--depth=1", *branch),
            *("--recurse-submodules", "--shallow-submodules", url, str(target)),
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if answer.returncode:
        words = " ".join(answer.stderr.split())
        raise user_error(
            address, f"cannot be cloned: {words}", "--source NAME=DIR|URL", EX_UNAVAILABLE
        )


def _without_git(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if ".git" in Path(member.name).parts else member


# ---- output --------------------------------------------------------------------------------------


def fetched_data(fetched: Fetched) -> dict[str, object]:
    bundle = fetched.bundle
    return {
        "directory": str(bundle.directory),
        "files": len(bundle.files),
        "kept": fetched.kept,
        "bytes": bundle.size,
        "seconds": round(fetched.seconds, 1),
        "images": {name: one.inputs for name, one in bundle.images.items()},
    }


def fetched_text(fetched: Fetched) -> str:
    bundle = fetched.bundle
    return (
        f"{bundle.directory}: {len(bundle.files)} files, {bundle.size / 1e6:.0f} MB, "
        f"{fetched.kept} of them were present; {fetched.seconds:.0f} s\n"
        f"build from it with invoke build --offline {bundle.directory} and the same options"
    )
