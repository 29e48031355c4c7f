"""The SBOM of an image as CycloneDX: the same bytes for the same image.

Names, versions and licences come from the image, hashes of Python packages from the lock.
"""

from __future__ import annotations

import json
import re
import shlex
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from jsonschema_rs import Draft7Validator, Registry
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from common.errors import EX_DATAERR, EX_SOFTWARE, user_error
from common.files import write_atomically
from common.terminal import Say
from images.attestations.provenance import base_digest, buildkit
from images.contents import image as contents
from images.contents.image import Image
from images.contents.layers import Blobs
from images.contents.packages import (
    OS_RELEASE,
    OsPackage,
    PythonPackage,
    os_packages,
    packages,
)
from images.labels import BASE, BASE_DIGEST, BASE_NAME, PIN, RELEASE
from images.locking import cpu, slices
from images.locking.slices import LOCKS, Pinned
from images.matrix import CPU, STAND_IN, Matrix, Release
from images.names import REPOSITORY
from images.registry.oci import Manifest

NAMESPACE = uuid.UUID("6c2f8a52-2f1e-5b0e-9d55-6a0f6e8f4f5c")  # of the serial numbers, for ever
SITE_PACKAGES = re.compile(r"opt/vllm/lib/python3\.\d+/site-packages")
LONGEST_LICENSE = 100  # some packages put the whole text where its name belongs
COMPILED = "compiled from its sources for this image"


def documents(
    matrix: Matrix, store: Blobs, root: Manifest, arches: Sequence[str], say: Say
) -> dict[str, tuple[Manifest, str]]:
    """Architecture → manifest and SBOM, of all or `arches`. Raises UserError (65, 69)."""
    beside = buildkit(store, root) if root.is_index else {}
    made: dict[str, tuple[Manifest, str]] = {}
    for arch, manifest in contents.manifests(store, root, arches).items():
        say(f"reading {arch}, {sum(blob.size for blob in manifest.blobs) / 1e6:,.1f} MB")
        image = contents.image(store, manifest)
        base = base_digest(beside.get(manifest.digest, []), image.labels.get(BASE_NAME, ""))
        made[arch] = manifest, document(matrix, image, base)
    return made


def only(made: Mapping[str, tuple[Manifest, str]]) -> str:
    """The only SBOM. Raises UserError (64) if there are several."""
    if len(made) != 1:
        what = f"the image has {', '.join(made)}: one list of contents each"
        raise user_error("--arch", what, f"--arch {next(iter(made))}, or --out DIR")
    return next(iter(made.values()))[1]


def write(made: Mapping[str, tuple[Manifest, str]], directory: Path) -> list[Path]:
    """Write a file for each architecture. Raises UserError (64) if it cannot."""
    paths = []
    for arch, (_, text) in made.items():
        path = directory / f"{arch}.cdx.json"
        try:
            write_atomically(path, text, parents=True)
        except OSError as error:
            raise user_error("--out", f"{path} cannot be written: {error.strerror}") from None
        paths.append(path)
    return paths


def document(matrix: Matrix, image: Image, base: str = "", locks: Path = LOCKS) -> str:
    """The SBOM of one architecture, in JSON.

    `base` is the digest of the base image from the provenance, for images whose label lacks it.
    Raises UserError: 65 for an image that this project did not build, 70 if the document violates
    the schema.
    """
    release = _release(matrix, image)
    root = Component(
        type=ComponentType.CONTAINER,
        name=REPOSITORY,
        version=release.name,
        purl=PackageURL("oci", None, REPOSITORY, image.manifest.digest, {"arch": image.arch}),
        bom_ref=image.manifest.digest,
        hashes=[_sha256(image.manifest.digest)],
        properties=[Property(name=name, value=value) for name, value in _own(image).items()],
    )
    bom = Bom(
        serial_number=uuid.uuid5(NAMESPACE, image.manifest.digest),
        components=[
            *_python(matrix, release, image, locks),
            *_system(image),
            *_beneath(image, base),
            *_compiled(matrix, release, image),
        ],
    )
    bom.metadata.timestamp = _created(image)
    bom.metadata.component = root
    bom.register_dependency(root, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=1) + "\n"
    if wrong := invalid(json.loads(text)):
        raise user_error("SBOM", f"does not fit the schema: {wrong}", exit_code=EX_SOFTWARE)
    return text


def invalid(document: Any) -> str:
    """Why a document violates the schema of CycloneDX 1.6; empty if it is valid."""
    wrong = next(_schema().iter_errors(document), None)
    return " ".join(wrong.message.replace('"', "'").split())[:300] if wrong else ""


