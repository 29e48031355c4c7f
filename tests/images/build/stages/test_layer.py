"""A layer's tree: the same bytes each time, whatever the builder and the day."""

from __future__ import annotations

import base64
import hashlib
import json
import marshal
import os
import shutil
import stat
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from types import CodeType

import pytest
import yaml

from images.build.stages import layer
from tests import ROOT

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = f"opt/vllm/lib/python{PYTHON}/site-packages"
# Sets are what an unfixed hash seed orders anew.
MODULE = "WORDS = {'alpha', 'beta', 'gamma', 'delta'}\ndef f(x):\n    return x in {'a', 'b', 'c'}\n"
RECORD = """\
pkg/__init__.py,sha256=abc,84
pkg-1.0.dist-info/uv_cache.json,sha256=def,2
pkg-1.0.dist-info/RECORD,
"""


def _tree(root: Path) -> Path:
    """A tree as uv leaves it, with its notes and today's times."""
    package = root / PACKAGES / "pkg"
    info = root / PACKAGES / "pkg-1.0.dist-info"
    for directory in (package, info, root / "opt/ascend/entrypoints", root / "usr/local/lib"):
        directory.mkdir(parents=True)
    (package / "__init__.py").write_text(MODULE)
    (package / "template.py").write_text("{{ no python }}\n")
    (package / "data.bin").write_bytes(b"\0\1")
    (info / "RECORD").write_text(RECORD)
    (info / "uv_cache.json").write_text("{}")
    (root / "opt/vllm/.lock").write_text("")
    (package / ".lock").write_text("")  # as in setuptools 80.10 to 82
    (root / "opt/ascend/entrypoints/role.py").write_text("ROLE = 1\n")
    (root / "opt/vllm/bin").mkdir()
    (root / "opt/vllm/bin/python").symlink_to("/usr/local/python3.11.13/bin/python3.11")
    return root


