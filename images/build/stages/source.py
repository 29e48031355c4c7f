"""Extract files from a pinned source distribution: `source.py PINS PATTERN OUT`.

PATTERN is a shell pattern for paths in the distribution. pip downloads it and checks the hash in
PINS, a requirements file of one package. Runs in a stage with the packages of tools.txt.
"""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

NO_DEVICE = Path(__file__).parent / "no_device"


def download(pins: Path, directory: Path) -> Path:
    """Download the source distribution that `pins` names into `directory`.

    Raises CalledProcessError when the index does not answer or the hash differs.
    """
    # pip runs setup.py for the metadata; it must not look for a device or a compiler.
    environment = {**os.environ, "PYTHONPATH": str(NO_DEVICE)}
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--no-deps"),
            *("--no-binary", ":all:", "--no-build-isolation", "--require-hashes"),
            *("--requirement", str(pins), "--dest", str(directory)),
        ],
        env=environment,
        check=True,
    )
    (archive,) = directory.iterdir()
    return archive


def extract(archive: Path, pattern: str, out: Path) -> list[str]:
    """Extract the files that match `pattern`, and return their names. Exits when none does."""
    out.mkdir(parents=True, exist_ok=True)
    names = []
    with tarfile.open(archive) as members:
        for member in members:
            path = member.name.partition("/")[2]  # below {name}-{version}/
            file = members.extractfile(member) if member.isfile() else None
            if file and fnmatch.fnmatchcase(path, pattern):
                target = out / Path(path).name
                target.write_bytes(file.read())
                target.chmod(0o644)
                names.append(target.name)
    if not names:
        sys.exit(f"{archive.name} has no {pattern}")
    return sorted(names)


if __name__ == "__main__":
    pins, pattern, out = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        for name in extract(download(Path(pins), Path(scratch)), pattern, Path(out)):
            print(name)
