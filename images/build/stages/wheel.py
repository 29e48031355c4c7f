"""Make a pure Python wheel of a pinned distribution: `wheel.py NAME PINS OUT [--without NAME,…]`.

From a source distribution: uv downloads it, checks its hash and builds it; setup.py reads
VLLM_TARGET_DEVICE or SOC_VERSION from the environment. With --without, from a wheel of the index:
pip downloads it and checks its hash; its native code and these requirements are left out. Both
give the same bytes as long as tools.txt does not change. Runs on the host for the lock, and in the
stages.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

NO_DEVICE = Path(__file__).parent / "no_device"
EPOCH = "315532800"  # 1980-01-01, the earliest time in a zip file
# What a build of vLLM for CUDA adds, beside *.so (v0.15.0:setup.py).
NATIVE = ("vllm/vllm_flash_attn/", "vllm/third_party/flashmla/", "vllm/third_party/triton_kernels/")
LOCAL = "+empty"  # as vLLM's setup.py names a build for VLLM_TARGET_DEVICE=empty


def build(name: str, pins: Path, out: Path) -> Path:
    """Build the wheel of `name`, pinned and hashed in `pins`, into `out`.

    This interpreter must have the packages of tools.txt. Raises CalledProcessError when the index
    does not answer, a hash differs or setup.py fails; uv prints the reason on stderr.
    """
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        environment = {**os.environ, "PYTHONPATH": str(NO_DEVICE), "SOURCE_DATE_EPOCH": EPOCH}
        subprocess.run(
            [
                *("uv", "pip", "install", "--quiet", "--python", sys.executable),
                *("--cache-dir", str(cache)),
                *("--no-deps", "--no-build-isolation", "--no-binary", name, "--require-hashes"),
                *("--requirements", str(pins), "--target", str(Path(scratch) / "installed")),
            ],
            env=environment,
            check=True,
        )
        (wheel,) = cache.rglob("*.whl")  # uv caches what it built
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(wheel, out))


def strip(pins: Path, out: Path, without: Iterable[str]) -> Path:
    """Download the wheel that `pins` names, and write it to `out` without native code.

    Its Python files are the same for every architecture. Raises CalledProcessError when the index
    does not answer or the hash differs; pip prints the reason on stderr.
    """
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir"),
                *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
                *("--requirement", str(pins), "--dest", scratch),
            ],
            check=True,
        )
        (wheel,) = Path(scratch).glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return pure(wheel, out, without)


def pure(wheel: Path, out: Path, without: Iterable[str]) -> Path:
    """Write a wheel without native code and without the requirements named."""
    name, version = wheel.name.split("-")[:2]
    before, after = (f"{name}-{one}.dist-info" for one in (version, version + LOCAL))
    files: dict[str, bytes] = {}
    with zipfile.ZipFile(wheel) as opened:
        for member in sorted(opened.namelist()):
            native = member.endswith((".so", "/")) or member.startswith(NATIVE)
            if not native and member != f"{before}/RECORD":
                files[member.replace(f"{before}/", f"{after}/")] = opened.read(member)
    metadata = files[f"{after}/METADATA"].decode()
    gone = "|".join(re.escape(one) for one in without)
    metadata = re.sub(rf"(?m)^Requires-Dist: ({gone})(?![\w.-]).*\n", "", metadata)
    metadata = re.sub(r"(?m)^(Version: .*)$", rf"\1{LOCAL}", metadata, count=1)
    files[f"{after}/METADATA"] = metadata.encode()
    files[f"{after}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: wheel.py\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    rows = [(path, f"sha256={_digest(data)}", len(data)) for path, data in files.items()]
    record = io.StringIO()
    csv.writer(record, lineterminator="\n").writerows([*rows, (f"{after}/RECORD", "", "")])
    files[f"{after}/RECORD"] = record.getvalue().encode()
    target = out / f"{name}-{version}{LOCAL}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as written:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path)  # its time is 1980-01-01
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            written.writestr(entry, data)
    return target


def _digest(data: bytes) -> str:
    digest = hashlib.sha256(data).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("pins", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--without")
    given = parser.parse_args()
    made = (
        strip(given.pins, given.out, given.without.split(","))
        if given.without
        else build(given.name, given.pins, given.out)
    )
    print(made.name)
