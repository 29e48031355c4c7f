"""The files of the stand-in's layer: CANN's tree, links to the interpreter, paths of the stubs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .environment import (
    ASCEND,
    LATEST,
    NNAL,
    Cann,
    compiler_script,
    machine,
    nnal_script,
    toolkit_script,
)
from .stubs import Plan, Stub, Vendor

STANDIN = "/usr/local/standin"
NVIDIA_LIBRARIES = f"{STANDIN}/lib"
REPORT = f"{STANDIN}/report.json"
MARK = "stand-in"

_TOOLKIT_FOLDERS = (
    "bin",
    "compiler/ccec_compiler/bin",
    "opp/built-in/op_impl/ai_core/tbe/op_tiling/lib/linux/{machine}",
    "opp/vendors",
    "python/site-packages",
    "runtime",
    "toolkit/tools/tikicpulib/lib/cmake",
    "tools/aml/lib64/plugin",
    "tools/ccec_compiler/bin",
    "{machine}-linux/devlib",
    "{machine}-linux/lib64/plugin/nnengine",
    "{machine}-linux/lib64/plugin/opskernel",
)
_ATB_FOLDERS = ("bin", "examples", "lib", "tests/atbopstest")


def library_paths(stub: Stub, facts: Cann, arch: str) -> list[str]:
    """The paths of a stub in the image; nnal has one for each C++ ABI."""
    native = f"{facts.home}/{machine(arch)}-linux"
    if stub.vendor is Vendor.ATB:
        root = f"{NNAL}/{facts.version}/atb"
        return [f"{root}/cxx_abi_{abi}/lib/{stub.soname}" for abi in (0, 1)]
    folder = {
        Vendor.TOOLKIT: f"{native}/lib64",
        Vendor.DRIVER: f"{native}/devlib",
        Vendor.NVIDIA: NVIDIA_LIBRARIES,
    }[stub.vendor]
    return [f"{folder}/{stub.soname}"]


def loader_links(stub: Stub, arch: str) -> dict[str, str]:
    """A link in the loader's default directory, for a stub outside CANN's search paths."""
    if stub.vendor is not Vendor.NVIDIA:
        return {}
    path = f"/usr/lib/{machine(arch)}-linux-gnu/{stub.soname}"
    return {path: f"{NVIDIA_LIBRARIES}/{stub.soname}"}


def cann_links(facts: Cann, arch: str) -> dict[str, str]:
    """The symbolic links of CANN's tree, path to target."""
    links = {
        f"{facts.home}/lib64": f"{machine(arch)}-linux/lib64",
        f"{NNAL}/latest": facts.version,
    }
    if facts.unified_home:
        links[LATEST] = f"../{facts.home.rpartition('/')[2]}"
    else:
        links[LATEST] = facts.version
    return links


def cann_files(facts: Cann, arch: str) -> dict[str, str]:
    """The text files of CANN's tree, path to content."""
    info = (
        f"package_name=Ascend-cann-toolkit\nversion={facts.version}\ninnerversion={MARK}\n"
        f"arch={machine(arch)}\nos=linux\npath={facts.home}\n"
    )
    files = {
        f"{ASCEND}/ascend-toolkit/set_env.sh": toolkit_script(facts, arch),
        f"{NNAL}/set_env.sh": nnal_script(facts),
        f"{facts.home}/{machine(arch)}-linux/ascend_toolkit_install.info": info,
        f"{facts.home}/opp/version.info": f"Version={facts.version}\n# {MARK}\n",
        f"{facts.home}/compiler/version.info": f"Version={facts.version}\n# {MARK}\n",
        f"{facts.home}/runtime/version.info": f"Version={facts.version}\n# {MARK}\n",
        f"{NNAL}/{facts.version}/version.info": f"Ascend-cann-atb : {facts.version} {MARK}\n",
        "/etc/Ascend/ascend_cann_install.info": f"# {MARK}\nversion={facts.version}\n",
    }
    if facts.unified_home:
        files[f"{facts.home}/set_env.sh"] = toolkit_script(facts, arch)
        script = f"{facts.home}/share/info/ascendnpu-ir/bin/set_env.sh"
        files[script] = compiler_script(facts)
    return files


def cann_folders(facts: Cann, arch: str) -> list[str]:
    """Directories of CANN's tree, including empty ones."""
    root = f"{NNAL}/{facts.version}/atb"
    toolkit = [f"{facts.home}/{name.format(machine=machine(arch))}" for name in _TOOLKIT_FOLDERS]
    atb = [f"{root}/cxx_abi_{abi}/{name}" for abi in (0, 1) for name in _ATB_FOLDERS]
    return toolkit + atb


def python_links(facts: Cann, rootfs: Path) -> dict[str, str]:
    """Links to the base's Python in the directory of a CANN image's, which is first in PATH."""
    minor = facts.python.rpartition(".")[0]
    folder = f"{facts.python_home}/bin"
    links = {
        f"{folder}/python{minor}": f"/usr/bin/python{minor}",
        f"{folder}/python3": f"python{minor}",
        f"{folder}/python": "python3",
    }
    if (rootfs / "usr/bin/pip3").exists():
        links |= {f"{folder}/pip3": "/usr/bin/pip3", f"{folder}/pip": "pip3"}
    return links


def base_files(rootfs: Path) -> dict[str, str]:
    """Accounts of a base that was unpacked for another architecture, without maintainer scripts.

    torch does not import when the user has no name.
    """
    accounts = {}
    for name in ("passwd", "group"):
        master = rootfs / f"usr/share/base-passwd/{name}.master"
        if master.exists() and not (rootfs / "etc" / name).exists():
            accounts[f"/etc/{name}"] = master.read_text()
    return accounts


def report(plan: Plan, facts: Cann, arch: str) -> str:
    """A JSON report of the stubs, and of what is missing."""
    content = {
        "cann": facts.version,
        "arch": arch,
        "stubs": {
            stub.soname: {
                "paths": library_paths(stub, facts, arch),
                "symbols": len(stub.symbols),
                "versions": list(stub.versions),
            }
            for stub in plan.stubs
        },
        "missing": plan.missing,
        "unmet_versions": plan.unmet_versions,
        "unresolved": plan.unresolved,
    }
    return json.dumps(content, indent=2) + "\n"


def write(
    out: Path,
    folders: list[str] | tuple[str, ...] = (),
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> None:
    """Write a part of the tree; paths are absolute, as in the image."""
    for folder in folders:
        inside(out, folder).mkdir(parents=True, exist_ok=True)
    for path, text in (files or {}).items():
        target = inside(out, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for path, destination in (links or {}).items():
        link = inside(out, path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(destination)


def inside(out: Path, path: str) -> Path:
    """The path in the tree of a path in the image."""
    return out / path.removeprefix("/")
