"""Parse upstream's Dockerfiles: base image, arguments, environment, and what commands install."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from upstream import shell
from upstream.shell import Command
from upstream.sources import Tree

# Dockerfile, Dockerfile.a3, Dockerfile.310p.openEuler: the platform (a2 has no suffix), the OS.
NAME = re.compile(r"Dockerfile(?:\.(?!openEuler$)(?P<platform>[^.]+))?(?P<openeuler>\.openEuler)?")
FIRST_PLATFORM = "a2"
PACKAGERS = {"apt": "apt", "apt-get": "apt", "yum": "dnf", "dnf": "dnf"}
INSTRUCTION = re.compile(r"([A-Za-z]+)\s+(.*)", re.DOTALL)


@dataclass(frozen=True)
class Instruction:
    """`lines`: (number, text) of each of its lines, the first one without the name."""

    name: str
    lines: tuple[tuple[int, str], ...]

    @property
    def line(self) -> int:
        return self.lines[0][0]

    @property
    def text(self) -> str:
        """Its lines joined, without comments."""
        parts = (text.rstrip() for _, text in self.lines if not text.lstrip().startswith("#"))
        return " ".join(part.removesuffix("\\") for part in parts).strip()


@dataclass(frozen=True)
class Variable:
    """A variable of ENV, or of a build command."""

    name: str
    value: str
    line: int


@dataclass(frozen=True)
class Script:
    """A script that a Dockerfile runs. `path`: in the release's tree. `line`: of the Dockerfile.

    `commands` have the values of the Dockerfile's arguments.
    """

    path: str
    line: int
    commands: tuple[Command, ...]


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
    def instructions(self) -> tuple[Instruction, ...]:
        found: list[Instruction] = []
        lines: list[tuple[int, str]] = []
        name = ""
        for number, line in enumerate(self.tree.text(self.path).splitlines(), 1):
            if not lines:
                match = INSTRUCTION.fullmatch(line)
                if not match or line.startswith("#"):
                    continue
                name, line = match[1].upper(), match[2]
            lines.append((number, line))
            if not line.rstrip().endswith("\\") and not line.lstrip().startswith("#"):
                found.append(Instruction(name, tuple(lines)))
                lines = []
        return tuple(found)

    @cached_property
    def arguments(self) -> dict[str, tuple[str, int]]:
        """ARG name → (default, line); the first definition counts. Without a default: absent."""
        found: dict[str, tuple[str, int]] = {}
        for one in self._named("ARG"):
            for word in shlex.split(one.text):
                name, equals, value = word.partition("=")
                if equals:
                    found.setdefault(name, (value, one.line))
        return found

    @cached_property
    def environment(self) -> tuple[Variable, ...]:
        """The variables of ENV with their arguments expanded, in order."""
        found: list[Variable] = []
        for one in self._named("ENV"):
            words = shlex.split(one.text)
            pairs = [word.partition("=") for word in words]
            if pairs and not pairs[0][1]:  # the old form: ENV NAME value
                pairs = [(words[0], "=", " ".join(words[1:]))]
            found += [
                Variable(name, self.expand(value), self._line_of(one, name))
                for name, _, value in pairs
            ]
        return tuple(found)

    @cached_property
    def build_variables(self) -> tuple[Variable, ...]:
        """The variables of ENV's kind that commands export or set for one command, in order."""
        return tuple(
            Variable(name, value, command.line)
            for command in self.commands
            for name, value in shell.environment(command)
        )

    @property
    def base(self) -> tuple[str, int] | None:
        """The image that the last stage starts from, with arguments expanded, and its line."""
        stages: dict[str, tuple[str, int]] = {}
        found = None
        for one in self._named("FROM"):
            words = [word for word in one.text.split() if not word.startswith("--")]
            image = self.expand(words[0])
            found = stages.get(image.lower(), (image, one.line))
            if len(words) == 3:  # FROM image AS name
                stages[words[2].lower()] = found
        return found

    def expand(self, text: str) -> str:
        """Replace arguments with their defaults; other variables stay."""
        return shell.expand(text, self._defaults)

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """The commands of every RUN, with arguments and assignments expanded."""
        return tuple(
            command
            for one in self._named("RUN")
            for command in shell.with_values(shell.commands(one.lines), self._defaults)
        )

    @cached_property
    def scripts(self) -> tuple[Script, ...]:
        """The scripts of the release that commands run and that do something with the defaults.

        Those of other projects are left out.
        """
        copied = [
            source.removeprefix("./") for one in self._named("COPY") for source in one.text.split()
        ]
        found = []
        for command, path in shell.scripts(self.commands):
            name = path.rpartition("/")[2]
            own = [one for one in copied if one.rpartition("/")[2] == name]
            source = next((one for one in own if one in self.tree.files), None)
            if source is None:
                continue
            values = {**self._defaults, **dict(shell.assignments(command))}
            text = self.tree.text(source)
            if shell.ends_at_once(text, values):
                continue
            lines = enumerate(text.splitlines(), 1)
            inner = tuple(shell.with_values(shell.commands(lines), values))
            found.append(Script(source, command.line, inner))
        return tuple(found)

    def installed(self, packager: str) -> Iterator[tuple[str, int]]:
        """(OS package, line) of every installation, in order."""
        for command in self.commands:
            first, *rest = command.words
            if PACKAGERS.get(first) == packager and "install" in rest:
                rest.remove("install")
                yield from ((word, command.line) for word in rest if not word.startswith("-"))

    def required(self) -> Iterator[tuple[str, int]]:
        """(requirement, URL or path, line) of every pip installation, in order."""
        return shell.required(self.commands)

    def downloads(self) -> Iterator[tuple[str, int]]:
        """(address, line) of every download with wget or curl."""
        return shell.downloads(self.commands)

    @cached_property
    def _defaults(self) -> Mapping[str, str]:
        return {name: value for name, (value, _) in self.arguments.items()}

    def _named(self, name: str) -> Iterator[Instruction]:
        return (one for one in self.instructions if one.name == name)

    def _line_of(self, instruction: Instruction, name: str) -> int:
        """The line of an instruction that sets this variable."""
        pattern = re.compile(rf"(^|\s){re.escape(name)}[=\s]")
        return next((n for n, text in instruction.lines if pattern.search(text)), instruction.line)


def dockerfiles(tree: Tree) -> tuple[Dockerfile, ...]:
    """The Dockerfiles of a release; those of the first platform come first."""
    found = [Dockerfile(tree, path) for path in tree.files if NAME.fullmatch(path)]
    return tuple(sorted(found, key=lambda one: (one.platform != FIRST_PLATFORM, one.path)))
