"""Capturing what set_env.sh changes, from scripts that do what CANN's do."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.build.stages import environment

MACHINE = platform.machine()
FOREIGN = "aarch64" if MACHINE != "aarch64" else "x86_64"
# nnal's script asks the torch it finds for its C++ ABI.
NNAL = """\
abi=$(python3 -c 'import torch; print(int(torch.compiled_with_cxx11_abi()))')
export ATB_HOME_PATH=/nnal/cxx_abi_$abi
export LD_LIBRARY_PATH=/nnal/cxx_abi_$abi/lib:$LD_LIBRARY_PATH
"""
TOOLKIT = """\
export ASCEND_HOME_PATH=/toolkit
export LD_LIBRARY_PATH=/toolkit/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PYTHONPATH=/toolkit/python${PYTHONPATH:+:$PYTHONPATH}
export PATH=/toolkit/bin:$PATH
export LCCL_PARALLEL=0
lower_case_of_the_script=1
"""
Capture = Callable[..., dict[str, Any]]


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Capture:
    """Run the stage's main on a root with these scripts; returns what it wrote."""
    scripts = [tmp_path / "toolkit" / "set_env.sh", tmp_path / "nnal" / "set_env.sh"]
    root, packages = tmp_path / "root", tmp_path / "torch-layer"
    real_python = os.path.realpath(sys.executable)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/python3.11").symlink_to("/not/in/this/stage")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(real_python)

    def run(
        toolkit: str | None = TOOLKIT,
        nnal: str | None = NNAL,
        *,
        library: bytes = b"std::__cxx11::basic_string",
        machine: str = MACHINE,
        python: str = "3.11",
        torch: bool = True,
        **variables: str,
    ) -> dict[str, Any]:
        for path, text in zip(scripts, (toolkit, nnal), strict=True):
            if text is not None:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
        (packages / "torch/lib").mkdir(parents=True, exist_ok=True)
        (packages / "torch/lib/libc10.so").write_bytes(library)
        for name in os.environ:
            monkeypatch.delenv(name)
        base = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": "/root", "HOSTNAME": "x"}
        for name, value in {**base, **variables}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(environment, "SCRIPTS", tuple(map(str, scripts)))
        out = tmp_path / "out"
        monkeypatch.setattr(environment, "OUT", out, raising=False)
        real = Path
        monkeypatch.setattr(
            environment, "Path", lambda given: out if given == "/out" else real(given)
        )
        arguments = ["environment.py", "--root", str(root), "--python", python]
        arguments += ["--machine", machine, *(["--torch", str(packages)] if torch else [])]
        monkeypatch.setattr(sys, "argv", arguments)
        environment.main()
        return dict(json.loads((out / "environment.json").read_text()))

    return run


def test_what_the_scripts_change_is_captured(capture: Capture, tmp_path: Path) -> None:
    found = capture(LD_LIBRARY_PATH="/driver", LCCL_PARALLEL="0")
    programs = f"{tmp_path}/programs:/usr/bin:/bin"
    assert found["changed"] == {
        "ASCEND_HOME_PATH": "/toolkit",
        "ATB_HOME_PATH": "/nnal/cxx_abi_1",
        "LD_LIBRARY_PATH": "/nnal/cxx_abi_1/lib:/toolkit/lib64:/driver",
        "PATH": f"/toolkit/bin:{programs}",
        "PYTHONPATH": "/toolkit/python",
    }
    assert found["base"] == {"LCCL_PARALLEL": "0", "LD_LIBRARY_PATH": "/driver", "PATH": programs}
    assert found["python"] == "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("library", "abi"), [(b"std::__cxx11::basic_string", "1"), (b"std::basic_string", "0")]
)
def test_the_abi_is_that_of_the_torch_layer(capture: Capture, library: bytes, abi: str) -> None:
    found = capture(library=library)
    assert found["changed"]["ATB_HOME_PATH"] == f"/nnal/cxx_abi_{abi}"


@pytest.mark.parametrize("before", ["", "/base/python", "/base/python:"])
def test_nothing_of_the_stage_is_left(capture: Capture, before: str) -> None:
    found = capture(**({"PYTHONPATH": before} if before else {}))
    assert "torch_abi" not in json.dumps(found)
    assert "TORCH_LIBRARY" not in json.dumps(found)
    entries = [part for part in found["changed"]["PYTHONPATH"].split(":") if part]
    assert entries == ["/toolkit/python", *(["/base/python"] if before else [])]