def _content(root: Path) -> dict[str, object]:
    return {
        str(path.relative_to(root)): (
            str(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else "directory"
        )
        for path in root.rglob("*")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two copies of a tree, in directories of different depth, each finished under another seed."""
    base = tmp_path_factory.mktemp("layers")
    trees = (_tree(base / "one"), _tree(base / "a" / "deeper" / "two"))
    os.utime(trees[1] / PACKAGES / "pkg/__init__.py", (1, 1))
    for seed, tree in enumerate(trees, 1):
        program = f"from pathlib import Path; import layer; layer.finish(Path({str(tree)!r}))"
        environment = {"PYTHONHASHSEED": str(seed), "PATH": "/usr/bin:/bin"}
        stages = Path(layer.__file__).parent
        subprocess.run([sys.executable, "-c", program], cwd=stages, env=environment, check=True)
    return trees


def test_two_copies_give_the_same_bytes(finished: tuple[Path, Path]) -> None:
    first, second = map(_content, finished)
    assert first == second
    assert sum(name.endswith(".pyc") for name in first) == 2


def test_every_time_is_the_epoch(finished: tuple[Path, Path]) -> None:
    for tree in finished:
        times = {path: path.lstat().st_mtime for path in (tree, *tree.rglob("*"))}
        assert set(times.values()) == {315532800}


def test_modes_do_not_change(finished: tuple[Path, Path], tmp_path: Path) -> None:
    untouched = _tree(tmp_path / "tree")
    for path in untouched.rglob("*"):
        after = finished[0] / path.relative_to(untouched)
        if after.exists():
            assert stat.S_IMODE(after.lstat().st_mode) == stat.S_IMODE(path.lstat().st_mode)


def test_uvs_notes_are_gone_with_their_line(finished: tuple[Path, Path]) -> None:
    tree, _ = finished
    assert not [*tree.rglob("uv_cache.json"), *tree.glob("opt/vllm/.lock")]
    assert (tree / PACKAGES / "pkg/.lock").is_file()  # of a package, whose RECORD may name it
    assert (tree / PACKAGES / "pkg-1.0.dist-info/RECORD").read_text().splitlines() == [
        "pkg/__init__.py,sha256=abc,84",
        "pkg-1.0.dist-info/RECORD,",
    ]


def _code(pyc: Path) -> CodeType:
    data = pyc.read_bytes()
    assert int.from_bytes(data[4:8], "little") == 0b01, "hash-based and unchecked"
    code = marshal.loads(data[16:])
    assert isinstance(code, CodeType)
    return code


@pytest.mark.parametrize("module", [f"{PACKAGES}/pkg/__init__", "opt/ascend/entrypoints/role"])
def test_byte_code_names_the_place_in_the_image(finished: tuple[Path, Path], module: str) -> None:
    directory, _, name = module.rpartition("/")
    pyc = finished[0] / directory / "__pycache__" / f"{name}.{sys.implementation.cache_tag}.pyc"
    assert _code(pyc).co_filename == f"/{module}.py"


def test_what_is_no_python_is_left_as_it_is(finished: tuple[Path, Path]) -> None:
    template = finished[0] / PACKAGES / "pkg/template.py"
    assert template.read_text() == "{{ no python }}\n"
    assert not [*template.parent.glob("__pycache__/template*")]


def test_byte_code_that_was_there_is_made_anew(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree")
    stale = tree / PACKAGES / f"pkg/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    stale.parent.mkdir()
    stale.write_bytes(b"stale byte code of another builder")
    layer.finish(tree)
    assert "WORDS" in _code(stale).co_names


# ---- venv and tree -------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layer, "OUT", tmp_path / "out")
    return tmp_path / "out"


def test_the_files_that_make_an_environment(out: Path) -> None:
    layer.venv("/usr/local/python3.11.13/bin/python3.11", "3.11")
    links = {path.name: str(path.readlink()) for path in (out / "opt/vllm/bin").iterdir()}
    assert links == dict.fromkeys(
        ("python", "python3", "python3.11"), "/usr/local/python3.11.13/bin/python3.11"
    )
    assert (out / "opt/vllm/pyvenv.cfg").read_text() == (
        "home = /usr/local/python3.11.13/bin\n"
        "include-system-site-packages = false\n"
        "version = 3.11\n"
    )
    assert sorted(path.name for path in (out / "opt/vllm").iterdir()) == ["bin", "pyvenv.cfg"]


def test_the_working_directory_is_there_before_workdir_makes_it(out: Path) -> None:
    """WORKDIR would make it with the time of the build."""
    layer.venv("/usr/bin/python3.11", "3.11")
    assert [path.name for path in out.iterdir() if path.name != "opt"] == ["workspace"]


def test_the_environment_works_with_a_real_interpreter(out: Path) -> None:
    """Python itself must take pyvenv.cfg for one: its prefix is then the environment."""
    layer.venv(os.path.realpath(sys.executable), PYTHON)
    answer = subprocess.run(
        [str(out / "opt/vllm/bin/python"), "-S", "-c", "import site, sys; site.main(); "
         "print(sys.prefix)"],
        capture_output=True,
        text=True,
        env={},
        check=True,
    )  # fmt: skip
    assert answer.stdout.strip() == str(out / "opt/vllm")


def test_a_tree_is_copied_with_its_links(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "tree"
    (source / "lib").mkdir(parents=True)
    (source / "lib" / "a.so.1").write_text("a")
    (source / "lib" / "a.so").symlink_to("a.so.1")
    (source / "dangling").symlink_to("/not/here")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr(sys, "argv", ["layer.py", "tree", str(source)])
    layer.main()
    assert (out / "lib" / "a.so").readlink() == Path("a.so.1")
    assert (out / "dangling").readlink() == Path("/not/here")
    assert {path.lstat().st_mtime for path in out.rglob("*")} == {layer.EPOCH}


# ---- the entrypoint ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entrypoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The layer made twice, from copies of the project's directories with other times."""
    made = []
    for number in (1, 2):
        base = tmp_path_factory.mktemp("entrypoint")
        for name in ("entrypoints", "env"):
            shutil.copytree(ROOT / name, base / "src" / name)
        os.utime(base / "src/env/defaults.yaml", (number, number))
        program = (
            "import pathlib, sys, layer; layer.SOURCES, layer.OUT = map(pathlib.Path, ('src', 'out'"
            ")); sys.argv = ['layer.py', 'entrypoint', '--python', '3.11']; layer.main()"
        )
        environment = {"PYTHONPATH": str(Path(layer.__file__).parent), "PATH": "/usr/bin:/bin"}
        subprocess.run([sys.executable, "-c", program], cwd=base, env=environment, check=True)
        made.append(base / "out")
    return made[0], made[1]


def test_the_entrypoint_is_the_same_each_time(entrypoints: tuple[Path, Path]) -> None:
    first, second = map(_content, entrypoints)
    assert first == second
    compiled = [path for path in entrypoints[0].rglob("*.pyc")]
    assert {path.name.split(".")[0] for path in compiled} >= {"data", "yaml12"}
    assert {_code(path).co_filename.startswith("/opt/ascend/") for path in compiled} == {True}


def test_the_data_is_kept_for_a_quick_start(entrypoints: tuple[Path, Path]) -> None:
    """As entrypoints/inputs/data.py takes it: with the size and the time that the file has here."""
    files = [*entrypoints[0].glob("opt/ascend/env/**/*.yaml")]
    assert len(files) > 5
    for file in files:
        kept = json.loads((file.parent / "__pycache__" / f"{file.name}.json").read_text())
        assert kept["state"] == [file.stat().st_size, file.stat().st_mtime_ns], file


def test_the_launcher_needs_no_site(entrypoints: tuple[Path, Path]) -> None:
    """It finds PyYAML where a recipe that is mounted needs it, and leaves the environment alone."""
    launcher = entrypoints[0] / "opt/vllm/bin/entrypoint"
    assert stat.S_IMODE(launcher.stat().st_mode) == 0o755
    first, *lines = launcher.read_text().splitlines()
    assert first == "#!/opt/vllm/bin/python -IS"
    home = str(entrypoints[0] / "opt/ascend")
    text = "\n".join(lines).replace("/opt/ascend", home)
    text = text.replace(
        "/opt/vllm/lib/python3.11/site-packages", str(Path(yaml.__file__).parent.parent)
    )
    recipe = entrypoints[0].parent / "recipe.yaml"
    recipe.write_text("title: [\n")
    environment = {"ROLE": "single", "RECIPE": str(recipe), "PYTHONPATH": "/kept"}
    for argument, wanted in (("roles", "single"), ("env", "PYTHONPATH=/kept"), ("plan", "recipe")):
        answer = subprocess.run(
            [sys.executable, "-IS", "-c", text, argument],
            env={**environment, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert wanted in answer.stdout + answer.stderr
        assert "Traceback" not in answer.stderr


# ---- installing ----------------------------------------------------------------------------------


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Path) -> Path:
    """A uv that notes its arguments; layer.py must end with what it ends with."""
    directory = tmp_path / "uv-bin"
    directory.mkdir()
    script = directory / "uv"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {directory}/arguments\n'
        f'mkdir -p "{out}"\nexit "$(cat {directory}/code)"\n'
    )
    script.chmod(0o755)
    (directory / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    return directory


@pytest.mark.parametrize(
    ("arch", "machine"), [("arm64", "aarch64-manylinux_2_35"), ("amd64", "x86_64-manylinux_2_35")]
)
def test_a_slice_is_installed_for_its_architecture(
    uv: Path, monkeypatch: pytest.MonkeyPatch, arch: str, machine: str
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda path: None)
    arguments = ["layer.py", "install", "/slice.txt", "--arch", arch, "--python", "3.11"]
    monkeypatch.setattr(sys, "argv", arguments)
    layer.main()
    asked = (uv / "arguments").read_text().splitlines()
    assert asked[asked.index("--python-platform") + 1] == machine
    assert asked[asked.index("--python-version") + 1] == "3.11"
    assert asked[asked.index("--requirements") + 1] == "/slice.txt"
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(asked)


def test_an_install_that_fails_makes_no_layer(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (uv / "code").write_text("1")
    monkeypatch.setattr(
        sys, "argv", ["layer.py", "install", "/s", "--arch", "arm64", "--python", "3.11"]
    )
    with pytest.raises(subprocess.CalledProcessError):
        layer.main()


@pytest.mark.parametrize(
    ("option", "alone"),
    [("--wheels", True), ("--find-links", False)],
)
def test_wheels_are_taken_alone_or_beside_the_index(
    uv: Path, monkeypatch: pytest.MonkeyPatch, option: str, alone: bool
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda path: None)
    arguments = ["layer.py", "install", "/s", "--arch", "amd64", "--python", "3.11"]
    monkeypatch.setattr(sys, "argv", [*arguments, option, "/wheels"])
    layer.main()
    asked = (uv / "arguments").read_text().splitlines()
    assert asked[asked.index("--find-links") + 1] == "/wheels"
    assert ("--no-index" in asked) == alone


def test_a_distribution_is_found_by_another_name(
    uv: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda path: None)
    arguments = ["layer.py", "install", "/s", "--arch", "amd64", "--python", "3.11"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--alias", "vllm=0.32.0+cpu"])
    layer.main()
    packages = out / "opt/vllm/lib/python3.11/site-packages"
    (found,) = distributions(path=[str(packages)])
    assert (found.name, found.version) == ("vllm", "0.32.0+cpu")
    metadata, record = found.files or []
    assert str(record) == "vllm-0.32.0+cpu.dist-info/RECORD"
    digest = hashlib.sha256(Path(str(metadata.locate())).read_bytes()).digest()
    assert metadata.hash
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == metadata.hash.value
