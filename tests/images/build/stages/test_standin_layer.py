"""The tree of the layer, and the whole command with a real compiler where there is one."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.build.stages.standin import assembly, tree
from images.build.stages.standin.__main__ import main
from images.build.stages.standin.elf import Reference, read, scan
from images.build.stages.standin.environment import VERSIONS, Cann, cann
from images.build.stages.standin.stubs import Plan, Stub, Vendor

HOST = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")


def test_stubs_go_where_cann_has_them() -> None:
    facts = cann("8.3.rc2")
    paths = {owner: tree.library_paths(Stub("libx.so", owner), facts, "arm64") for owner in Vendor}
    native = "/usr/local/Ascend/ascend-toolkit/8.3.RC2/aarch64-linux"
    assert paths[Vendor.TOOLKIT] == [f"{native}/lib64/libx.so"]
    assert paths[Vendor.DRIVER] == [f"{native}/devlib/libx.so"]
    assert paths[Vendor.NVIDIA] == ["/usr/local/standin/lib/libx.so"]
    assert paths[Vendor.ATB] == [
        f"/usr/local/Ascend/nnal/atb/8.3.RC2/atb/cxx_abi_{abi}/lib/libx.so" for abi in (0, 1)
    ]


def test_only_what_is_not_canns_is_linked_into_the_loaders_directory() -> None:
    assert tree.loader_links(Stub("libatb.so", Vendor.ATB), "arm64") == {}
    assert tree.loader_links(Stub("libcuda.so.1", Vendor.NVIDIA), "arm64") == {
        "/usr/lib/aarch64-linux-gnu/libcuda.so.1": "/usr/local/standin/lib/libcuda.so.1"
    }


@pytest.mark.parametrize("facts", VERSIONS.values(), ids=lambda facts: facts.version)
def test_the_old_path_leads_to_the_toolkit(tmp_path: Path, facts: Cann) -> None:
    _write(tmp_path, facts)
    latest = tree.inside(tmp_path, "/usr/local/Ascend/ascend-toolkit/latest")
    assert latest.is_symlink()
    assert latest.resolve() == tree.inside(tmp_path, facts.home).resolve()
    assert (latest / "lib64/plugin/opskernel").is_dir()
    info = (latest / "aarch64-linux/ascend_toolkit_install.info").read_text()
    assert f"version={facts.version}\n" in info
    assert "stand-in" in info
    assert not tree.inside(tmp_path, "/usr/local/Ascend/driver").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etc", "usr"]


def test_python_is_the_bases_own(tmp_path: Path) -> None:
    links = tree.python_links(cann("8.5.1"), tmp_path)
    assert links == {
        "/usr/local/python3.11.14/bin/python3.11": "/usr/bin/python3.11",
        "/usr/local/python3.11.14/bin/python3": "python3.11",
        "/usr/local/python3.11.14/bin/python": "python3",
    }
    pip = tmp_path / "usr/bin/pip3"
    pip.parent.mkdir(parents=True)
    pip.touch()
    assert "/usr/local/python3.11.14/bin/pip" in tree.python_links(cann("8.5.1"), tmp_path)


def test_accounts_are_made_where_the_base_has_none(tmp_path: Path) -> None:
    master = tmp_path / "usr/share/base-passwd/passwd.master"
    master.parent.mkdir(parents=True)
    master.write_text("root:*:0:0:root:/root:/bin/bash\n")
    assert list(tree.base_files(tmp_path)) == ["/etc/passwd"]
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").touch()
    assert tree.base_files(tmp_path) == {}


def test_the_report_names_stubs_and_gaps() -> None:
    plan = Plan((Stub("libatb.so", Vendor.ATB, (Reference("f"),)),), {"libcurl.so.4": ("a.so",)})
    content = json.loads(tree.report(plan, cann("8.3.rc2"), "arm64"))
    assert content["stubs"]["libatb.so"]["symbols"] == 1
    assert content["missing"] == {"libcurl.so.4": ["a.so"]}


def test_env_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--cann-version", "8.3.rc2", "--arch", "arm64"]) == 0
    assert json.loads(capsys.readouterr().out)["ATB_HOME_PATH"].endswith("cxx_abi_0")


def test_bad_input_is_one_line_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--arch", "arm64", "--layers", f"{tmp_path}/no", "--rootfs", str(tmp_path)]
    words += ["--out", f"{tmp_path}/out"]
    assert main(["--cann-version", "8.3.rc2", *words]) == 64
    assert capsys.readouterr().err == f"stand-in: {tmp_path}/no is not a directory\n"
    assert main(["--cann-version", "7.0", *words]) == 64
    assert "no stand-in for CANN '7.0'" in capsys.readouterr().err


def test_what_is_not_elf_is_passed_over(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF and no more")
    (tmp_path / "text.so").write_text("INPUT(-lc)")
    (tmp_path / "dangling.so").symlink_to("nowhere")
    with broken.open("rb") as stream:
        assert read(stream, "broken.so", "arm64") is None
    assert scan(tmp_path, "arm64") == []


@pytest.mark.parametrize("arch", ["arm64", "amd64"])
def test_the_command_makes_the_same_loadable_libraries_twice(tmp_path: Path, arch: str) -> None:
    layer, base = _layer(tmp_path, arch), tmp_path / "base"
    base.mkdir()
    digests = []
    for name in ("one", "two"):
        out = tmp_path / name
        words = ["--cann-version", "8.5.1", "--arch", arch, "--layers", str(layer)]
        assert main([*words, "--rootfs", str(base), "--out", str(out)]) == 0
        digests.append(_digest(out))
    assert digests[0] == digests[1]

    root = tmp_path / "one/usr/local"
    native = {"arm64": "aarch64", "amd64": "x86_64"}[arch]
    ascendcl = root / f"Ascend/cann-8.5.1/{native}-linux/lib64/libascendcl.so"
    (file,) = scan(ascendcl.parent, arch)
    assert (file.soname, file.needed) == ("libascendcl.so", ())
    assert {"aclInit", "_ZTIN2ge1AE"} <= file.defined
    (cudart,) = scan(root / "standin/lib", arch)
    assert "libcudart.so.12" in cudart.defined_versions
    if arch == HOST:
        loaded = ctypes.CDLL(str(ascendcl))
        loaded.aclrtGetSocName.restype = ctypes.c_char_p
        assert loaded.aclInit() == 0
        assert loaded.aclrtGetSocName() == b""


def _layer(root: Path, arch: str) -> Path:
    """A layer with one extension module, linked against libraries that are then gone."""
    package = root / "layer/opt/vllm/lib/python3.11/site-packages/torch_npu"
    cuda = "libcudart.so.12"
    libraries = [
        Stub(
            "libascendcl.so",
            Vendor.TOOLKIT,
            (
                Reference("_ZTIN2ge1AE", "object"),
                Reference("aclInit"),
                Reference("aclrtGetSocName"),
            ),
        ),
        Stub(cuda, Vendor.NVIDIA, (Reference("cudaMalloc", "function", cuda, cuda),), (cuda,)),
    ]
    linked = [root / "linked" / stub.soname for stub in libraries]
    sources = [assembly.library(stub, arch) for stub in libraries]
    assembly.compile_all(list(zip(sources, linked, strict=True)), arch)
    word = {"arm64": ".xword", "amd64": ".quad"}[arch]
    names = ("_ZTIN2ge1AE", "aclInit", "aclrtGetSocName", "cudaMalloc")
    text = ".data\n" + "".join(f"{word} {name}\n" for name in names)
    module = assembly.Library("_C.so", text, "")

    def run(command: Sequence[str], variables: dict[str, str]) -> None:
        assembly.run_compiler([*command, *map(str, linked)], variables)

    assembly.compile_all([(module, package / "_C.so")], arch, run)
    return root / "layer"


def _write(out: Path, facts: Cann) -> None:
    tree.write(
        out,
        tree.cann_folders(facts, "arm64"),
        tree.cann_files(facts, "arm64"),
        tree.cann_links(facts, "arm64"),
    )


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(path.relative_to(root).as_posix().encode())
        if path.is_symlink():
            digest.update(os.fsencode(path.readlink()))
        elif path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
