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
from concurrent.futures import ThreadPoolExecutor, as_completed
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
from images.build.build import common_target
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
from images.locking import lock
from images.locking.uv import UV
from images.mirrors import Mirrors
from images.offline import needs
from images.offline.needs import Needs, Slice

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


@dataclass
class _Made:
    """The contents of the bundle so far."""

    directory: Path
    say: Say
    files: dict[str, File] = field(default_factory=dict)
    slices: dict[str, dict[str, Package]] = field(default_factory=dict)
    stages: dict[str, dict[str, str]] = field(default_factory=dict)
    kept: int = 0


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
    wanted = needs.collect(targets)
    made = _Made(directory, say)
    resolver = resolver or partial(resolve, mirrors=options.mirrors, wheels=options.wheels)
    _packages(wanted, made, resolver, downloader or Http(options.mirrors))
    _roots(wanted, made)
    _sources(wanted, before, made)
    _stages(targets, wanted, made)
    images = {target.base.image for target in targets if target.base.image}
    bundle = Bundle(
        directory,
        wanted.builder,
        options.mirrors.registry_mirror,
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


# ---- packages ------------------------------------------------------------------------------------


def _packages(wanted: Needs, made: _Made, resolver: Resolver, downloader: Downloader) -> None:
    directory = made.directory / WHEELS
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(resolver, wanted.slices))
    problems: list[Finding] = []
    remotes: dict[str, Remote] = {}
    for one, packages in zip(wanted.slices, found, strict=True):
        made.slices[one.path] = {}
        for pin in one.pinned():
            files = [f for f in packages.get(pin.name, []) if f"sha256:{f.sha256}" in pin.hashes]
            if not files:
                kind = "source distribution" if one.from_source else f"wheel for {one.machine}"
                what = (
                    f"the index has no {kind} of {pin.name} {pin.version} with a hash of the lock"
                )
                problems.append(Finding(f"locks/{one.path}", what, FIX))
            remotes |= {file.name: file for file in files}
            names = tuple(sorted(file.name for file in files))
            made.slices[one.path][pin.name] = Package(pin.version, names)
    if problems:
        raise UserError(problems, EX_UNAVAILABLE)
    _download(remotes.values(), made, downloader)
    made.files |= {
        f"{WHEELS}/{name}": File((directory / name).stat().st_size, remote.sha256)
        for name, remote in sorted(remotes.items())
    }


def resolve(one: Slice, mirrors: Mirrors, wheels: Path | None = None) -> dict[str, list[Remote]]:
    """Package → files that uv can choose from for a slice. Raises UserError (69).

    Includes every file that fits, so that the build makes the same choice as online. `wheels` is a
    directory besides the index.
    """
    options = ["--no-binary" if one.from_source else "--only-binary", ":all:"]
    options += ["--find-links", str(wheels)] if wheels else []
    answer = subprocess.run(
        [
            *(UV, "pip", "compile", "--quiet", "--no-header", "--no-deps", *options),
            *("--format", "pylock.toml", "--python-version", one.python),
            *("--python-platform", f"{one.machine}-{lock.MANYLINUX}"),
            str(lock.LOCKS / one.path),
        ],
        env={**os.environ, **mirrors.settings, **_certificates(mirrors)},
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        words = " ".join(answer.stderr.split()) or "failed without output"
        fix = FIX
        raise user_error(f"locks/{one.path}", words, fix, EX_UNAVAILABLE)
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


def _certificates(mirrors: Mirrors) -> dict[str, str]:
    return {"SSL_CERT_FILE": mirrors.certificates} if mirrors.certificates else {}


def _download(remotes: Iterable[Remote], made: _Made, downloader: Downloader) -> None:
    """Download missing and damaged files; a file gets its name once its hash matches."""
    waiting = []
    for remote in remotes:
        path = made.directory / WHEELS / remote.name
        if path.is_file() and File.of(path).sha256 == remote.sha256:
            made.kept += 1
        else:
            waiting.append(remote)
    megabytes = sum(remote.size for remote in waiting) / 1e6
    made.say(f"{made.kept} packages present, {len(waiting)} to fetch: {megabytes:.0f} MB")
    stop = threading.Event()
    problems: list[Finding] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(_one, remote, made, downloader, stop) for remote in waiting]
        try:
            for future in as_completed(running):
                problems += future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if problems:
        wrong = any("sha256" in problem.message for problem in problems)
        raise UserError(sorted(problems, key=str), EX_DATAERR if wrong else EX_UNAVAILABLE)


