"""What a Dockerfile of upstream says: its base, its arguments, and what its commands install."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from upstream.sources import Tree

# Dockerfile, Dockerfile.a3, Dockerfile.310p.openEuler: the platform (a2 has no part), the OS.
NAME = re.compile(r"Dockerfile(?:\.(?!openEuler$)(?P<platform>[^.]+))?(?P<openeuler>\.openEuler)?")
FIRST_PLATFORM = "a2"
PACKAGERS = {"apt": "apt", "apt-get": "apt", "yum": "dnf", "dnf": "dnf"}
OPTIONS_WITH_VALUE = {"--index-url", "-i", "--extra-index-url", "--extra-index", "-r", "-c", "-f"}
REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Command:
    """A command of a RUN instruction. `line`: where it starts, from 1."""

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
        """ARG name -> (default, line); the first of a name holds."""
        found: dict[str, tuple[str, int]] = {}
        for number, line in enumerate(self.lines, 1):
            match = re.fullmatch(r"ARG (\w+)=(.*?)\s*", line)
            if match:
                found.setdefault(match[1], (match[2].strip("\"'"), number))
        return found

    @property
    def base(self) -> tuple[str, int] | None:
        """The image of the last FROM with its arguments filled in, and its line."""
        found = None
        for number, line in enumerate(self.lines, 1):
            if line.startswith("FROM "):
                found = self.filled(line.split()[1]), number
        return found

    def filled(self, text: str) -> str:
        """A text in which arguments stand for their defaults; other variables stay."""

        def default(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            return self.arguments[name][0] if name in self.arguments else match[0]

        return REFERENCE.sub(default, text)

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        return tuple(self._commands())

    def _commands(self) -> Iterator[Command]:
        inside = False
        open_at, text = 0, ""
        for number, line in enumerate(self.lines, 1):
            if not inside and not line.startswith("RUN "):
                continue
            body = line.removeprefix("RUN ") if not inside else line
            if body.lstrip().startswith("#"):  # a comment between continued lines
                continue
            inside = body.rstrip().endswith("\\")
            text += body.rstrip().removesuffix("\\") + " "
            open_at = open_at or number
            # A command ends at an operator, or where the instruction does.
            if not inside or re.search(r"(&&|;|\|\|)\s*$", text):
                for part in re.split(r"&&|;|\|\|", text):
                    words = _words(self.filled(part))
                    if words:
                        yield Command(open_at, words)
                open_at, text = 0, ""

    def installed(self, packager: str) -> Iterator[tuple[str, int]]:
        """(package of the OS, line), in order."""
        for command in self.commands:
            first, *rest = command.words
            if PACKAGERS.get(first) == packager and "install" in rest:
                rest.remove("install")
                yield from ((word, command.line) for word in rest if not word.startswith("-"))

    def required(self) -> Iterator[tuple[str, int]]:
        """(requirement or address that pip installs, line), in order."""
        for command in self.commands:
            words = list(command.words)
            if "pip" not in words or "install" not in words[words.index("pip") :]:
                continue
            if "-e" in words or "--editable" in words:  # the release itself, or its vLLM
                continue
            rest = words[words.index("install") + 1 :]
            skip = False
            for word in rest:
                if not skip and not word.startswith("-"):
                    yield word, command.line
                skip = word in OPTIONS_WITH_VALUE

    def downloads(self) -> Iterator[tuple[str, int]]:
        """(address that wget or curl fetches, line)."""
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
    """Those of the release's images, the first platform's first."""
    found = [Dockerfile(tree, path) for path in tree.files if NAME.fullmatch(path)]
    return tuple(sorted(found, key=lambda one: (one.platform != FIRST_PLATFORM, one.path)))


def _words(text: str) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that a split at an operator cut through
        words = text.split()
    while words and (words[0] in {"if", "then", "else", "elif", "fi", "do", "{", "}", "("}):
        words.pop(0)
    return tuple(words)
