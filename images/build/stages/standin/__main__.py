"""Command line: make the layer, or print its ENV."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import tree
from .environment import UnknownCannVersion, cann, static_environment


def main(arguments: list[str] | None = None) -> int:
    """Run a command; errors are one line each, with a sysexits code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] == ["env"]:
            return _environment(words[1:])
        return _layer(words)
    except UnknownCannVersion as error:
        print(f"stand-in: {error}", file=sys.stderr)
        return 64


def _environment(words: list[str]) -> int:
    parser = _parser("standin env", "Print the ENV of a CANN image as JSON.")
    options = parser.parse_args(words)
    print(json.dumps(static_environment(options.cann_version, options.arch), indent=2))
    return 0


def _layer(words: list[str]) -> int:
    parser = _parser("standin", "Write the tree of a layer that replaces CANN.")
    parser.add_argument("--layers", type=Path, nargs="+", required=True, help="Python layers")
    parser.add_argument("--rootfs", type=Path, required=True, help="the base below the layer")
    parser.add_argument("--out", type=Path, required=True, help="directory of the tree")
    options = parser.parse_args(words)
    facts, arch = cann(options.cann_version), options.arch
    absent = [str(path) for path in (*options.layers, options.rootfs) if not path.is_dir()]
    for path in absent:
        print(f"stand-in: {path} is not a directory", file=sys.stderr)
    if absent:
        return 64

    from .assembly import CompilerError, compile_all, library
    from .elf import scan, scan_base
    from .stubs import opened_by_name, plan_stubs, remedy

    layers = [file for root in options.layers for file in scan(root, arch)]
    opened: set[str] = set()
    for root in options.layers:
        for path in sorted(root.glob("**/site-packages/torch_npu/**/*.so")):
            opened |= opened_by_name(path.read_bytes())
    plan = plan_stubs(layers, scan_base(options.rootfs, arch), opened)

    out = options.out
    links = tree.cann_links(facts, arch) | tree.python_links(facts, options.rootfs)
    targets = []
    for stub in plan.stubs:
        sources = library(stub, arch)
        paths = tree.library_paths(stub, facts, arch)
        targets += [(sources, tree.inside(out, path)) for path in paths]
        links |= tree.loader_links(stub, arch)
    files = tree.cann_files(facts, arch) | tree.base_files(options.rootfs)
    files[tree.REPORT] = tree.report(plan, facts, arch)
    tree.write(out, tree.cann_folders(facts, arch), files, links)
    try:
        compile_all(targets, arch)
    except CompilerError as error:
        print(f"stand-in: {error}", file=sys.stderr)
        return 70
    for soname, users in plan.missing.items():
        if todo := remedy(soname):
            print(f"stand-in: no {soname} for {', '.join(users)}: {todo}", file=sys.stderr)
    for path, names in plan.unresolved.items():
        print(f"stand-in: nothing defines {', '.join(names)} for {path}", file=sys.stderr)
    for problem in plan.unmet_versions:
        print(f"stand-in: the base lacks {problem}", file=sys.stderr)
    return 0


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--cann-version", required=True, help="as in the image's tag: 8.3.rc2")
    parser.add_argument("--arch", required=True, choices=("arm64", "amd64"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
