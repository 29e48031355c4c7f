"""The environment in which vLLM's own parser runs: a CPU build of that vLLM, without a device."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import EX_SOFTWARE, user_error
from common.paths import WORK
from common.terminal import Say
from common.yaml import document
from images.locking.index import Wheels
from images.locking.uv import uv

BUILD = WORK / "flags"
SETTINGS = Path(__file__).with_name("parser.yaml")
PROBE = Path(__file__).with_name("vllm_parser.py")
READY = "ready.json"  # in a complete environment: its requirements


@dataclass(frozen=True)
class Settings:
    """parser.yaml."""

    python: str
    package: str
    torch: str
    requirements: tuple[str, ...]
    without: tuple[str, ...]
    as_of: str

    @classmethod
    def load(cls) -> Settings:
        raw = document(SETTINGS)
        lists = {key: tuple(raw[key]) for key in ("requirements", "without")}
        return cls(**{**raw, **lists, "as_of": str(raw["as_of"])})


def environment(version: str, wheels: Wheels, say: Say) -> Path:
    """Return the interpreter of an environment with this vLLM, creating it if necessary.

    Raises UserError (69) with uv's message.
    """
    settings = Settings.load()
    folder = BUILD / version
    python = folder / "bin" / "python"
    wanted = _requirements(settings, version)
    with _locked(folder):
        if is_ready(version):
            return python
        say(f"vLLM {version}: creating build/flags/{version} (about a minute)")
        uv("venv", "--quiet", "--clear", "--python", settings.python, str(folder))
        overrides = folder / "overrides.txt"
        overrides.write_text("\n".join(wanted["overrides"]))
        uv(
            *("pip", "install", "--quiet", "--python", str(python), "--overrides", str(overrides)),
            *("--exclude-newer", f"{settings.as_of}T23:59:59Z", *wheels.options()),
            *wanted["packages"],
        )
        (site,) = folder.glob("lib/python*/site-packages")
        _add_metadata(site, version)
        (folder / READY).write_text(json.dumps(wanted, indent=1))
    return python


def is_ready(version: str) -> bool:
    """Whether a complete environment exists that matches parser.yaml."""
    try:
        installed = json.loads((BUILD / version / READY).read_text())
    except (OSError, ValueError):
        return False
    return bool(installed == _requirements(Settings.load(), version))


def _requirements(settings: Settings, version: str) -> dict[str, list[str]]:
    never = ' ; sys_platform == "win32"'
    return {
        "packages": [f"{settings.package}=={version}", *settings.requirements],
        "overrides": [f"torch=={settings.torch}", *(f"{one}{never}" for one in settings.without)],
        "as_of": [settings.as_of],
    }


def _add_metadata(site: Path, version: str) -> None:
    """Name the distribution `vllm`, which vLLM 0.18 and later look up; the CPU build does not."""
    metadata = site / f"vllm-{version}+cpu.dist-info"
    metadata.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
    (metadata / "METADATA").write_text(text)


def ask(python: Path, what: str, stdin: str = "") -> str:
    """Run vllm_parser.py and return its output. Raises UserError (70) with its last lines."""
    # Byte code doubles the speed of later imports of vLLM.
    environ = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("VLLM_")
    }
    environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_PLUGINS": ""}
    answer = subprocess.run(
        [str(python), str(PROBE), what], input=stdin, env=environ, capture_output=True, text=True
    )
    if answer.returncode:
        words = " ".join(answer.stderr.strip().splitlines()[-3:])
        where = f"{PROBE.name} {what} in {python.parent.parent.name}"
        raise user_error(where, words or f"ended with {answer.returncode}", exit_code=EX_SOFTWARE)
    return answer.stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time create an environment."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
