"""The command blocks of README and docs, and how each is run.

A comment before a block says where it runs: `<!-- run: KIND -->`, with `keep` when later blocks of
the page build on it, and `exit=N` when it is to end so. blocks.yaml has the kinds, and what is put
in place of words that stand for a reader's own, of hosts that do not exist, and of NPUs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
KNOWN: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("blocks.yaml").read_text())
SHIMS = Path(__file__).parent / "shims"
PATH = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"  # a reader has the environment active
KEPT = ("built", "environments", "roots")  # what a build keeps for the next one
_DIRECTIVE = re.compile(r"<!-- run: (?P<kind>[a-z]+)(?P<words>( [a-z]+(=\d+)?)*) -->")
_SHELLS = ("bash", "sh", "shell", "console", "")


@dataclass(frozen=True)
class Block:
    """A command block. `kind` is empty where no comment says it; `text` is what a reader sees."""

    page: str
    line: int
    language: str
    kind: str
    words: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def exit_code(self) -> int:
        return int(dict(word.partition("=")[::2] for word in self.words).get("exit", 0))

    @property
    def kept(self) -> bool:
        """Whether later blocks of the page build on it."""
        return "keep" in self.words

    @property
    def script(self) -> str:
        """The block with everything in place of what stands for something else."""
        return substituted(self.text, self.kind)


@cache
def parsed(path: Path) -> list[Token]:
    return MarkdownIt("gfm-like", {"linkify": False}).parse(path.read_text(encoding="utf-8"))


@cache
def blocks(path: Path) -> tuple[Block, ...]:
    """Every block of commands in a page: of a shell, or of no language, or indented."""
    return tuple(_blocks(path))


def _blocks(path: Path) -> Iterator[Block]:
    page = str(path.relative_to(ROOT))
    before: Token | None = None
    for token in parsed(path):
        if token.type in ("fence", "code_block") and token.info.strip() in _SHELLS:
            told = _DIRECTIVE.search(before.content if before else "")
            assert token.map
            yield Block(
                page,
                token.map[0] + 1,
                token.info.strip(),
                told["kind"] if told else "",
                tuple(told["words"].split()) if told else (),
                token.content,
            )
        before = token if token.type == "html_block" else None


def all_blocks(*kinds: str) -> list[Block]:
    """Every block, or those of some kinds; blocks to build on come with those that do."""
    return [one for path in PAGES for one in blocks(path) if not kinds or one.kind in kinds]


def kept_before(block: Block) -> list[Block]:
    """The blocks of the page that it builds on; of another page those that its words come from."""
    functions = re.findall(r"^(\w+)\(\) \{", "\n".join(one.text for one in all_blocks()), re.M)
    own = [one for one in blocks(ROOT / block.page) if one.kept and one.line < block.line]
    if own or not set(functions) & set(re.findall(r"^\w+", block.text, re.M)):
        return own
    return [one for one in all_blocks() if one.kept]


def substituted(text: str, kind: str) -> str:
    """The text with the words and patterns of blocks.yaml replaced, those for all kinds last."""
    for rule in rules(kind):
        text = re.sub(rule["replace"], rule["by"], text, flags=re.MULTILINE)
    return text


def rules(kind: str) -> list[dict[str, str]]:
    of_kind: list[dict[str, str]] = KNOWN["kinds"][kind].get("substitutions", [])
    every: list[dict[str, str]] = KNOWN["everywhere"]
    return [*of_kind, *every]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `invoke …` in a block."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        for part in re.split(r"&&|\|\||[|;]|<\(", line):
            lexer = shlex.shlex(part, posix=True, punctuation_chars=">")
            lexer.whitespace_split = True
            try:
                words = list(lexer)
            except ValueError:
                continue  # the rest of a text in quotes
            while words and ("=" in words[0] and not words[0].startswith("-")):
                words = words[1:]
            if words and words[0].rpartition("/")[2] == "invoke":
                yield words[1 : words.index(">") if ">" in words else None]


def scratch(directory: Path, fresh: bool = True) -> Path:
    """A copy of the project to run in: links to all that is there, with a `build` of its own.

    `fresh`: without what builds have kept there.
    """
    (directory / "build").mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in (".git", "build"):
            (directory / path.name).symlink_to(path)
    for name in () if fresh else KEPT:
        (ROOT / "build" / name).mkdir(parents=True, exist_ok=True)
        (directory / "build" / name).symlink_to(ROOT / "build" / name)
    return directory


def run(block: Block, directory: Path, environ: Mapping[str, str]) -> None:
    """Run a block in a directory, and hold it to its exit code."""
    before = "\n".join(one.script for one in kept_before(block))
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", f"{before}\n{block.script}"],
        cwd=directory,
        env={**os.environ, "PATH": PATH, "PYTHON": sys.executable, **environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == block.exit_code, (
        f"{block.name} ended with {done.returncode}\n{block.script}\n"
        f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    )
