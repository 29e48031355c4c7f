"""Images made by hand: as `invoke inspect` knows them, and as OCI layouts with real layers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import zstandard

from images.inspect.model import Health, Image, Layer, Package
from tests import ROOT

RECIPES = ROOT / "env" / "recipes"
ROLES = ROOT / "env" / "roles.yaml"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PLATFORMS = {"a2": ("ascend910b1", ""), "a3": ("ascend910_9391", "-a3")}


def digest(text: str | bytes) -> str:
    return (
        "sha256:" + hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()
    )


def labels(platform: str = "a3", release: str = "v0.13.0rc1") -> dict[str, str]:
    return {
        "ascend.base": "stand-in",
        "ascend.layers": "venv workdir torch dependencies vllm vllm-ascend entrypoint",
        "ascend.os": "ubuntu22.04",
        "ascend.pin.torch": "2.8.0",
        "ascend.pin.vllm": "0.13.0",
        "ascend.platform": platform,
        "org.opencontainers.image.title": f"vLLM for {platform}",
        "org.opencontainers.image.version": release,
    }


def environment(platform: str = "a3", release: str = "v0.13.0rc1") -> dict[str, str]:
    return {
        "PATH": "/opt/vllm/bin:/usr/bin:/bin",
        "ASCEND_PLATFORM": platform,
        "SOC_VERSION": PLATFORMS[platform][0],
        "VLLM_ASCEND_RELEASE": release,
    }


# ---- as invoke inspect knows them ----------------------------------------------------------------


def layer(name: str, size: int, content: str = "") -> Layer:
    """Two layers of one name and content are the same layer."""
    one = digest(f"{name} {content}")
    return Layer(name, one, digest(f"unpacked {one}"), ZSTD, size, 3 * size)


def image(platform: str = "a3", arch: str = "amd64", **changes: Any) -> Image:
    """An A2 and an A3 image differ in their last layers and in what follows from the platform."""
    reference = f"registry.example.com/team/vllm-ascend:v0.13.0rc1{PLATFORMS[platform][1]}"
    made = Image(
        reference=reference,
        place="registry",
        digest=digest(reference),
        manifest=digest(f"{reference} {arch}"),
        platform=f"linux/{arch}",
        platforms=(f"linux/{arch}",),
        labels=labels(platform),
        layers=(
            layer("base 1", 55_567_546, arch),
            layer("torch", 793_051_628, arch),
            layer("vllm", 9_083_400),
            layer("entrypoint", 239_108, platform),
        ),
        environment=environment(platform),
        entrypoint=("/opt/vllm/bin/entrypoint",),
        health=Health(("/opt/vllm/bin/entrypoint", "health"), 30.0, 10.0, 1800.0, 3),
        stop_signal="SIGTERM",
        workdir="/workspace",
        python_packages=(Package("torch", "2.8.0", "torch"), Package("vllm", "0.13.0", "vllm")),
        os_packages=(Package("libc6", "2.36", "base 1"),),
        roles=("single", "leader", "headless", "prefill", "decode", "proxy", "ray-head",
               "ray-worker"),
        recipes=recipes(),
    )  # fmt: skip
    return replace(made, **changes)


def recipes() -> dict[str, str]:
    """The project's own."""
    return {
        str(path.relative_to(RECIPES).with_suffix("")): path.read_text()
        for path in sorted(RECIPES.rglob("*.yaml"))
    }


# ---- as OCI layouts ------------------------------------------------------------------------------

Files = Mapping[str, str | bytes | None]  # path → content; None is a directory


