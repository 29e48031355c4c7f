"""The paths and the ENV of a CANN image, and what its set_env.sh scripts change.

Sources: the Dockerfiles of the CANN image repository (cann/8.3.rc2-*, cann/8.5.1-*) for the ENV,
and the environments that users of the finished images printed (vllm-ascend issue #6271 and others)
for the scripts. Where ENV of an image ends with an empty path entry, so does this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ASCEND = "/usr/local/Ascend"
LATEST = f"{ASCEND}/ascend-toolkit/latest"
DRIVER = f"{ASCEND}/driver/lib64"
NNAL = f"{ASCEND}/nnal/atb"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MACHINES: Mapping[str, str] = {"arm64": "aarch64", "amd64": "x86_64"}


class UnknownCannVersion(ValueError):
    """Raised for a CANN version or an architecture that has no stand-in."""


@dataclass(frozen=True)
class Cann:
    """The differences between versions of the CANN image."""

    version: str
    """As spelled by the files of the image."""
    home: str
    """The directory of the toolkit, which ``ascend-toolkit/latest`` links to."""
    python: str
    default_abi: int
    """The C++ ABI of ENV, and of nnal's script when torch is not installed."""

    @property
    def python_home(self) -> str:
        """The directory of the image's interpreter."""
        return f"/usr/local/python{self.python}"

    @property
    def unified_home(self) -> bool:
        """Whether the toolkit is outside ascend-toolkit/ (since 8.5)."""
        return not self.home.startswith(f"{ASCEND}/ascend-toolkit/")

    @property
    def toolkit_home(self) -> str:
        """The value of ASCEND_TOOLKIT_HOME."""
        return self.home if self.unified_home else LATEST


VERSIONS: Mapping[str, Cann] = {
    "8.3.rc2": Cann("8.3.RC2", f"{ASCEND}/ascend-toolkit/8.3.RC2", "3.11.13", 0),
    "8.5.0": Cann("8.5.0", f"{ASCEND}/cann-8.5.0", "3.11.14", 1),
    "8.5.1": Cann("8.5.1", f"{ASCEND}/cann-8.5.1", "3.11.14", 1),
    # Assumed to be as 8.5. Its image has Python 3.12, a stand-in has Debian's.
    "9.1.0": Cann("9.1.0", f"{ASCEND}/cann-9.1.0", "3.11.14", 1),
}

_ATB_FLAGS: Mapping[str, str] = {
    "ATB_STREAM_SYNC_EVERY_KERNEL_ENABLE": "0",
    "ATB_STREAM_SYNC_EVERY_RUNNER_ENABLE": "0",
    "ATB_STREAM_SYNC_EVERY_OPERATION_ENABLE": "0",
    "ATB_OPSRUNNER_SETUP_CACHE_ENABLE": "1",
    "ATB_OPSRUNNER_KERNEL_CACHE_LOCAL_COUNT": "1",
    "ATB_OPSRUNNER_KERNEL_CACHE_GLOABL_COUNT": "5",
    "ATB_WORKSPACE_MEM_ALLOC_ALG_TYPE": "1",
    "ATB_WORKSPACE_MEM_ALLOC_GLOBAL": "1",
    "ATB_COMPARE_TILING_EVERY_KERNEL": "0",
    "ATB_HOST_TILING_BUFFER_BLOCK_NUM": "128",
    "ATB_DEVICE_TILING_BUFFER_BLOCK_NUM": "32",
    "ATB_SHARE_MEMORY_NAME_SUFFIX": "",
    "ATB_MATMUL_SHUFFLE_K_ENABLE": "1",
    "LCCL_DETERMINISTIC": "0",
    "LCCL_PARALLEL": "0",
}
_DROPPED_IN_8_5 = frozenset(
    {
        "ATB_OPSRUNNER_SETUP_CACHE_ENABLE",
        "ATB_WORKSPACE_MEM_ALLOC_GLOBAL",
        "ATB_HOST_TILING_BUFFER_BLOCK_NUM",
        "ATB_DEVICE_TILING_BUFFER_BLOCK_NUM",
    }
)


def cann(version: str) -> Cann:
    """The facts of a CANN version, which is spelled as in the tag of the image."""
    try:
        return VERSIONS[version.lower()]
    except KeyError:
        known = ", ".join(VERSIONS)
        raise UnknownCannVersion(f"no stand-in for CANN {version!r} (known: {known})") from None


def machine(arch: str) -> str:
    """The machine name of an architecture: aarch64 for arm64."""
    try:
        return MACHINES[arch]
    except KeyError:
        known = ", ".join(MACHINES)
        raise UnknownCannVersion(
            f"no stand-in for architecture {arch!r} (known: {known})"
        ) from None


def atb_flags(facts: Cann) -> dict[str, str]:
    """The tuning variables of nnal, in the order of its script."""
    dropped = _DROPPED_IN_8_5 if facts.unified_home else frozenset()
    return {name: value for name, value in _ATB_FLAGS.items() if name not in dropped}


