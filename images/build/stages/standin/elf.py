"""What ELF files need and define: sonames, symbols and symbol versions."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"\x7fELF"
ELF_MACHINES = {"arm64": "EM_AARCH64", "amd64": "EM_X86_64"}

_STB_WEAK = 2
_SHN_UNDEF = 0
_VERSION_MASK = 0x7FFF
_KINDS = {1: "object", 6: "tls"}
_CXX_DATA = ("_ZTV", "_ZTI", "_ZTS", "_ZTT", "_ZGV")


@dataclass(frozen=True, order=True)
class Reference:
    """An undefined symbol of a file that is not weak."""

    name: str
    kind: str = "function"
    soname: str = ""
    """The library that must define it, where the reference has a version."""
    version: str = ""


@dataclass(frozen=True)
class ElfFile:
    """A dynamic ELF file: what it needs and what it defines."""

    path: str
    soname: str
    needed: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    wanted_versions: frozenset[tuple[str, str]] = frozenset()
    """Pairs of soname and version that the loader requires."""
    defined: frozenset[str] = frozenset()
    defined_versions: frozenset[str] = frozenset()


def scan(root: Path, arch: str) -> list[ElfFile]:
    """Every dynamic ELF file of the architecture under a directory, sorted by path."""
    return list(_read_all(root, _walk(root), arch))


def scan_base(rootfs: Path, arch: str) -> list[ElfFile]:
    """The libraries of a root file system in the loader's directories, and its Python."""
    triplet = f"{'aarch64' if arch == 'arm64' else 'x86_64'}-linux-gnu"
    folders = [f"{top}/{name}" for top in ("lib", "usr/lib") for name in ("", triplet)]
    folders += ["lib64", "usr/lib64", "usr/local/lib"]
    found: dict[Path, None] = {}
    for folder in folders:
        found |= dict.fromkeys(sorted((rootfs / folder).glob("*.so*")))
    found |= dict.fromkeys(sorted((rootfs / "usr/bin").glob("python3.*")))
    seen: set[Path] = set()
    paths: list[Path] = []
    for path in found:
        real = path.resolve()
        if path.is_file() and real not in seen and real.is_relative_to(rootfs.resolve()):
            seen.add(real)
            paths.append(path)
    names = {path.name for path in found}
    files = list(_read_all(rootfs, paths, arch))
    loaded = {file.soname for file in files}
    # A link such as libgomp.so.1.0.0 answers to its own name as well as to the SONAME inside.
    return files + [ElfFile(name, name) for name in sorted(names - loaded)]


def read(stream: BinaryIO, path: str, arch: str) -> ElfFile | None:
    """Read an ELF file; None for another architecture, or one that is not dynamic."""
    # Imported here so that the builder can render the environment without it.
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(stream)
    except ELFError:
        return None
    if elf["e_machine"] != ELF_MACHINES[arch] or elf["e_type"] not in ("ET_DYN", "ET_EXEC"):
        return None
    sections: dict[str, Any] = {one["sh_type"]: one for one in elf.iter_sections()}
    dynamic = sections.get("SHT_DYNAMIC")
    symbols = sections.get("SHT_DYNSYM")
    if dynamic is None or symbols is None:
        return None
    needed, soname = [], Path(path).name
    for tag in dynamic.iter_tags():
        if tag.entry.d_tag == "DT_NEEDED":
            needed.append(tag.needed)
        elif tag.entry.d_tag == "DT_SONAME":
            soname = tag.soname
    wanted, versions = _wanted_versions(sections.get("SHT_GNU_verneed"))
    references, defined = _symbols(symbols, sections.get("SHT_GNU_versym"), versions)
    return ElfFile(
        path=path,
        soname=soname,
        needed=tuple(needed),
        references=references,
        wanted_versions=wanted,
        defined=defined,
        defined_versions=_defined_versions(sections.get("SHT_GNU_verdef")),
    )


def _walk(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _read_all(root: Path, paths: Iterable[Path], arch: str) -> Iterator[ElfFile]:
    for path in paths:
        if path.is_symlink() and not path.exists():
            continue
        with path.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                continue
            file = read(stream, path.relative_to(root).as_posix(), arch)
        if file is not None:
            yield file


def _wanted_versions(
    section: Any,
) -> tuple[frozenset[tuple[str, str]], dict[int, tuple[str, str]]]:
    wanted: set[tuple[str, str]] = set()
    by_index: dict[int, tuple[str, str]] = {}
    if section is not None:
        for library, versions in section.iter_versions():
            for version in versions:
                pair = (library.name, version.name)
                by_index[version["vna_other"] & _VERSION_MASK] = pair
                if not version["vna_flags"] & 2:
                    wanted.add(pair)
    return frozenset(wanted), by_index


def _defined_versions(section: Any) -> frozenset[str]:
    if section is None:
        return frozenset()
    return frozenset(next(names).name for _, names in section.iter_versions())


def _symbols(
    section: Any, versym: Any, versions: dict[int, tuple[str, str]]
) -> tuple[tuple[Reference, ...], frozenset[str]]:
    """The undefined and the defined names, read in bulk: libtorch has 10^5."""
    table: bytes = section.data()
    strings: bytes = section.stringtable.data()
    indices: bytes = versym.data() if versym is not None else b""
    references: set[Reference] = set()
    defined: set[str] = set()
    for number, (offset, info, _, index, _, _) in enumerate(struct.iter_unpack("<IBBHQQ", table)):
        binding = info >> 4
        if offset == 0 or binding == 0:
            continue
        name = strings[offset : strings.index(b"\0", offset)].decode()
        if index != _SHN_UNDEF:
            defined.add(name)
        elif binding != _STB_WEAK:
            key = 0
            if indices:
                key = struct.unpack_from("<H", indices, 2 * number)[0] & _VERSION_MASK
            soname, version = versions.get(key, ("", ""))
            references.add(Reference(name, _kind(name, info & 15), soname, version))
    return tuple(sorted(references)), frozenset(defined)


def _kind(name: str, symbol_type: int) -> str:
    if name.startswith(_CXX_DATA):
        return "object"
    return _KINDS.get(symbol_type, "function")
