"""Small images that pass `invoke conformance`, made by hand, for tests that then spoil them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from images import matrix
from images.build.render import Base, labels
from images.labels import BASE_DIGEST as DIGEST_LABEL
from images.labels import INPUTS, LAYERS
from images.matrix import Variant

if TYPE_CHECKING:
    from tests.images.hand_made import Layout

SITE = "opt/vllm/lib/python3.11/site-packages"
MATRIX = matrix.load()
A2 = MATRIX.variant("v0.13.0rc1", "a2", "ubuntu22.04")
A3 = MATRIX.variant("v0.13.0rc1", "a3", "ubuntu22.04")
CREATED = "2025-12-28T00:00:00Z"
OS_RELEASE = 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="22.04"\n'
DPKG = """\
Package: libc6
Status: install ok installed
Architecture: {arch}
Source: glibc
Version: 2.35-0ubuntu3

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
"""
BASE_DIGEST = "ab" * 32
INPUTS_DIGEST = "0123456789ab" + "cd" * 26


def package(
    name: str, version: str, *, metadata: str = "", directory: str = SITE, **files: str
) -> dict[str, str]:
    """A Python package whose RECORD is right."""
    module = name.replace("-", "_")
    place = f"{module}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n"
    own = {f"{module}/__init__.py": f"__version__ = '{version}'\n", f"{place}/METADATA": head}
    own |= {f"{module}/{path}": text for path, text in files.items()}
    lines = [f"{path},sha256={_record(text)},{len(text)}" for path, text in own.items()]
    own[f"{place}/RECORD"] = "\n".join([*lines, f"{place}/RECORD,,"]) + "\n"
    return {f"{directory}/{path}": text for path, text in own.items()}


def _record(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def base(variant: Variant) -> Base:
    return Base("image", image=MATRIX.cann_image(variant))


@dataclass
class Small:
    """One architecture's image, to be spoiled before it is written."""

    arch: str = "arm64"
    variant: Variant = A3
    layers: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    env: list[str] = field(default_factory=lambda: ["PATH=/opt/vllm/bin:/usr/bin"])
    history: list[str] = field(default_factory=lambda: ["COPY /out/ / # buildkit"])
    created: str = CREATED
    packed: str = "zstd"

    def __post_init__(self) -> None:
        release = self.variant.release
        self.labels = self.labels or {
            **labels(MATRIX, self.variant, base(self.variant)),
            DIGEST_LABEL: f"sha256:{BASE_DIGEST}",
            INPUTS: INPUTS_DIGEST,
        }
        self.layers = self.layers or [
            {"etc/os-release": OS_RELEASE, "var/lib/dpkg/status": DPKG.format(arch=self.arch)},
            {
                **package("torch", release.torch, metadata="License-Expression: BSD-3-Clause\n"),
                **package("torch-npu", release.torch_npu),
                **package("triton-ascend", release.triton_ascend),
            },
            package("vllm", f"{release.vllm}+empty", metadata="License: Apache-2.0\n"),
            package("vllm-ascend", release.vllm_ascend, **{"soc.txt": self.variant.platform.name}),
            *({} for _ in self.labels.get(LAYERS, "").split()),
        ]

    def write(self, layout: Layout) -> dict[str, Any]:
        """The descriptor of its manifest, as an index holds it."""
        made = [layout.layer(files, self.packed) for files in self.layers]
        config = {
            "architecture": self.arch,
            "os": "linux",
            "created": self.created,
            "config": {"Env": self.env, "Labels": self.labels},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]},
            "history": [{"created": self.created, "created_by": line} for line in self.history],
        }
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": layout.json(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor for descriptor, _ in made],
        }
        platform = {"architecture": self.arch, "os": "linux"}
        return {**layout.json(manifest, manifest["mediaType"]), "platform": platform}


def statement(about: str, cann: str = MATRIX.cann_image(A3)) -> dict[str, Any]:
    """Provenance in the form of BuildKit's."""
    name, _, tag = cann.rpartition(":")
    return {
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [{"name": "_", "digest": {"sha256": about.removeprefix("sha256:")}}],
        "predicate": {
            "builder": {"id": ""},
            "buildType": "https://mobyproject.org/buildkit@v1",
            "materials": [
                {
                    "uri": f"pkg:docker/{name}@{tag}?platform=linux%2Farm64",
                    "digest": {"sha256": BASE_DIGEST},
                }
            ],
        },
    }


def attestation(layout: Layout, image: dict[str, Any], about: str = "") -> dict[str, Any]:
    """The entry that BuildKit puts into an index beside an image."""
    content = json.dumps(statement(about or image["digest"])).encode()
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.json({}, "application/vnd.oci.image.config.v1+json"),
        "layers": [layout.blob(content, "application/vnd.in-toto+json")],
    }
    return {
        **layout.json(manifest, manifest["mediaType"]),
        "annotations": {
            "vnd.docker.reference.digest": image["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        },
        "platform": {"architecture": "unknown", "os": "unknown"},
    }


def index(layout: Layout, smalls: Iterable[Small], provenance: bool = True) -> dict[str, Any]:
    """Write the images and an index of them; returns the index's descriptor."""
    images = [small.write(layout) for small in smalls]
    beside = [attestation(layout, one) for one in images] if provenance else []
    return layout.index([*images, *beside])


def pair(**changes: Any) -> list[Small]:
    return [Small(arch=arch, **changes) for arch in ("arm64", "amd64")]