def _one(
    remote: Remote, made: _Made, downloader: Downloader, stop: threading.Event
) -> list[Finding]:
    directory = made.directory / WHEELS
    part = directory / f".{remote.name}.part"
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
    part.replace(directory / remote.name)
    if found.size > LARGE:
        made.say(f"{remote.name}: {found.size / 1e6:.0f} MB")
    return []


class Http:
    """Downloads over HTTP, and resumes partial downloads."""

    def __init__(self, mirrors: Mirrors) -> None:
        self.certificates = mirrors.certificates or True

    def __call__(self, remote: Remote, path: Path, stop: threading.Event) -> None:
        if remote.url.startswith("file:"):
            shutil.copyfile(unquote(urlsplit(remote.url).path), path)
            return
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(remote, path, stop)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if attempt == ATTEMPTS - 1 or stop.wait(PAUSE * 2**attempt):
                    raise

    def _attempt(self, remote: Remote, path: Path, stop: threading.Event) -> None:
        had = path.stat().st_size if path.is_file() else 0
        if had and had == remote.size:
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
        with requests.get(
            remote.url, stream=True, headers=headers, timeout=TIMEOUT, verify=self.certificates
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


# ---- root file systems, sources, stages ----------------------------------------------------------


def _roots(wanted: Needs, made: _Made) -> None:
    directory = made.directory / ROOTS
    for name, (debian, arch) in wanted.roots.items():
        kind = name.removesuffix(f"-{arch.name}.tar")
        archive = rootfs.provide(debian, arch, kind, WORK / "roots", made.say)
        stamp = archive.with_suffix(".sha256")
        made.kept += _copied(archive, directory / name)
        made.kept += _copied(stamp, directory / stamp.name)
        for one in (name, stamp.name):
            made.files[f"{ROOTS}/{one}"] = File.of(directory / one)


def _copied(source: Path, target: Path) -> bool:
    """Copy a file unless an equal one exists; return whether it did."""
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return True
    target.parent.mkdir(exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    part.replace(target)
    return False


def _sources(wanted: Needs, before: Bundle | None, made: _Made) -> None:
    for name, address in wanted.sources.items():
        file = f"{SOURCES}/{name}.tar"
        path = made.directory / file
        known = before and before.sources.get(name) == address and before.files.get(file)
        if known and path.is_file() and File.of(path) == known:
            made.files[file] = known
            made.kept += 1
            continue
        made.say(f"{name}: {address}")
        path.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
            _clone(address, Path(scratch) / name)
            part = Path(scratch) / path.name
            with tarfile.open(part, "w") as archive:
                archive.add(Path(scratch) / name, arcname=".", filter=_without_git)
            part.replace(path)
        made.files[file] = File.of(path)


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


def _stages(targets: list[BuildTarget], wanted: Needs, made: _Made) -> None:
    """Build stages that need a registry or a package manager into the bundle's layout."""
    if not wanted.stages:
        return
    layout = made.directory / IMAGES
    layout.mkdir(exist_ok=True)
    exported = {}
    for target in targets:
        common = common_target(target, target.dockerfile.text, f"{target.name}.fetch")
        for stage in wanted.stages.get(target.name, ()):
            made.say(f"{target.name}: {stage}")
            exported[f"{stage}-{target.name}"] = {
                **common,
                "target": stage,
                "platforms": [arch.oci_platform for arch in target.options.arches],
                "output": [f"type=oci,tar=false,dest={layout},oci-mediatypes=true"],
            }
    metadata = bake(exported, WORK / "bake-fetch", Progress(), builder=targets[0].options.builder)
    for target_name, stages in wanted.stages.items():
        made.stages[target_name] = {
            stage: metadata[f"{stage}-{target_name}"]["containerimage.digest"] for stage in stages
        }
    push.prune_layout(
        [digest for found in made.stages.values() for digest in found.values()], layout
    )
    for path in sorted(path for path in layout.rglob("*") if path.is_file()):
        made.files[str(path.relative_to(made.directory))] = File.of(path)


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
