"""CANN from its installers, and what is compiled on it: small ones, made here, of the same form.

The installers are real makeself archives that leave a toolkit, kernels and nnal with their
set_env.sh; the sources are small projects that need what the real ones need: SOC_VERSION, a C
compiler, Python's headers, CMake, yalantinglibs, USE_ASCEND_DIRECT.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from common.errors import UserError
from images.build import build as builds
from images.build import targets
from images.build.options import Options
from images.build.stages.standin import tree
from images.build.stages.standin.environment import NNAL, cann
from images.matrix import SOURCES, Matrix, load
from images.mirrors import Mirrors
from tests.e2e.conftest import NATIVE, building, docker, remove

VERSION = "8.3.rc2"
NAMES = {
    "toolkit": "Ascend-cann-toolkit_8.3.RC2_linux.run",
    "kernels": "Atlas-A3-cann-kernels_8.3.RC2_linux.run",
    "nnal": "Ascend-cann-nnal_8.3.RC2_linux.run",
}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip())
    return path


@pytest.fixture(scope="module")
def installers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as a site has it: three .run files and SHA256SUMS."""
    assert shutil.which("makeself"), "./setup.sh --dev installs it"
    directory = tmp_path_factory.mktemp("packages")
    # CANN's installers take their own options directly; makeself's own want them after --.
    text = Path("/usr/share/makeself/makeself-header.sh").read_text()
    unknown = "    -*)\n\techo Unrecognized flag"
    assert text.count(unknown) == 1
    header = tmp_path_factory.mktemp("makeself") / "header.sh"
    header.write_text(text.replace(unknown, "    --install)\n\tbreak ;;\n" + unknown))
    for part, name in NAMES.items():
        content = tmp_path_factory.mktemp(part)
        _lay_out(part, content / "tree")
        script = write(
            content / "install.sh",
            """
            #!/bin/sh
            set -eu
            test "$*" = "--install --install-for-all"
            cp -a tree/. /
            """,
        )
        script.chmod(0o755)
        run = directory / name
        command = ["makeself", "--nox11", "--header", str(header), str(content), str(run)]
        subprocess.run([*command, name, "./install.sh"], stdout=subprocess.DEVNULL, check=True)
    write_sums(directory)
    return directory


def write_sums(directory: Path) -> None:
    digests = {n: hashlib.sha256((directory / n).read_bytes()).hexdigest() for n in NAMES.values()}
    lines = [f"{digest}  {name}\n" for name, digest in digests.items()]
    (directory / "SHA256SUMS").write_text("".join(lines))