def test_a_script_that_leaves_pythonpath_alone_changes_nothing(capture: Capture) -> None:
    found = capture(toolkit="export A=1\n", PYTHONPATH="/base")
    assert "PYTHONPATH" not in found["changed"]
    assert found["base"]["PYTHONPATH"] == "/base"


def test_values_with_line_breaks_quotes_and_equal_signs(capture: Capture) -> None:
    found = capture(toolkit="""export A='x=y "z" $HOME'\nexport B=$'1\\n2'\n""")
    assert found["changed"]["A"] == 'x=y "z" $HOME'
    assert found["changed"]["B"] == "1\n2"


def test_what_a_script_says_does_not_get_into_the_answer(
    capture: Capture, capfd: pytest.CaptureFixture[str]
) -> None:
    found = capture(toolkit='echo "PATH=/wrong"\nexport A=1\n')
    assert found["changed"]["A"] == "1"
    assert "/wrong" not in json.dumps(found)
    assert "PATH=/wrong" in capfd.readouterr().err


def test_the_builds_own_variables_are_none_of_the_base(capture: Capture) -> None:
    own = {
        "MACHINE": MACHINE,
        "TARGETARCH": "arm64",
        "BUILDARCH": "amd64",
        "SOURCE_DATE_EPOCH": "1",
        "https_proxy": "http://user:secret@proxy.example:3128",
    }
    found = capture(**own)
    assert not set(own) & set(found["base"])


@pytest.mark.parametrize(
    ("toolkit", "nnal", "words"),
    [
        (None, NNAL, ["toolkit/set_env.sh"]),
        (TOOLKIT, None, ["nnal/set_env.sh"]),
        (None, None, ["toolkit/set_env.sh and ", "nnal/set_env.sh"]),
    ],
)
def test_a_base_without_the_scripts(
    capture: Capture, toolkit: str | None, nnal: str | None, words: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        capture(toolkit, nnal)
    assert str(stopped.value).startswith("this base is not a CANN image: it lacks ")
    assert all(word in str(stopped.value) for word in words)


def test_a_base_that_is_to_have_no_cann(capture: Capture, tmp_path: Path) -> None:
    found = capture(None, None, torch=False)
    programs = f"{tmp_path}/programs:/usr/bin:/bin"
    assert found == {"python": "/usr/bin/python3.11", "base": {"PATH": programs}, "changed": {}}


def test_scripts_that_name_the_builders_machine(capture: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        capture(toolkit=f"{TOOLKIT}export A=/lib/{MACHINE}\n", machine=FOREIGN)
    assert str(stopped.value) == (
        f"set_env.sh sets the builder's architecture in A: build this on {FOREIGN}"
    )


def test_a_foreign_machine_that_the_scripts_do_not_name(capture: Capture) -> None:
    assert capture(machine=FOREIGN)["changed"]["ASCEND_HOME_PATH"] == "/toolkit"


def test_a_base_without_this_python(capture: Capture, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        capture(python="3.12")
    assert str(stopped.value) == (
        f"this base has no python3.12 in its PATH (/toolkit/bin:{tmp_path}/programs:/usr/bin:/bin)"
    )


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/usr/local/bin:/usr/bin", "/usr/bin/python3.11"),
        ("/usr/local/python3.11.13/bin:/usr/bin", "/usr/local/python3.11.13/bin/python3.11"),
        ("/sbin", None),
        *(
            pytest.param(
                *case,
            )
            for case in (
                (":/usr/bin", "/usr/bin/python3.11"),
                ("bin:/usr/bin:", "/usr/bin/python3.11"),
            )
        ),
    ],
)
def test_the_first_interpreter_of_the_path(tmp_path: Path, path: str, found: str | None) -> None:
    for directory in ("usr/bin", "usr/local/python3.11.13/bin"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "python3.11").write_text("")
    (tmp_path / "usr/local/bin").mkdir()
    (tmp_path / "usr/local/bin/python3").write_text("")
    assert environment.interpreter(tmp_path, path, "3.11") == found


@pytest.mark.parametrize("script", ["export A=1\nexit 3\n", "if true; then\n"])
def test_a_script_that_breaks_stops_the_stage(capture: Capture, script: str) -> None:
    with pytest.raises((subprocess.CalledProcessError, SystemExit)):
        capture(toolkit=script)


@pytest.mark.parametrize(
    "script", ["ls /none 2>/dev/null\nexport A=1\n", "export A=1\n[ -d /none ] && export B=1\n"]
)
def test_a_command_that_fails_on_the_way_is_the_scripts_own_business(
    capture: Capture, script: str
) -> None:
    assert capture(toolkit=script)["changed"]["A"] == "1"