class Layout:
    """An OCI layout that is written file by file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._entries: list[dict[str, Any]] = []

    def blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        one = digest(content)
        (self.directory / "blobs" / "sha256" / one.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": one, "size": len(content)}

    def layer(self, files: Files, packed: str = "zstd") -> tuple[dict[str, Any], str]:
        """A layer's descriptor and the digest of its tar."""
        tar = tarball(files)
        pack = {"zstd": zstandard.ZstdCompressor().compress, "gzip": _gzip}
        content = pack[packed](tar) if packed else tar
        suffix = f"+{packed}" if packed else ""
        media_type = f"application/vnd.oci.image.layer.v1.tar{suffix}"
        return self.blob(content, media_type), digest(tar)

    def image(
        self,
        layers: list[Files],
        *,
        arch: str = "amd64",
        packed: str = "zstd",
        **config: Any,
    ) -> dict[str, Any]:
        """The descriptor of one architecture's manifest."""
        made = [self.layer(files, packed) for files in layers]
        document = {
            "architecture": arch,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]},
        }
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.json(document, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor for descriptor, _ in made],
        }
        platform = {"architecture": arch, "os": "linux"}
        return {**self.json(manifest, manifest["mediaType"]), "platform": platform}

    def index(self, manifests: list[dict[str, Any]]) -> dict[str, Any]:
        media_type = "application/vnd.oci.image.index.v1+json"
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
        return self.json(document, media_type)

    def artifact(self, content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """The descriptor of a manifest that is no image's."""
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": media_type,
            "config": self.blob(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [self.blob(content, media_type)],
            **more,
        }
        return self.json(manifest, manifest["mediaType"])

    def attach(self, subject: dict[str, Any], content: bytes, media_type: str) -> None:
        """What refers to an image, such as a list of its contents."""
        about = {key: subject[key] for key in ("mediaType", "digest", "size")}
        self._entries.append(self.artifact(content, media_type, subject=about))
        self._write()

    def tag(self, name: str, descriptor: dict[str, Any]) -> str:
        """Name an image; returns what to give to `invoke inspect`."""
        known = {key: descriptor[key] for key in ("mediaType", "digest", "size")}
        key = "io.containerd.image.name" if "/" in name else "org.opencontainers.image.ref.name"
        self._entries.append({**known, "annotations": {key: name}})
        self._write()
        return f"{self.directory}:{name}"

    def json(self, document: Any, media_type: str) -> dict[str, Any]:
        return self.blob(json.dumps(document).encode(), media_type)

    def _write(self) -> None:
        document = {"schemaVersion": 2, "manifests": self._entries}
        (self.directory / "index.json").write_text(json.dumps(document))


def tarball(files: Files) -> bytes:
    """The same bytes for the same files; directories come before what is in them."""
    out = io.BytesIO()
    parents = {str(parent): None for path in files for parent in PurePosixPath(path).parents}
    entries = {**{path: None for path in sorted(parents) if path != "."}, **files}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in entries.items():
            entry = tarfile.TarInfo(path)
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
                continue
            raw = content if isinstance(content, bytes) else content.encode()
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))
    return out.getvalue()


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


SITE = "opt/vllm/lib/python3.11/site-packages"


def package(name: str, version: str, directory: str = SITE) -> dict[str, str]:
    """A Python package's files."""
    place = f"{directory}/{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not-this\n"
    return {f"{place}/METADATA": metadata, f"{place}/RECORD": ""}


def dpkg(**versions: str) -> dict[str, str]:
    status = "\n\n".join(
        f"Package: {name}\nStatus: install ok installed\nVersion: {version}\nArchitecture: all"
        for name, version in versions.items()
    )
    return {"var/lib/dpkg/status": status + "\n"}


def entrypoint_layer() -> dict[str, str]:
    files = {f"opt/ascend/env/recipes/{name}.yaml": text for name, text in recipes().items()}
    return {"opt/ascend/env/roles.yaml": ROLES.read_text(), **files}


def layers(platform: str = "a3", vllm: str = "0.13.0") -> list[Files]:
    """Small layers in the shape of a real image's: all but vllm-ascend's are every platform's."""
    return [
        {**dpkg(libc6="2.36", zlib1g="1.2.13"), "usr/bin/env": "x" * 5000},
        {"opt/vllm/pyvenv.cfg": "home = /usr/bin\n"},
        {"workspace": None},
        {**package("torch", "2.8.0"), f"{SITE}/torch/lib.so": bytes(range(256)) * 400},
        {**package("aiohttp", "3.13.2"), **package("fastapi", "0.123.10")},
        {**package("vllm", vllm), f"{SITE}/vllm/_version.py": vllm},
        {**package("vllm-ascend", "0.13.0rc1"), f"{SITE}/vllm_ascend/soc": platform},
        entrypoint_layer(),
    ]


def config(platform: str = "a3", **changes: Any) -> dict[str, Any]:
    return {
        "Env": [f"{name}={value}" for name, value in environment(platform).items()],
        "Labels": labels(platform),
        "Entrypoint": ["/opt/vllm/bin/dumb-init", "--", "/opt/vllm/bin/entrypoint"],
        "WorkingDir": "/workspace",
        "StopSignal": "SIGTERM",
        "Healthcheck": {
            "Test": ["CMD", "/opt/vllm/bin/entrypoint", "health"],
            "Interval": 30 * 10**9,
            "Timeout": 10 * 10**9,
            "StartPeriod": 1800 * 10**9,
            "Retries": 3,
        },
        **changes,
    }