def static_environment(cann_version: str, arch: str) -> dict[str, str]:
    """The complete ENV of a CANN image's configuration; PATH ends with the system's."""
    machine(arch)
    facts = cann(cann_version)
    home = facts.toolkit_home
    atb = f"{NNAL}/latest/atb/cxx_abi_{facts.default_abi}"
    libraries = [*_atb_libraries(atb), *_aml(LATEST), *_libraries(LATEST, "")]
    modules = _modules(LATEST)
    programs = [f"{atb}/bin", *_compilers(LATEST)]
    if facts.unified_home:
        libraries += [*_aml(home), *_libraries(home, ""), DRIVER]
        modules += _modules(home)
        programs += [f"{home}/{tool}" for tool in _TOOLS_8_5]
    libraries += [f"{DRIVER}/common/", f"{DRIVER}/driver/"]
    if facts.unified_home:
        libraries.append(f"{facts.python_home}/lib")
    environment = {
        "PATH": ":".join([*programs, f"{facts.python_home}/bin", SYSTEM_PATH]),
        "LD_LIBRARY_PATH": ":".join([*libraries, ""]),
        "PYTHONPATH": ":".join([*modules, ""]),
        "ASCEND_TOOLKIT_HOME": home,
        "ASCEND_AICPU_PATH": home,
        "ASCEND_OPP_PATH": f"{home}/opp",
        "TOOLCHAIN_HOME": f"{home}/toolkit",
        "ASCEND_HOME_PATH": home,
    }
    if facts.unified_home:
        environment["ASCEND_TOOLKIT_LATEST_HOME"] = LATEST
        environment["CMAKE_PREFIX_PATH"] = _cmake(home)
    return environment | {"ATB_HOME_PATH": atb} | atb_flags(facts)


def toolkit_script(facts: Cann, arch: str) -> str:
    """The text of ascend-toolkit/set_env.sh."""
    home = facts.toolkit_home
    libraries = _libraries(home, f"/lib/linux/{machine(arch)}")
    aml = _aml(home)
    if facts.unified_home:
        paths = [*libraries, *aml, DRIVER, f"{DRIVER}/common", f"{DRIVER}/driver"]
        programs = [f"{home}/{tool}" for tool in _TOOLS_8_5]
    else:
        paths = [*aml, *libraries]
        programs = _compilers(home)
    lines = [
        _prepend("LD_LIBRARY_PATH", paths),
        _prepend("PYTHONPATH", _modules(home)),
        _prepend("PATH", programs),
        *(f"export {name}={home}{suffix}" for name, suffix in _HOMES),
    ]
    if facts.unified_home:
        lines.append(_prepend("CMAKE_PREFIX_PATH", _cmake(home).split(":")))
    return _script("the toolkit", facts, lines)


def nnal_script(facts: Cann) -> str:
    """The text of nnal/atb/set_env.sh, which asks the installed torch for the C++ ABI."""
    lines = [
        'case "${1:-}" in',
        "--cxx_abi=0 | --cxx_abi=1) standin_abi=${1#--cxx_abi=} ;;",
        "*)",
        f"    standin_abi=$(python3 -c '{_ASK_TORCH}' 2>/dev/null) ||",
        f"        standin_abi={facts.default_abi}",
        "    ;;",
        "esac",
        f'export ATB_HOME_PATH="{NNAL}/latest/atb/cxx_abi_$standin_abi"',
        "unset standin_abi",
        _prepend("LD_LIBRARY_PATH", _atb_libraries("$ATB_HOME_PATH")),
        _prepend("PATH", ["$ATB_HOME_PATH/bin"]),
        *(f"export {name}={value}" for name, value in atb_flags(facts).items()),
    ]
    return _script("nnal", facts, lines)


def compiler_script(facts: Cann) -> str:
    """The text of the NPU compiler's script in 8.5; what it changes is unknown."""
    return _script("the NPU compiler", facts, [":"])


_ASK_TORCH = "import torch; print(int(torch.compiled_with_cxx11_abi()))"
_HOMES = (
    ("ASCEND_TOOLKIT_HOME", ""),
    ("ASCEND_AICPU_PATH", ""),
    ("ASCEND_OPP_PATH", "/opp"),
    ("TOOLCHAIN_HOME", "/toolkit"),
    ("ASCEND_HOME_PATH", ""),
)
_TOOLS_8_5 = (
    "tools/show_kernel_debug_data",
    "tools/msobjdump",
    "bin",
    "tools/ccec_compiler/bin",
    "tools/profiler/bin",
    "tools/ascend_system_advisor/asys",
)


def _script(subject: str, facts: Cann, lines: list[str]) -> str:
    head = f"# Stand-in for what CANN {facts.version} sets for {subject}."
    return "\n".join([head, *lines]) + "\n"


def _prepend(name: str, paths: list[str]) -> str:
    return f'export {name}="{":".join(paths)}${{{name}:+:${name}}}"'


def _atb_libraries(atb: str) -> list[str]:
    return [f"{atb}/lib", f"{atb}/examples", f"{atb}/tests/atbopstest"]


def _aml(home: str) -> list[str]:
    return [f"{home}/tools/aml/lib64", f"{home}/tools/aml/lib64/plugin"]


def _libraries(home: str, tiling: str) -> list[str]:
    lib = f"{home}/lib64"
    operators = f"{home}/opp/built-in/op_impl/ai_core/tbe/op_tiling{tiling}"
    return [lib, f"{lib}/plugin/opskernel", f"{lib}/plugin/nnengine", operators]


def _modules(home: str) -> list[str]:
    return [f"{home}/python/site-packages", f"{home}/opp/built-in/op_impl/ai_core/tbe"]


def _compilers(home: str) -> list[str]:
    return [
        f"{home}/bin",
        f"{home}/compiler/ccec_compiler/bin",
        f"{home}/tools/ccec_compiler/bin",
    ]


def _cmake(home: str) -> str:
    return f"{home}/toolkit/tools/tikicpulib/lib/cmake:{home}/lib64/cmake"