def _lay_out(part: str, root: Path) -> None:
    facts = cann(VERSION)
    if part == "kernels":
        kernels = f"{facts.home}/opp/built-in/op_impl/ai_core/tbe/kernel/ascend910_93"
        tree.write(root, files={f"{kernels}/add.o": "a kernel\n"})
        return
    nnal = part == "nnal"
    tree.write(
        root,
        [path for path in tree.cann_folders(facts, NATIVE) if path.startswith(NNAL) is nnal],
        {p: t for p, t in tree.cann_files(facts, NATIVE).items() if p.startswith(NNAL) is nnal},
        {p: t for p, t in tree.cann_links(facts, NATIVE).items() if p.startswith(NNAL) is nnal},
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Projects of the form of the real ones, small enough to compile in seconds."""
    root = tmp_path_factory.mktemp("sources")
    write(
        root / "yalantinglibs" / "CMakeLists.txt",
        """
        cmake_minimum_required(VERSION 3.16)
        project(yalantinglibs CXX)
        install(FILES ylt.hpp DESTINATION include/ylt)
        """,
    )
    write(root / "yalantinglibs" / "ylt.hpp", "inline int ylt() { return 42; }\n")
    write(
        root / "mooncake" / "CMakeLists.txt",
        """
        cmake_minimum_required(VERSION 3.16)
        project(mooncake CXX)
        option(USE_ASCEND_DIRECT "" OFF)
        if(NOT USE_ASCEND_DIRECT)
          message(FATAL_ERROR "without USE_ASCEND_DIRECT")
        endif()
        add_library(ascend_transport SHARED transport.cpp)
        install(TARGETS ascend_transport DESTINATION lib)
        install(FILES engine.py DESTINATION
                /usr/local/Ascend/ascend-toolkit/latest/python/site-packages/mooncake)
        """,
    )
    transport = '#include <ylt/ylt.hpp>\nextern "C" int transport() { return ylt(); }\n'
    write(root / "mooncake" / "transport.cpp", transport)
    write(
        root / "mooncake" / "engine.py",
        """
        import ctypes

        answer = ctypes.CDLL("libascend_transport.so").transport()
        """,
    )
    write(
        root / "vllm-ascend" / "setup.py",
        """
        import os
        from setuptools import Extension, setup

        assert "/nnal/atb/" in os.environ["ATB_HOME_PATH"]
        assert os.environ["LD_LIBRARY_PATH"].endswith("-linux/devlib")
        with open("vllm_ascend/_build_info.py", "w") as file:
            file.write(f"soc_version = {os.environ['SOC_VERSION']!r}\\n")
        setup(
            name="vllm-ascend",
            version=os.environ["SETUPTOOLS_SCM_PRETEND_VERSION"],
            packages=["vllm_ascend"],
            ext_modules=[Extension("vllm_ascend.kernels", ["kernels.c"])],
        )
        """,
    )
    write(root / "vllm-ascend" / "vllm_ascend" / "__init__.py", "")
    write(
        root / "vllm-ascend" / "kernels.c",
        """
        #include <Python.h>
        static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "kernels", "compiled", -1};
        PyMODINIT_FUNC PyInit_kernels(void) { return PyModule_Create(&module); }
        """,
    )
    return {name: str(root / name) for name in SOURCES}


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """The matrix with the few OS packages that the small projects need."""
    real = load()
    release = real.release(None)
    few = dataclasses.replace(release, os_packages={"apt": ("gcc", "g++", "make", "cmake")})
    return dataclasses.replace(
        real,
        releases={**real.releases, release.name: few},
        mooncake_source={"build": {"apt": ("make",)}, "run": {"bookworm": ("net-tools",)}},
    )


def options(matrix: Matrix, packages: Path, sources: dict[str, str]) -> Options:
    return Options(
        arches=(matrix.arch(NATIVE),),
        cann_packages=packages,
        registry="test.invalid/from-packages",
        sources=sources,
        mirrors=Mirrors.of(os.environ),
    )


def test_an_image_from_canns_installers(
    matrix: Matrix, installers: Path, sources: dict[str, str]
) -> None:
    chosen = options(matrix, installers, sources)
    variants = [matrix.variant(None, "a3", "ubuntu22.04")]
    with building():
        resolved = targets.resolve(matrix, variants, chosen, print)
        (built,) = builds.build(resolved, print)
    assert not built.tag.endswith("-standin")
    code = """
import importlib.metadata, vllm_ascend.kernels, vllm_ascend._build_info as info, mooncake.engine
print(info.soc_version, mooncake.engine.answer, importlib.metadata.version("vllm-ascend"))
"""
    answer = docker("run", "--rm", "--entrypoint=python", built.tag, "-c", code).stdout
    assert answer.split() == ["ascend910_9391", "42", "0.13.0rc1"]
    script = """
    test -L /usr/local/Ascend/ascend-toolkit/latest
    ls $ASCEND_OPP_PATH/built-in/op_impl/ai_core/tbe/kernel
    echo $ATB_HOME_PATH
    ldd /usr/local/lib/libascend_transport.so | grep -c 'not found'
    which ifconfig gcc
    """
    lines = docker("run", "--rm", "--entrypoint=sh", built.tag, "-c", script, check=False).stdout
    kernels, atb, missing, *programs = lines.split()
    assert (kernels, atb) == ("ascend910_93", f"{NNAL}/latest/atb/cxx_abi_1")
    assert missing == "0"
    assert [program.rpartition("/")[2] for program in programs] == ["ifconfig", "gcc"]
    remove(built.tag)


def test_an_installer_with_the_wrong_sha256(
    matrix: Matrix, installers: Path, sources: dict[str, str], tmp_path: Path
) -> None:
    spoiled = tmp_path / "packages"
    shutil.copytree(installers, spoiled)
    with (spoiled / NAMES["nnal"]).open("ab") as file:
        file.write(b"tampered")
    chosen = options(matrix, spoiled, sources)
    variants = [matrix.variant(None, "a3", "ubuntu22.04")]
    with pytest.raises(UserError) as raised:
        targets.resolve(matrix, variants, chosen, print)
    assert raised.value.exit_code == 65
    (problem,) = raised.value.findings
    assert NAMES["nnal"] in problem.where
    assert "its sha256 is" in problem.message
