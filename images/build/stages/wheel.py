"""Build the wheel of a pinned source distribution without a device: `wheel.py NAME PINS OUT`.

uv downloads the distribution, checks its hash and builds it; setup.py reads VLLM_TARGET_DEVICE or
SOC_VERSION from the environment. Builds give the same bytes as long as tools.txt does not change.
Runs on the host for the lock, and in the stages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NO_DEVICE = Path(__file__).parent / "no_device"
EPOCH = "315532800"  # 1980-01-01, the earliest time in a zip file


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


if __name__ == "__main__":
    name, pins, out = sys.argv[1:]
    print(build(name, Path(pins), Path(out)).name)