@cache
def _schema() -> Draft7Validator:
    """The library's own validator checks the same files, but takes two seconds to import."""
    folder = files("cyclonedx.schema") / "_res"
    bom, *others = (
        (f"http://cyclonedx.org/schema/{name}", json.loads((folder / name).read_text("utf-8")))
        for name in map("{}.SNAPSHOT.schema.json".format, ("bom-1.6", "spdx", "jsf-0.82"))
    )
    return Draft7Validator(bom[1], validate_formats=True, registry=Registry(others))


def parts(document: Mapping[str, Any]) -> dict[str, set[tuple[str, str]]]:
    """The packages that a valid document lists: type of package URL → (name, version)."""
    found: dict[str, set[tuple[str, str]]] = {}
    for component in document.get("components") or []:
        kind = str(component.get("purl", "")).partition("/")[0].removeprefix("pkg:")
        name = component["name"]
        named = canonicalize_name(name) if kind == "pypi" else name
        found.setdefault(kind, set()).add((named, component.get("version", "")))
    return found


def subject(document: Mapping[str, Any]) -> str:
    """The digest of the image that a valid document is about."""
    component = (document.get("metadata") or {}).get("component") or {}
    return str(component.get("bom-ref", ""))


def base(document: Mapping[str, Any]) -> str:
    """The digest of the base image that a valid document lists; empty if it lists none."""
    for component in document.get("components") or []:
        if component.get("type") == "container":
            for one in component.get("hashes") or []:
                return f"sha256:{one['content']}"
    return ""


def _release(matrix: Matrix, image: Image) -> Release:
    name = image.labels.get(RELEASE, "")
    if name not in matrix.releases:
        what = f"the label of the release says '{name}'"
        raise user_error("IMAGE", what, "an image that invoke build made", EX_DATAERR)
    return matrix.releases[name]


def _own(image: Image) -> dict[str, str]:
    """The labels about the build and its fallbacks."""
    return {
        name.replace(".", ":"): value
        for name, value in sorted(image.labels.items())
        if name.startswith("ascend.")
    }


def _created(image: Image) -> datetime:
    """The time of the build's SOURCE_DATE_EPOCH, from the configuration."""
    created = str(image.config.get("created", ""))
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d+)?Z$", "+00:00", created))
    except ValueError:
        what = f"'created' is '{created}', no time"
        raise user_error("IMAGE", what, exit_code=EX_DATAERR) from None


def _component(
    kind: ComponentType,
    name: str,
    version: str,
    purl: PackageURL,
    place: str = "",
    *,
    hashes: Iterable[HashType] = (),
    licenses: Iterable[License] = (),
    properties: Mapping[str, str] | None = None,
) -> Component:
    """`place` distinguishes copies of one package."""
    return Component(
        type=kind,
        name=name,
        version=version,
        purl=purl,
        bom_ref=f"{purl}#{place}" if place else str(purl),
        hashes=hashes,
        licenses=licenses,
        properties=[Property(name=key, value=value) for key, value in (properties or {}).items()],
    )


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))


# ---- Python packages -----------------------------------------------------------------------------


def _python(matrix: Matrix, release: Release, image: Image, locks: Path) -> Iterable[Component]:
    lock_name, slices = _locked(matrix, release, image, locks)
    locked = {one.name: (slice, one) for slice, pins in slices.items() for one in pins}
    compiled = _compiled_names(release, image)
    taken: set[str] = set()
    for package in packages(image.contents):
        name = canonicalize_name(package.name)
        purl = PackageURL("pypi", None, name, package.version)
        place = package.directory if str(purl) in taken else ""
        taken.add(str(purl))
        properties = {"ascend:directory": f"/{package.directory}", "ascend:layer": package.layer}
        pinned = None
        if SITE_PACKAGES.fullmatch(package.directory):
            slice, pinned = locked.get(name, ("", None))
            if name in compiled:
                pinned = None
                properties["ascend:origin"] = COMPILED
            elif pinned and pinned.version == package.version:
                properties["ascend:lock"] = f"{lock_name}/{image.arch}/{slice}.txt"
            else:
                pinned = None
        yield _component(
            *(ComponentType.LIBRARY, package.name, package.version, purl, place),
            hashes=_hashes(pinned),
            licenses=licenses(package),
            properties=properties,
        )


def _locked(
    matrix: Matrix, release: Release, image: Image, locks: Path
) -> tuple[str, dict[str, list[Pinned]]]:
    """The name and the slices of the lock that an image was made from. Raises UserError (65)."""
    if image.labels.get("ascend.platform") == CPU:
        vllm = image.labels.get(f"{PIN}vllm", "")
        if vllm not in matrix.cpu.vllm_versions:
            what = f"the label says '{vllm}', which is not a vLLM for the CPU"
            raise user_error(f"{PIN}vllm", what, "an image that invoke build made", EX_DATAERR)
        found = matrix.cpu.vllm_versions[vllm]
        return found.lock, cpu.read(matrix, found, image.arch, locks)
    stand_in = image.labels.get(BASE) == STAND_IN
    return release.name, slices.read(matrix, release, image.arch, locks, stand_in)


