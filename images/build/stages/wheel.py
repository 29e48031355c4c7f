"""Build the wheel of a pinned source distribution without a device: `wheel.py NAME PINS OUT`.

uv takes the distribution from the index, holds it to its hash and builds it; what the package's
setup.py reads (VLLM_TARGET_DEVICE, SOC_VERSION) comes from the environment. Two builds give the
same bytes as long as tools.txt does not change. Runs on the host for the lock, and in the stages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NO_DEVICE = Path(__file__).parent / "no_device"
EPOCH = "315532800"  # 1980-01-01, the earliest time that a zip file can state


def build(
    name: str, pins: Path, out: Path, *, uv: str = "uv", python: str = sys.executable
) -> Path:
    """Put the wheel of `name`, pinned and hashed in `pins`, into `out`.

    The interpreter `python` must have the packages of tools.txt. Raises CalledProcessError when
    the index does not answer, a hash differs or setup.py fails; uv's words are on stderr.
    """
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        environment = {**os.environ, "PYTHONPATH": str(NO_DEVICE), "SOURCE_DATE_EPOCH": EPOCH}
        subprocess.run(
            [
                *(uv, "pip", "install", "--quiet", "--python", python, "--cache-dir", str(cache)),
                *("--no-deps", "--no-build-isolation", "--no-binary", name, "--require-hashes"),
                *("--requirements", str(pins), "--target", str(Path(scratch) / "installed")),
            ],
            env=environment,
            check=True,
        )
        (wheel,) = cache.rglob("*.whl")  # uv keeps what it built beside the source
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy2(wheel, out))


if __name__ == "__main__":
    name, pins, out = sys.argv[1:]
    print(build(name, Path(pins), Path(out)).name)
