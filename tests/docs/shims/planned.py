"""`docker run` as a plan: what is about a host is left out, and `plan` is put before the arguments.

With IMAGES=1 the real engine runs the image; without, the entrypoint of this checkout plans.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

# Options that are about a host, left out; the number is how many words belong to each.
HOST = {"-d": 1, "--net=host": 1, "--device": 2, "-v": 2}
# Options that a plan keeps.
KEPT = {"-e": 2, "--rm": 1, "--shm-size": 2}
COMMANDS = ("plan", "recipes", "roles", "--help")
# What the interface of a host would have.
ADDRESS = "10.0.0.11"
TAG = re.compile(r"(?P<release>v[0-9.]+(rc[0-9]+|post[0-9]+)?)(-(?P<platform>a3|310p|a5))?(-\w+)?")


def main(run: str, *words: str) -> int:
    if run != "run":
        sys.exit(f"docker {run}: only `docker run` can be planned")
    kept, image, arguments = split(list(words))
    shows = bool(arguments) and arguments[0] in COMMANDS
    if shows == ("-d" in words[: words.index(image)]):
        sys.exit("docker run: -d is for what serves; of what prints something it shows nothing")
    if not shows:
        arguments = ["plan", *arguments]
    given = {kept[i + 1].partition("=")[0] for i, word in enumerate(kept) if word == "-e"}
    if "NIC" in given and "LOCAL_IP" not in given:
        kept += ["-e", f"LOCAL_IP={ADDRESS}"]
    if os.environ.get("IMAGES"):
        options = [word for word in kept if word != "--rm"]
        command = [os.environ["DOCKER"], "run", "--rm", *options, image, *arguments]
        return subprocess.run(command).returncode
    return here(kept, image, arguments)


def split(rest: list[str]) -> tuple[list[str], str, list[str]]:
    """The options that are kept, the image, and its arguments."""
    kept: list[str] = []
    while rest and rest[0].startswith("-"):
        name, joined, _ = rest[0].partition("=")
        key = rest[0] if rest[0] in HOST else name
        count = {**HOST, **KEPT}.get(key)
        if count is None:
            sys.exit(f"docker run {rest[0]}: tests/docs/shims does not know this option")
        count = 1 if joined else count
        if key in KEPT:
            kept += rest[:count]
        rest = rest[count:]
    return kept, rest[0], rest[1:]


def here(kept: list[str], image: str, arguments: list[str]) -> int:
    """By this checkout, as an image with this tag would have it."""
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from entrypoints.__main__ import main as entrypoint

    told = TAG.fullmatch(image.rpartition(":")[2])
    if told is None:
        sys.exit(f"{image}: has no tag of a release")
    environ = {"VLLM_ASCEND_RELEASE": told["release"], "ASCEND_PLATFORM": told["platform"] or "a2"}
    pairs = [kept[i + 1].partition("=")[::2] for i, word in enumerate(kept) if word == "-e"]
    return entrypoint(arguments, {**environ, **dict(pairs)})


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
