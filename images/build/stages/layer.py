"""Make the tree of one image layer, reproducibly. Runs in a stage on the builder.

    layer.py install SLICE… --arch arm64 --python 3.11                  the packages of slices,
        [--wheels DIR | --find-links DIR]                               from DIR only, or also,
        [--alias NAME=VERSION]                                          also found as NAME
    layer.py wheel DIR                                                  a wheel built in a stage
    layer.py venv PYTHON --python 3.11                                  the virtual environment
    layer.py entrypoint --python 3.11                                   the entrypoint and its data
    layer.py tree DIR                                                   existing files

The layer is written to /out. Two runs give the same bytes: every time stamp is EPOCH, byte code is
compiled with a fixed hash seed and without source times, and uv's lock and cache keys are removed.
"""

from __future__ import annotations

import argparse
import base64
import compileall
import hashlib
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path("/src")
OUT = Path("/out")
VENV = Path("/opt/vllm")
HOME = Path("/opt/ascend")
EPOCH = 315532800  # 1980-01-01
MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}
# Without `site`, which reads the .pth files of every package; the paths needed are set here.
LAUNCHER = """\
#!{venv}/bin/python -IS
import os
import sys

sys.path.insert(0, "{home}")
sys.path.append("{site_packages}")
from entrypoints.__main__ import main

sys.exit(main(sys.argv[1:], os.environ))
"""


def site_packages(python: str) -> Path:
    return VENV / "lib" / f"python{python}" / "site-packages"


def install(requirements: list[str], arch: str, python: str) -> None:
    """Install for `arch` with uv, on any architecture."""
    cache = Path("/tmp/uv")  # beside /out, so that uv can hard-link instead of copying
    subprocess.run(
        [
            *("uv", "pip", "install", "--no-progress", "--python", f"{VENV}/bin/python"),
            *("--prefix", f"{OUT}{VENV}", "--cache-dir", str(cache), "--link-mode", "hardlink"),
            *("--python-platform", f"{MACHINES[arch]}-manylinux_2_35", "--python-version", python),
            *("--no-deps", "--no-compile", "--only-binary", ":all:", *requirements),
        ],
        check=True,
    )
    shutil.rmtree(cache)


def alias(python: str, name: str, version: str) -> None:
    """Add the metadata of a distribution under another name."""
    metadata = OUT / site_packages(python).relative_to("/") / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (metadata / "METADATA").write_text(text)
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    names = f"{metadata.name}/METADATA,sha256={digest},{len(text)}\n{metadata.name}/RECORD,,\n"
    (metadata / "RECORD").write_text(names)


def venv(interpreter: str, python: str) -> None:
    """Write the files that make /opt/vllm an environment of the base's interpreter."""
    root = OUT / VENV.relative_to("/")
    (root / "bin").mkdir(parents=True)
    (OUT / "workspace").mkdir()  # so that WORKDIR adds no directory with a time stamp
    for name in ("python", "python3", f"python{python}"):
        (root / "bin" / name).symlink_to(interpreter)
    (root / "pyvenv.cfg").write_text(
        f"home = {Path(interpreter).parent}\n"
        "include-system-site-packages = false\n"
        f"version = {python}\n"
    )


def entrypoint(python: str) -> None:
    """Copy the package and its data, and write the launcher that ENTRYPOINT runs."""
    target = OUT / HOME.relative_to("/")
    for name in ("entrypoints", "env"):
        shutil.copytree(SOURCES / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    cache_data(target)
    launcher = OUT / (VENV / "bin" / "entrypoint").relative_to("/")
    launcher.parent.mkdir(parents=True)
    launcher.write_text(LAUNCHER.format(venv=VENV, home=HOME, site_packages=site_packages(python)))
    launcher.chmod(0o755)


def cache_data(home: Path) -> None:
    """Cache the entrypoint's YAML as JSON. The cache has each file's time, so set that first."""
    for file in home.glob("env/**/*.yaml"):
        os.utime(file, (EPOCH, EPOCH))
    # Byte code of this run would contain the time of the build.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": tempfile.gettempdir()}
    command = [sys.executable, "-m", "entrypoints.inputs.data"]
    subprocess.run(command, cwd=home, env=environment, check=True)


def finish(tree: Path) -> None:
    """Compile modules, remove uv's notes, and set every time stamp to EPOCH."""
    for record in tree.rglob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if "/uv_cache.json," not in line))
    for note in (*tree.rglob("uv_cache.json"), tree / VENV.relative_to("/") / ".lock"):
        note.unlink(missing_ok=True)
    compile_all(tree)
    for directory, names, files in os.walk(tree, topdown=False):
        for name in (*names, *files):
            os.utime(Path(directory, name), (EPOCH, EPOCH), follow_symlinks=False)
    os.utime(tree, (EPOCH, EPOCH))


def compile_all(tree: Path) -> None:
    """Compile every module, with its path in the image."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set constant is in the byte code
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, __file__, "compile", str(tree)]
        subprocess.run(command, env=environment, check=True)
        return
    for modules in (*tree.glob(f".{VENV}/lib"), *tree.glob(f".{HOME}/entrypoints")):
        compileall.compile_dir(
            str(modules),
            maxlevels=40,
            quiet=2,  # some packages ship templates that are not Python
            workers=0,
            stripdir=str(tree),
            prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", choices=["install", "wheel", "venv", "entrypoint", "tree", "compile"]
    )
    parser.add_argument("source", nargs="?")
    parser.add_argument("more", nargs="*")
    parser.add_argument("--arch")
    parser.add_argument("--python")
    parser.add_argument("--wheels")
    parser.add_argument("--find-links")
    parser.add_argument("--alias")
    given = parser.parse_args()
    if given.what == "compile":
        compile_all(Path(given.source))
        return
    if given.what == "install":
        slice_file = ["--require-hashes"]
        for one in (given.source, *given.more):
            slice_file += ["--requirements", one]
        if given.wheels:
            slice_file += ["--find-links", given.wheels, "--no-index"]
        elif given.find_links:
            slice_file += ["--find-links", given.find_links]
        install(slice_file, given.arch, given.python)
        if given.alias:
            alias(given.python, *given.alias.split("="))
    elif given.what == "wheel":
        wheels = [str(path) for path in Path(given.source).glob("*.whl")]
        install(["--no-index", *wheels], given.arch, given.python)
    elif given.what == "venv":
        venv(given.source, given.python)
    elif given.what == "entrypoint":
        entrypoint(given.python)
    elif given.what == "tree":
        shutil.copytree(given.source, OUT, symlinks=True, dirs_exist_ok=True)
    finish(OUT)


if __name__ == "__main__":
    main()
