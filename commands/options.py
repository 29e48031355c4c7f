"""Options that several commands share, with their help and values."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commands.command import argument, choice, option
from common.paths import ENV, ROOT

if TYPE_CHECKING:
    from images.build import options as build_options
    from images.build.bundle import Bundle
    from images.matrix import Matrix, Variant


def _names(folder: Path) -> Iterable[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def platforms() -> Iterable[str]:
    return _names(ENV / "platforms")


def releases() -> Iterable[str]:
    return _names(ROOT / "images" / "releases")


def recipes() -> Iterable[str]:
    """Every recipe as MODEL/NAME."""
    folder = ENV / "recipes"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob("*/*.yaml"))


OS_NAMES = ("ubuntu22.04", "openeuler24.03")
ARCH_NAMES = ("amd64", "arm64")

PLATFORMS = option("platforms of the matrix, separated by commas: a2, a3, …", platforms)
PLATFORM = option("a platform of the matrix: a2, a3, …", platforms)
RELEASE = option("a release of the matrix (default: the reference, v0.13.0rc1)", releases)
OS = option(
    "ubuntu22.04 or openeuler24.03, separated by commas",
    OS_NAMES,
    default="ubuntu22.04",
)
ARCH = option("arm64, amd64 or both (default: this machine's)", ARCH_NAMES)
IMAGE_ARCH = option("arm64, amd64 or both (default: all of the image)", ARCH_NAMES)
FORMAT = choice("text", "json")
CERTIFICATES = option("CA bundle (default: SSL_CERT_FILE, or the host's)")
DRY_RUN = option("show what would be done; change nothing")
TORCH_INDEX = option("PyTorch's CPU index (default: TORCH_CPU_INDEX)")
REGISTRY_MIRROR = option("MIRROR put before image names, or HOST=MIRROR (default: REGISTRY_MIRROR)")
PIP_INDEX = option("package index (default: UV_DEFAULT_INDEX or PIP_INDEX_URL)")
WHEELS = option(
    "directories or pages with wheels that the index lacks, separated by commas "
    "(default: UV_FIND_LINKS or PIP_FIND_LINKS)"
)
CLUSTER_FILE = argument("a cluster file: docs/clusters.md")
IMAGE = argument("a tag in the engine or a registry, or an OCI layout: DIR, DIR:TAG, DIR@DIGEST")
PUBLISHED = argument("registry.example.com/team/vllm-ascend:TAG, or @DIGEST")
AT = option(
    "look only in: layout, engine or registry (default: in this order)",
    ("layout", "engine", "registry"),
)
URL = argument("the API: http://HOST:PORT, of a server, a leader or a proxy")
KEY_ENV = option("the variable that holds the API key", default="VLLM_API_KEY")
RESULTS = option("the directory of results (default: build/results)")


def words(text: str) -> list[str]:
    """Split the value of an option at its commas."""
    return [word for word in text.split(",") if word]


def environ() -> dict[str, str]:
    return dict(os.environ)


def trusted(certificates: str) -> str:
    """The CA bundle that --certificates names, or else the environment."""
    from images.mirrors import Mirrors

    return Mirrors.of(environ(), certificates=certificates).certificates


@dataclass(frozen=True)
class BuildOptions:
    """What to build, and how: the options of build, and in part those of fetch, render, publish."""

    platform: str = PLATFORMS
    release: str = RELEASE
    os: str = OS
    arch: str = ARCH
    all: bool = option("every platform and OS of the release")
    base: str = option(
        "an image with CANN, or 'stand-in': no CANN, can plan but not serve "
        "(default: the published CANN image)",
        ("stand-in",),
    )
    cann_packages: str = option("a directory with CANN's .run installers and SHA256SUMS")
    share_cann: bool = option("put CANN's files into layers that platforms share")
    tools: str = option(
        "an image with Python and pip for the stages, or 'debian' to make one", ("debian",)
    )
    vllm: str = option("platform cpu: a vLLM version of the matrix (default: the release's)")
    wheels: str = option(
        "a directory with wheels that no index in reach has: platform cpu's torch, or packages "
        "that only the vendor has"
    )
    source: list[str] = option("NAME=DIR|URL: vllm-ascend, mooncake or yalantinglibs; repeatable")
    registry: str = option("prefix for the image's name: registry.example.com/team")
    push: bool = option("push to the registry instead of loading into the engine")
    builder: str = option("a buildx builder: remote, Kubernetes, … (docker buildx ls)")
    compression: str = option("zstd (default) or gzip", ("zstd", "gzip"), default="zstd")
    pip_index: str = PIP_INDEX
    torch_index: str = TORCH_INDEX
    apt_mirror: str = option("replaces the hosts of apt's sources (default: APT_MIRROR)")
    dnf_mirror: str = option("replaces the hosts of dnf's repositories (default: DNF_MIRROR)")
    registry_mirror: str = REGISTRY_MIRROR
    certificates: str = CERTIFICATES
    netrc: str = option("credentials for the indexes (default: NETRC or ~/.netrc)")
    offline: str = option("build from this directory, made by `fetch`, without a network")
    cache: bool = option("build every stage again", default=True)
    budget: bool = option("accept an image above its budget", default=True)

    @property
    def indexes(self) -> dict[str, str]:
        """The mirrors, certificates and credentials that the options give."""
        names = ("pip_index", "torch_index", "apt_mirror", "dnf_mirror", "registry_mirror")
        return {name: getattr(self, name) for name in names}

    def bundle(self) -> Bundle | None:
        """What --offline names. Raises UserError when it is not a bundle."""
        from images.build import bundle

        return bundle.open_bundle(Path(self.offline), self.indexes) if self.offline else None

    def variants(self, matrix: Matrix) -> list[Variant]:
        """The variants of the matrix that the options select. Raises UserError with every name that
        is wrong."""
        from images.build.options import select_variants

        return select_variants(
            matrix, self.release, words(self.platform), words(self.os), self.all, self.vllm
        )

    def options(self, matrix: Matrix, bundle: Bundle | None = None) -> build_options.Options:
        """How to build. Raises UserError."""
        from common.errors import user_error
        from images.build import options as build_options
        from images.mirrors import Mirrors

        if self.push and not self.registry:
            raise user_error("--push", "needs a registry", "--registry registry.example.com/team")
        own = {"certificates": self.certificates, "netrc": self.netrc}
        return build_options.Options(
            arches=build_options.parse_arches(matrix, words(self.arch)),
            base=self.base or None,
            cann_packages=Path(self.cann_packages) if self.cann_packages else None,
            share_cann=self.share_cann,
            tools=self.tools or None,
            registry=self.registry,
            push=self.push,
            builder=self.builder or None,
            compression=self.compression,
            no_cache=not self.cache,
            budget=self.budget,
            sources=build_options.parse_sources([*self.source]),
            wheels=build_options.wheels_directory(self.wheels),
            mirrors=bundle.mirrors if bundle else Mirrors.of(environ(), **self.indexes, **own),
            offline=bundle,
        )
