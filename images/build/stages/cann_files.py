"""Split the CANN of a base into layers: `cann_files.py BASE`. Runs in a stage on the builder.

BASE is the root of a CANN image. /out/{python,toolkit,nnal,kernels} become the roots of layers with
normalised times. The first three are the same for every platform of a CANN release; the kernels are
not. Files outside these paths are ignored.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from layer import EPOCH, OUT  # type: ignore[import-not-found]  # beside it in /stages

# A directory belongs to the first part with a matching pattern.
PARTS = {
    "kernels": (
        "usr/local/Ascend/**/opp/built-in/op_impl/ai_core/tbe/kernel",
        "usr/local/Ascend/**/opp/built-in/op_impl/ai_core/tbe/config",
        "usr/local/Ascend/**/*kernels*/",
    ),
    "nnal": ("usr/local/Ascend/nnal",),
    "toolkit": ("usr/local/Ascend", "etc/Ascend"),
    "python": ("usr/local/python3*",),
}


def split(base: Path, out: Path) -> None:
    """Copy each file of the base's CANN into the tree of its part."""
    if not (base / "usr/local/Ascend").is_dir():
        sys.exit("this base is not a CANN image: it has no /usr/local/Ascend")
    taken: set[Path] = set()
    for part, patterns in PARTS.items():
        (out / part).mkdir(parents=True, exist_ok=True)
        for pattern in patterns:
            for root in sorted(base.glob(pattern)):
                if root.is_dir() and not root.is_symlink():
                    _copy(base, root, out / part, taken)


def _copy(base: Path, root: Path, out: Path, taken: set[Path]) -> None:
    for directory, names, files in os.walk(root):
        here = Path(directory)
        names[:] = sorted(name for name in names if here / name not in taken)
        target = out / here.relative_to(base)
        target.mkdir(parents=True, exist_ok=True)
        links = [name for name in names if (here / name).is_symlink()]
        for name in (*files, *links):
            shutil.copy2(here / name, target / name, follow_symlinks=False)
        names[:] = [name for name in names if name not in links]
    taken.add(root)


def main() -> None:
    split(Path(sys.argv[1]), OUT)
    for directory, names, files in os.walk(OUT, topdown=False):
        for name in (*names, *files):
            os.utime(Path(directory, name), (EPOCH, EPOCH), follow_symlinks=False)


if __name__ == "__main__":
    main()
