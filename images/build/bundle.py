"""A bundle: a directory with everything that a build needs from the network.

bundle.json   format, target images, and the size and sha256 of every file
wheels/       packages and source distributions with the hashes of the locks
roots/        root file systems of Debian packages, each with a fingerprint of its recipe
images/       OCI layout of the stages that need a registry or a package manager
sources/      sources to compile, one archive for each repository
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from common.errors import EX_DATAERR, Finding, UserError, user_error
from common.files import write_atomically
from images.mirrors import Mirrors
from images.registry import documents

INDEX = "bundle.json"
FORMAT = 1
WHEELS, ROOTS, IMAGES, SOURCES = "wheels", "roots", "images", "sources"
MOUNT = "/bundle"  # of the wheels, in the stages
SECRET = "--mount=type=secret,id=mirrors"  # of every step that asks an index
REMEDY = "run invoke fetch DIR again, with the options of the build"


@dataclass(frozen=True)
class File:
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> File:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return cls(path.stat().st_size, digest.hexdigest())


@dataclass(frozen=True)
class Package:
    """A package of a slice, and its files in wheels/."""

    version: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Image:
    """One image that the bundle was made for: its inputs and pins."""

    inputs: str
    stages: Mapping[str, str]
    pins: Mapping[str, str]


@dataclass(frozen=True)
class Bundle:
    directory: Path
    builder: str  # the architecture that builds
    registry_mirror: str = ""
    images: Mapping[str, Image] = field(default_factory=dict)  # target → …
    bases: Mapping[str, str] = field(default_factory=dict)  # reference → identity
    roots: Mapping[str, str] = field(default_factory=dict)  # archive → fingerprint
    stages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # target → stage → digest
    sources: Mapping[str, str] = field(default_factory=dict)  # name → address
    slices: Mapping[str, Mapping[str, Package]] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())

    def write(self) -> None:
        document = {"format": FORMAT, **asdict(self)}
        del document["directory"]
        text = json.dumps(document, indent=1, sort_keys=True) + "\n"
        write_atomically(self.directory / INDEX, text)

    def damage(self) -> list[Finding]:
        """Report every file that is missing or differs from the index."""
        with ThreadPoolExecutor() as pool:
            found = pool.map(self._problem, *zip(*self.files.items(), strict=True))
        return [problem for problem in found if problem]

    def _problem(self, name: str, wanted: File) -> Finding | None:
        path = self.directory / name
        if not path.is_file():
            return Finding(str(path), "is missing", REMEDY)
        if (size := path.stat().st_size) != wanted.size:
            return Finding(str(path), f"has {size} bytes of {wanted.size}", REMEDY)
        if (digest := File.of(path).sha256) != wanted.sha256:
            return Finding(
                str(path), f"its sha256 is {digest}, {INDEX} says {wanted.sha256}", REMEDY
            )
        return None

    # ---- building with it ------------------------------------------------------------------------

    @property
    def mirrors(self) -> Mirrors:
        """The bundle in place of every index; images keep the names they were fetched under."""
        return Mirrors(wheels=MOUNT, registry_mirror=self.registry_mirror)

    @property
    def roots_directory(self) -> Path:
        return self.directory / ROOTS

    def dockerfile(self, text: str) -> str:
        """Deny the network to every step, and mount the wheels where a step asks an index.

        Older releases of buildx ignore bake's own `network`.
        """
        closed = re.sub(r"^RUN ", "RUN --network=none ", text, flags=re.MULTILINE)
        return closed.replace(SECRET, f"{SECRET} --mount=type=bind,from={WHEELS},target={MOUNT}")

    def target(self, made: Mapping[str, Any], name: str, work: Path) -> dict[str, Any]:
        """Make a bake target use the bundle instead of the network."""
        places = dict(made["contexts"])
        places[WHEELS] = str(self.directory / WHEELS)
        layout = self.directory / IMAGES
        for stage, digest in self.stages.get(name, {}).items():
            places[stage] = f"oci-layout://{layout}@{digest}"
        for source in self.sources:
            if f"{source}-source" in places:
                places[f"{source}-source"] = str(self._unpacked(source, work))
        return {**made, "contexts": places}

    def _unpacked(self, source: str, work: Path) -> Path:
        archive = f"{SOURCES}/{source}.tar"
        target = work / f"{source}-{self.files[archive].sha256[:12]}"
        if not target.is_dir():
            scratch = target.with_suffix(".part")
            with tarfile.open(self.directory / archive) as members:
                members.extractall(scratch, filter="tar")
            scratch.rename(target)
        return target


def read(directory: Path) -> Bundle:
    """Read a bundle. Raises UserError (65) when the directory is not one of this format."""
    path = directory / INDEX
    try:
        raw = documents.load(path.read_bytes())
    except FileNotFoundError:
        what, fix = f"is not a bundle: it has no {INDEX}", "make one with invoke fetch DIR"
        raise user_error(str(directory), what, fix, EX_DATAERR) from None
    except (OSError, ValueError) as error:
        raise user_error(str(path), f"cannot be read: {error}", REMEDY, EX_DATAERR) from None
    found = raw.pop("format", None) if isinstance(raw, dict) else None
    if found != FORMAT:
        what = f"has format {found}; this version reads {FORMAT}"
        fix = "fetch it with the same version of the project"
        raise user_error(str(path), what, fix, EX_DATAERR)
    documents.check(raw, "bundle", str(path))
    files = {name: File(**one) for name, one in raw["files"].items()}
    outside = [n for n in files if PurePosixPath(n).is_absolute() or ".." in PurePosixPath(n).parts]
    slices = {
        path: {n: Package(p["version"], tuple(p["files"])) for n, p in packages.items()}
        for path, packages in raw["slices"].items()
    }
    of_slices = [p.files for packages in slices.values() for p in packages.values()]
    named = [f"{WHEELS}/{name}" for several in of_slices for name in several]
    named += [f"{SOURCES}/{name}.tar" for name in raw["sources"]]
    lost = [name for name in named if name not in files]
    for what, wrong in (("names files outside the bundle:", outside), ("has no sha256 of", lost)):
        if wrong:
            raise user_error(str(path), f"{what} {', '.join(wrong)}", REMEDY, EX_DATAERR)
    images = {name: Image(**one) for name, one in raw["images"].items()}
    made = {**raw, "files": files, "slices": slices, "images": images}
    return Bundle(directory.resolve(), **made)


def open_bundle(directory: Path, excluded: Mapping[str, object]) -> Bundle:
    """Read a bundle to build with. Raises UserError (64) for options that need a network."""
    given = [f"--{name.replace('_', '-')}" for name, value in excluded.items() if value]
    if given:
        raise UserError(
            [Finding("--offline", f"and {one} exclude each other", "leave one") for one in given]
        )
    return read(directory)