def _compiled_names(release: Release, image: Image) -> set[str]:
    """What was built from source, so that the hashes in the lock do not apply."""
    if image.labels.get(BASE) == STAND_IN:
        return set()
    own = ["vllm-ascend", *release.compiled]
    own += [release.mooncake.package] if release.mooncake.origin == "source" else []
    return {canonicalize_name(name) for name in own}


def _hashes(pinned: Pinned | None) -> list[HashType]:
    """The hashes that the lock allows; the installed file has one of them."""
    return [_sha256(value) for value in pinned.hashes] if pinned else []


def licenses(package: PythonPackage) -> list[License]:
    """From METADATA: an expression, else a one-line name, else the classifiers."""
    make = LicenseFactory().make_from_string
    if expression := package.metadata.get("License-Expression"):
        return [make(str(expression))]
    name = str(package.metadata.get("License") or "").strip()
    if name and name.upper() != "UNKNOWN" and "\n" not in name and len(name) <= LONGEST_LICENSE:
        return [make(name)]
    prefix = "License :: "
    classifiers = [str(one) for one in package.metadata.get_all("Classifier") or []]
    names = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith(prefix)]
    named = LicenseFactory().make_with_name
    return [named(one) for one in sorted(set(names) - {"", "OSI Approved"})]


# ---- the distribution, CANN, what is compiled ----------------------------------------------------


def os_release(image: Image) -> dict[str, str]:
    """The fields of os-release; empty if the image has no such file. Raises UserError (65)."""
    for path in OS_RELEASE:
        if path in image.contents.kept:
            text = image.contents.kept[path].decode("utf-8", "replace")
            try:
                words = shlex.split(text, comments=True)
            except ValueError as error:
                what = f"is not an os-release: {error}"
                raise user_error(path, what, exit_code=EX_DATAERR) from None
            return {name: value for name, _, value in (word.partition("=") for word in words)}
    return {}


def _system(image: Image) -> Iterable[Component]:
    make = LicenseFactory().make_from_string
    release = os_release(image)
    name, version = release.get("ID", "linux"), release.get("VERSION_ID", "")
    if release:
        yield Component(
            type=ComponentType.OPERATING_SYSTEM,
            name=name,
            version=version or None,
            bom_ref=f"os:{name}@{version}",
        )
    for package in os_packages(image.contents):
        purl = _os_purl(package, name, version)
        yield _component(
            *(ComponentType.LIBRARY, package.name, package.version, purl),
            licenses=[make(package.license)] if package.license else [],
            properties={"ascend:layer": package.layer},
        )


def _os_purl(package: OsPackage, os: str, version: str) -> PackageURL:
    qualifiers = {"arch": package.arch, "distro": f"{os}-{version}" if version else os}
    if package.source and package.source != package.name:
        qualifiers["upstream"] = package.source
    return PackageURL(package.kind, os.lower(), package.name, package.version, qualifiers)


def _beneath(image: Image, base: str) -> Iterable[Component]:
    """The base image and CANN."""
    labels = image.labels
    stand_in = labels.get(BASE) == STAND_IN
    name = labels.get(BASE_NAME, "")
    if labels.get(BASE) == "image" and name:
        digest = labels.get(BASE_DIGEST) or base
        where, _, tag = name.partition("@")[0].rpartition(":")
        short = where.rpartition("/")[2]
        purl = PackageURL("oci", None, short, digest or None, {"repository_url": where, "tag": tag})
        yield _component(
            *(ComponentType.CONTAINER, where, tag, purl),
            hashes=[_sha256(digest)] if digest else [],
        )
    if version := labels.get("ascend.pin.cann"):
        purl = PackageURL("generic", "ascend", "cann", version)
        note = {"ascend:stand-in": "its interfaces alone: no CANN is in here"} if stand_in else {}
        yield _component(
            *(ComponentType.PLATFORM, "cann", version, purl),
            properties=note,
        )


def _compiled(matrix: Matrix, release: Release, image: Image) -> Iterable[Component]:
    """Mooncake, if it was compiled and left no dist-info."""
    version = image.labels.get("ascend.pin.mooncake")
    name = canonicalize_name(release.mooncake.package)
    there = {canonicalize_name(one.name) for one in packages(image.contents)}
    if version and name not in there:
        source = matrix.sources["mooncake"]
        purl = PackageURL("generic", None, "mooncake", version, {"vcs_url": f"git+{source}"})
        yield _component(
            *(ComponentType.LIBRARY, "mooncake", version, purl),
            properties={"ascend:origin": COMPILED},
        )
