"""Capture how CANN's set_env.sh scripts change the environment: `environment.py [--root DIR]`.

Runs in a stage after the torch layer, because nnal's script selects its libraries by the C++ ABI of
the installed torch. The output, /out/environment.json, becomes ENV of the image:

    {"python": "/usr/local/python3.11.13/bin/python3.11", "base": {…}, "changed": {…}}

`base` is the environment before the scripts, `changed` what they set or changed. Without --torch,
the base has no CANN, and only the interpreter is searched.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

SCRIPTS = ("/usr/local/Ascend/ascend-toolkit/set_env.sh", "/usr/local/Ascend/nnal/atb/set_env.sh")
SHELL_OWN = {"PWD", "OLDPWD", "SHLVL", "_", "HOME", "HOSTNAME", "TERM", "TORCH_LIBRARY", "BASH_ENV"}
# Set by the stage, not the base: ARGs, a variable of Python, and the proxies of BuildKit's RUN.
STAGE_OWN = {"MACHINE", "TARGETARCH", "BUILDARCH", "SOURCE_DATE_EPOCH", "LC_CTYPE"}
PROXY = re.compile(r"(?i)(http|https|ftp|no|all)_proxy")
TORCH_ABI = Path(__file__).parent / "torch_abi"


def sourced(environment: dict[str, str], scripts: list[str]) -> dict[str, str]:
    """The environment of a bash after it sourced `scripts`, starting from `environment`."""
    # Without set -e, because CANN's scripts continue after a failed command; bash -n checks syntax.
    lines = "".join(f"bash -n {script} || exit\nsource {script} >&2\n" for script in scripts)
    answer = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", f"{lines}env -0"],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    pairs = (pair.partition("=") for pair in answer.stdout.decode().split("\0") if pair)
    return {name: value for name, _, value in pairs}


def interpreter(root: Path, path: str, version: str) -> str | None:
    """The first python of `version` in PATH below `root`, with its path in the image."""
    for directory in path.split(":"):
        candidate = Path(directory) / f"python{version}"
        if not candidate.is_absolute():
            continue
        if os.path.lexists(root / candidate.relative_to("/")):
            return str(candidate)
    return None


def without_shim(value: str) -> str:
    return ":".join(part for part in value.split(":") if part != str(TORCH_ABI))


def with_cann(base: dict[str, str], torch: Path) -> dict[str, str]:
    """`base` as changed by CANN's scripts, next to the torch in a directory."""
    missing = [script for script in SCRIPTS if not Path(script).is_file()]
    if missing:
        sys.exit(f"this base is not a CANN image: it lacks {' and '.join(missing)}")
    python_path = f"{TORCH_ABI}:{base.get('PYTHONPATH', '')}".rstrip(":")
    library = str(torch / "torch" / "lib" / "libc10.so")
    after = sourced({**base, "PYTHONPATH": python_path, "TORCH_LIBRARY": library}, list(SCRIPTS))
    after["PYTHONPATH"] = without_shim(after["PYTHONPATH"])
    return after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--torch", type=Path, help="the torch layer's site-packages")
    parser.add_argument("--python", required=True)
    parser.add_argument("--machine", required=True, help="of the image, as uname -m prints it")
    given = parser.parse_args()

    own = {*SHELL_OWN, *STAGE_OWN, *filter(PROXY.fullmatch, os.environ)}
    base = {k: v for k, v in os.environ.items() if k not in own}
    after = with_cann(base, given.torch) if given.torch else base
    changed = {k: v for k, v in after.items() if k not in own and base.get(k) != v}
    if platform.machine() != given.machine:
        foreign = [k for k, v in changed.items() if platform.machine() in v]
        if foreign:
            sys.exit(
                f"set_env.sh sets the builder's architecture in {', '.join(foreign)}: "
                f"build this on {given.machine}"
            )
    python = interpreter(given.root, after["PATH"], given.python)
    if python is None:
        sys.exit(f"this base has no python{given.python} in its PATH ({after['PATH']})")
    out = Path("/out")
    out.mkdir(exist_ok=True)
    answer = {"python": python, "base": base, "changed": changed}
    (out / "environment.json").write_text(json.dumps(answer, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
