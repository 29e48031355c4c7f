"""The ENV and the scripts of the stand-in, against what CANN images are known to have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from images.build.stages.standin import tree
from images.build.stages.standin.environment import (
    VERSIONS,
    UnknownCannVersion,
    cann,
    static_environment,
)

LATEST = "/usr/local/Ascend/ascend-toolkit/latest"
ATB = "/usr/local/Ascend/nnal/atb/latest/atb"


def test_env_of_8_3_has_the_old_abi_and_one_home() -> None:
    env = static_environment("8.3.rc2", "arm64")
    assert env["ATB_HOME_PATH"] == f"{ATB}/cxx_abi_0"
    assert env["ASCEND_HOME_PATH"] == LATEST
    assert env["ASCEND_OPP_PATH"] == f"{LATEST}/opp"
    assert env["LD_LIBRARY_PATH"].split(":") == [
        f"{ATB}/cxx_abi_0/lib",
        f"{ATB}/cxx_abi_0/examples",
        f"{ATB}/cxx_abi_0/tests/atbopstest",
        f"{LATEST}/tools/aml/lib64",
        f"{LATEST}/tools/aml/lib64/plugin",
        f"{LATEST}/lib64",
        f"{LATEST}/lib64/plugin/opskernel",
        f"{LATEST}/lib64/plugin/nnengine",
        f"{LATEST}/opp/built-in/op_impl/ai_core/tbe/op_tiling",
        "/usr/local/Ascend/driver/lib64/common/",
        "/usr/local/Ascend/driver/lib64/driver/",
        "",
    ]
    assert env["PATH"].split(":")[:5] == [
        f"{ATB}/cxx_abi_0/bin",
        f"{LATEST}/bin",
        f"{LATEST}/compiler/ccec_compiler/bin",
        f"{LATEST}/tools/ccec_compiler/bin",
        "/usr/local/python3.11.13/bin",
    ]
    assert env["PATH"].endswith("/usr/bin:/sbin:/bin")
    assert "ASCEND_TOOLKIT_LATEST_HOME" not in env


@pytest.mark.parametrize("version", ["8.5.0", "8.5.1"])
def test_env_of_8_5_has_two_homes_and_the_new_abi(version: str) -> None:
    env = static_environment(version, "amd64")
    home = f"/usr/local/Ascend/cann-{version}"
    libraries = env["LD_LIBRARY_PATH"].split(":")
    assert env["ASCEND_HOME_PATH"] == home
    assert env["ASCEND_TOOLKIT_LATEST_HOME"] == LATEST
    assert env["ATB_HOME_PATH"] == f"{ATB}/cxx_abi_1"
    assert libraries.index(f"{LATEST}/lib64") < libraries.index(f"{home}/lib64")
    assert libraries[-5:-1] == [
        "/usr/local/Ascend/driver/lib64",
        "/usr/local/Ascend/driver/lib64/common/",
        "/usr/local/Ascend/driver/lib64/driver/",
        "/usr/local/python3.11.14/lib",
    ]
    assert f"{home}/lib64/cmake" in env["CMAKE_PREFIX_PATH"]
    assert "ATB_WORKSPACE_MEM_ALLOC_GLOBAL" not in env


def test_env_has_no_unexpanded_variable() -> None:
    for version in VERSIONS:
        assert not any("$" in value for value in static_environment(version, "arm64").values())


@pytest.mark.parametrize(("version", "arch"), [("9.9.0", "arm64"), ("8.3.rc2", "riscv64")])
def test_unknown_versions_and_architectures_are_refused(version: str, arch: str) -> None:
    with pytest.raises(UnknownCannVersion, match="known: "):
        static_environment(version, arch)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("torch", ["0", "1", None])
def test_nnal_script_takes_the_abi_of_the_torch_in_path(
    tmp_path: Path, version: str, torch: str | None
) -> None:
    env = _source(tmp_path, version, torch, ["/usr/local/Ascend/nnal/atb/set_env.sh"])
    expected = torch or str(cann(version).default_abi)
    assert env["ATB_HOME_PATH"] == f"{ATB}/cxx_abi_{expected}"
    assert env["LD_LIBRARY_PATH"].startswith(f"{ATB}/cxx_abi_{expected}/lib:")
    assert env["LCCL_DETERMINISTIC"] == "0"
    assert "standin_abi" not in env


def test_nnal_script_obeys_its_argument(tmp_path: Path) -> None:
    script = "/usr/local/Ascend/nnal/atb/set_env.sh --cxx_abi=0"
    env = _source(tmp_path, "8.5.1", "1", [script])
    assert env["ATB_HOME_PATH"] == f"{ATB}/cxx_abi_0"


@pytest.mark.parametrize("version", VERSIONS)
def test_both_scripts_prepend_and_lose_nothing(tmp_path: Path, version: str) -> None:
    scripts = [
        "/usr/local/Ascend/ascend-toolkit/set_env.sh",
        "/usr/local/Ascend/nnal/atb/set_env.sh",
    ]
    env = _source(tmp_path, version, "1", scripts, {"LD_LIBRARY_PATH": "/before"})
    home = cann(version).toolkit_home
    libraries = env["LD_LIBRARY_PATH"].split(":")
    assert libraries[0] == f"{ATB}/cxx_abi_1/lib"
    assert libraries[-1] == "/before"
    assert f"{home}/opp/built-in/op_impl/ai_core/tbe/op_tiling/lib/linux/aarch64" in libraries
    assert env["PYTHONPATH"].split(":") == [
        f"{home}/python/site-packages",
        f"{home}/opp/built-in/op_impl/ai_core/tbe",
    ]
    static = static_environment(version, "arm64")
    for name in ("ASCEND_HOME_PATH", "ASCEND_OPP_PATH", "ASCEND_AICPU_PATH", "TOOLCHAIN_HOME"):
        assert env[name] == static[name]


def _source(
    root: Path,
    version: str,
    abi: str | None,
    scripts: list[str],
    environment: dict[str, str] | None = None,
) -> dict[str, str]:
    """What bash has exported after sourcing scripts of the tree, with a python3 of our own."""
    tree.write(root / "image", files=tree.cann_files(cann(version), "arm64"))
    programs = root / "programs"
    programs.mkdir()
    python = programs / "python3"
    # Runs the line it is given with a torch that answers as it should, or has none.
    answer = (
        "exit 1" if abi is None else f'case "$2" in *compiled_with_cxx11_abi*) echo {abi};; esac'
    )
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    sources = " && ".join(f"source {root}/image{script}" for script in scripts)
    done = subprocess.run(
        ["/bin/bash", "-euc", f"{sources} && env -0"],
        env={"PATH": f"{programs}:/usr/bin:/bin", **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
