"""Parse upstream's Dockerfiles: base image, arguments, and what the commands install."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from upstream.sources import Tree

# Dockerfile, Dockerfile.a3, Dockerfile.310p.openEuler: the platform (a2 has no suffix), the OS.
NAME = re.compile(r"Dockerfile(?:\.(?!openEuler$)(?P<platform>[^.]+))?(?P<openeuler>\.openEuler)?")
FIRST_PLATFORM = "a2"
PACKAGERS = {"apt": "apt", "apt-get": "apt", "yum": "dnf", "dnf": "dnf"}
OPTIONS_WITH_VALUE = {"--index-url", "-i", "--extra-index-url", "--extra-index", "-r", "-c", "-f"}
REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Command:
    """A command of a RUN instruction. `line`: its first line, from 1."""

    line: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Dockerfile:
    tree: Tree
    path: str

    @property
    def platform(self) -> str:
        match = NAME.fullmatch(self.path)
        return (match and match["platform"]) or FIRST_PLATFORM

    @property
    def packager(self) -> str:
        return "dnf" if self.path.endswith(".openEuler") else "apt"

    def cite(self, line: int) -> str:
        return self.tree.cite(self.path, line)

    @cached_property
    def lines(self) -> list[str]:
        return self.tree.text(self.path).splitlines()

    @cached_property
    def arguments(self) -> dict[str, tuple[str, int]]:
        """ARG name → (default, line); the first definition counts."""
        found: dict[str, tuple[str, int]] = {}
        for number, line in enumerate(self.lines, 1):
            match = re.fullmatch(r"ARG (\w+)=(.*?)\s*", line)
            if match:
                found.setdefault(match[1], (match[2].strip("\"'"), number))
        return found

    @property
    def base(self) -> tuple[str, int] | None:
        """The image of the last FROM with its arguments expanded, and its line."""
        found = None
        for number, line in enumerate(self.lines, 1):
            if line.startswith("FROM "):
                found = self.expand(line.split()[1]), number
        return found

    def expand(self, text: str) -> str:
        """Replace arguments with their defaults; other variables stay."""

        def default(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            return self.arguments[name][0] if name in self.arguments else match[0]

        return REFERENCE.sub(default, text)

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        return tuple(self._commands())

    def _commands(self) -> Iterator[Command]:
        in_run = False
        first_line, text = 0, ""
        for number, line in enumerate(self.lines, 1):
            if not in_run and not line.startswith("RUN "):
                continue
            body = line.removeprefix("RUN ") if not in_run else line
            if body.lstrip().startswith("#"):  # a comment between continued lines
                continue
            in_run = body.rstrip().endswith("\\")
            text += body.rstrip().removesuffix("\\") + " "
            first_line = first_line or number
            # A command ends at an operator, or with the instruction.
            if not in_run or re.search(r"(&&|;|\|\|)\s*$", text):
                for part in re.split(r"&&|;|\|\|", text):
                    words = _words(self.expand(part))
                    if words:
                        yield Command(first_line, words)
                first_line, text = 0, ""

    def installed(self, packager: str) -> Iterator[tuple[str, int]]:
        """(OS package, line) of every installation, in order."""
        for command in self.commands:
            first, *rest = command.words
            if PACKAGERS.get(first) == packager and "install" in rest:
                rest.remove("install")
                yield from ((word, command.line) for word in rest if not word.startswith("-"))

    def required(self) -> Iterator[tuple[str, int]]:
        """(requirement or URL, line) of every pip installation, in order."""
        for command in self.commands:
            words = list(command.words)
            if "pip" not in words or "install" not in words[words.index("pip") :]:
                continue
            if "-e" in words or "--editable" in words:  # vllm-ascend itself, or its vLLM
                continue
            rest = words[words.index("install") + 1 :]
            skip = False
            for word in rest:
                if not skip and not word.startswith("-"):
                    yield word, command.line
                skip = word in OPTIONS_WITH_VALUE

    def downloads(self) -> Iterator[tuple[str, int]]:
        """(URL, line) of every download with wget or curl."""
        variables: dict[str, str] = {}
        for command in self.commands:
            for word in command.words:
                match = re.fullmatch(r"(\w+)=(\S+)", word)
                if match:
                    variables[match[1]] = match[2]
            if {"wget", "curl"} & {command.words[0]}:
                for word in command.words[1:]:
                    named = REFERENCE.fullmatch(word)
                    value = variables.get(named[1] or named[2], word) if named else word
                    if "://" in value:
                        yield value, command.line


def dockerfiles(tree: Tree) -> tuple[Dockerfile, ...]:
    """The Dockerfiles of a release; those of the first platform come first."""
    found = [Dockerfile(tree, path) for path in tree.files if NAME.fullmatch(path)]
    return tuple(sorted(found, key=lambda one: (one.platform != FIRST_PLATFORM, one.path)))


def _words(text: str) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError:  # an operator inside quotes
        words = text.split()
    while words and (words[0] in {"if", "then", "else", "elif", "fi", "do", "{", "}", "("}):
        words.pop(0)
    return tuple(words)
