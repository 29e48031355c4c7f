"""Stub libraries as assembly, linked by a cross compiler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import machine
from .stubs import Stub

GLIBC = "2.28"
DATA_BYTES = 256
"""Size of a data symbol: larger than any type information or virtual table that is linked."""

NO_DEVICE = 100
"""cudaErrorNoDevice, and CUDA_ERROR_NO_DEVICE of the driver."""

# These do not set their output parameter, so on success callers would read garbage.
_FAILING = frozenset({"cuInit", "cuDeviceGetCount", "cudaGetDevice", "cudaGetDeviceCount"})
# A null pointer from these crashes vllm-ascend's kernels, which make a string of it when they load.
_TEXT = frozenset(
    {
        "aclGetRecentErrMsg",
        "aclrtGetSocName",
        "cudaGetErrorName",
        "cudaGetErrorString",
        "ncclGetErrorString",
    }
)
_RETURN_NUMBER = {
    "arm64": ("mov x0, #{value}", "ret"),
    "amd64": ("movl ${value}, %eax", "ret"),
}
_RETURN_ADDRESS = {
    "arm64": ("adrp x0, {label}", "add x0, x0, :lo12:{label}", "ret"),
    "amd64": ("leaq {label}(%rip), %rax", "ret"),
}
_EMPTY, _PLACE = ".Lempty", ".Lplace"
_CLASS = "_ZTVN10__cxxabiv117__class_type_infoE"  # what a type information without bases points to
_PLAIN = re.compile(r"[A-Za-z_.][A-Za-z0-9_.]*")


class CompilerError(RuntimeError):
    """Raised when the cross compiler rejects a stub."""


@dataclass(frozen=True)
class Library:
    """The sources of one stub library."""

    soname: str
    assembly: str
    version_script: str


Run = Callable[[Sequence[str], dict[str, str]], None]


def library(stub: Stub, arch: str) -> Library:
    """The sources of a stub for one architecture."""
    return Library(stub.soname, assembly(stub, arch), version_script(stub))


def assembly(stub: Stub, arch: str) -> str:
    """For each symbol a function that returns 0 (or an empty string), or zeroed data.

    A "place" is a function that returns memory for its caller to write to; a "type" is type
    information with a name.
    """
    kinds = ("function", "place", "object", "type", "tls")
    blocks: dict[str, list[str]] = {kind: [] for kind in kinds}
    seen: set[str] = set()
    for number, symbol in enumerate(stub.symbols):
        label = symbol.name
        if label in seen:
            label = f"standin_{number}"
            blocks[symbol.kind].append(f".symver {label}, {_quoted(symbol.name)}@{symbol.version}")
        seen.add(symbol.name)
        blocks[symbol.kind] += _define(_quoted(label), symbol.kind, symbol.name, arch)
    lines = [".text", ".p2align 2", *blocks["function"], *blocks["place"]]
    if any(symbol.name in _TEXT for symbol in stub.symbols):
        lines += [".section .rodata", f"{_EMPTY}:", '.asciz ""']
    if blocks["object"]:
        lines += [".bss", ".p2align 4", *blocks["object"]]
    if blocks["place"]:
        lines += [".bss", ".p2align 4", f"{_PLACE}:", f".zero {DATA_BYTES}"]
    if blocks["type"]:
        lines += [f".weak {_CLASS}", ".data", *blocks["type"]]
    if blocks["tls"]:
        lines += ['.section .tbss,"awT",%nobits', ".p2align 4", *blocks["tls"]]
    lines.append('.section .note.GNU-stack,"",%progbits')
    return "\n".join(lines) + "\n"


def version_script(stub: Stub) -> str:
    """The GNU version script of a stub; empty when no symbol has a version."""
    nodes: dict[str, list[str]] = defaultdict(list)
    for version in stub.versions:
        nodes[version] = []
    for symbol in stub.symbols:
        if symbol.version:
            nodes[symbol.version].append(symbol.name)
    if not nodes:
        return ""
    first = min(nodes)
    nodes[first] += [symbol.name for symbol in stub.symbols if not symbol.version]
    return "".join(_node(version, names) for version, names in sorted(nodes.items()))


def compile_all(targets: Sequence[tuple[Library, Path]], arch: str, run: Run | None = None) -> None:
    """Link every library into its file."""
    if run is None:
        run = run_compiler
    with tempfile.TemporaryDirectory() as scratch:
        caches = {name: scratch for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
        for sources, output in targets:
            output.parent.mkdir(parents=True, exist_ok=True)
            text = Path(scratch, "stub.s")
            text.write_text(sources.assembly)
            script = Path(scratch, "stub.map")
            script.write_text(sources.version_script)
            run(_command(sources, arch, text, script, output), caches)
            output.chmod(0o644)


def _command(sources: Library, arch: str, text: Path, script: Path, output: Path) -> list[str]:
    command = [sys.executable, "-m", "ziglang", "cc"]
    command += ["-target", f"{machine(arch)}-linux-gnu.{GLIBC}", "-shared", "-nostdlib"]
    command += [f"-Wl,-soname,{sources.soname}", "-Wl,--build-id=none", "-Wl,-s"]
    if sources.version_script:
        command.append(f"-Wl,--version-script={script}")
    return [*command, "-o", str(output), str(text)]


def run_compiler(command: Sequence[str], variables: dict[str, str]) -> None:
    """Run a command with additional variables. Raises CompilerError with its output."""
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CompilerError(f"{' '.join(command)}\n{done.stderr.strip()}")


def _define(label: str, kind: str, name: str, arch: str) -> list[str]:
    size = f".size {label}, .-{label}"
    if kind == "function":
        value = NO_DEVICE if name in _FAILING else 0
        lines = _RETURN_ADDRESS if name in _TEXT else _RETURN_NUMBER
        body = [line.format(value=value, label=_EMPTY) for line in lines[arch]]
    elif kind == "place":
        body = [line.format(label=_PLACE) for line in _RETURN_ADDRESS[arch]]
    elif kind == "type":
        text = f".Lname_{name}"
        body = [f".quad {_CLASS}+16", f".quad {text}"]
        size += f'\n{text}:\n.asciz "{name.removeprefix("_ZTI")}"\n.p2align 4'
    else:
        body = [f".zero {DATA_BYTES}"]
        size = f".size {label}, {DATA_BYTES}"
    types = {"function": "function", "place": "function", "tls": "tls_object"}
    symbol_type = types.get(kind, "object")
    return [f".globl {label}", f".type {label}, %{symbol_type}", f"{label}:", *body, size]


def _node(version: str, names: list[str]) -> str:
    inside = "".join(f"    {_quoted(name)};\n" for name in sorted(set(names)))
    return f"{version} {{\n  global:\n{inside}}};\n" if names else f"{version} {{\n}};\n"


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else f'"{name}"'
