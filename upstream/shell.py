"""Read the parts of shell text that matter to installations: commands, pip and downloads."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

OPTIONS_WITH_VALUE = {"--index-url", "-i", "--extra-index-url", "--extra-index", "-r", "-c", "-f"}
INDEX_OPTIONS = {"--index-url", "-i", "--extra-index-url", "--extra-index"}
INDEX_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
REFERENCE = re.compile(r"\$(?:\{(\w+)(?::-[^}]*)?\}|(\w+))")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
KEYWORDS = {"if", "then", "else", "elif", "fi", "do", "done", "{", "}", "(", ")", "!"}
OPERATOR = re.compile(r"&&|;|\|\||\|")
EXPORT = "export"
# A guard at the start of a script: `if [ "$BUILD_TYPE" != "daily" ]; then … exit 0 … fi`.
GUARDED = re.compile(
    r'^(if \[ "[^"\n]*" != "[^"\n]*" \]); then\n(?:(?!fi$).*\n)*?\s*exit 0$', re.MULTILINE
)
GUARD = re.compile(r'if \[ "([^"]*)" != "([^"]*)" \]')
SHELLS = {"bash", "sh", "source", "."}


@dataclass(frozen=True)
class Command:
    """A command with its arguments. `line`: its first line, from 1."""

    line: int
    words: tuple[str, ...]


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace variables with their values, also inside values; others stay."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2], match[0])

    for _ in range(5):  # a value that names itself ends here
        expanded = REFERENCE.sub(value, text)
        if expanded == text:
            break
        text = expanded
    return text


def commands(lines: Iterable[tuple[int, str]]) -> Iterator[Command]:
    """The commands of (number, line) pairs. A backslash continues a line; comments are skipped."""
    first_line, text = 0, ""
    for number, line in lines:
        if line.lstrip().startswith("#"):  # also between continued lines
            continue
        continued = line.rstrip().endswith("\\")
        text += line.rstrip().removesuffix("\\") + " "
        first_line = first_line or number
        # A command ends at an operator, or with the line.
        if not continued or re.search(r"(&&|;|\|\|)\s*$", text):
            for part in OPERATOR.split(text):
                if words := _words(part):
                    yield Command(first_line, words)
            first_line, text = 0, ""


def with_values(found: Iterable[Command], values: Mapping[str, str]) -> Iterator[Command]:
    """The commands with `values` and the variables that they assign; the first assignment counts.

    Both branches of an `if` assign, so the first one stands for both.
    """
    known = dict(values)
    for command in found:
        filled = Command(command.line, tuple(expand(word, known) for word in command.words))
        for name, value in assignments(filled):
            if "$(" not in value:  # the output of a command
                known.setdefault(name, value)
        yield filled


def assignments(command: Command) -> Iterator[tuple[str, str]]:
    """The variables that a command sets: `A=1`, `A=1 B=2 command`, or `export A=1`."""
    for word in command.words[command.words[0] == EXPORT :]:
        if not (match := ASSIGNMENT.fullmatch(word)):
            return
        yield match[1], match[2]


def environment(command: Command) -> Iterator[tuple[str, str]]:
    """The variables that programs see: those that are exported, or set for one command."""
    given = list(assignments(command))
    if command.words[0] == EXPORT or len(given) < len(command.words):
        yield from given


def required(found: Iterable[Command]) -> Iterator[tuple[str, int]]:
    """(requirement, URL or path, line) of every pip installation, in order."""
    for command in found:
        words = list(command.words)
        if "pip" not in words or "install" not in words[words.index("pip") :]:
            continue
        if "-e" in words or "--editable" in words:  # vllm-ascend itself, or its vLLM
            continue
        skip = False
        for word in words[words.index("install") + 1 :]:
            if not skip and not word.startswith("-"):
                yield word, command.line
            skip = word in OPTIONS_WITH_VALUE


def indexes(found: Iterable[Command]) -> Iterator[tuple[str, int]]:
    """(address, line) of every package index, from pip's options, settings and variables."""
    for command in found:
        words = command.words
        named = [value for name, value in assignments(command) if name in INDEX_VARIABLES]
        if "pip" in words:
            named += [
                value
                for option, value in itertools.pairwise(words)
                if option in INDEX_OPTIONS or option.endswith("index-url")
            ]
        yield from ((one, command.line) for one in named if "://" in one)


def downloads(found: Iterable[Command]) -> Iterator[tuple[str, int]]:
    """(address, line) of every download with wget or curl."""
    for command in found:
        names = [word for word in command.words if not ASSIGNMENT.fullmatch(word)]
        if names and names[0] in {"wget", "curl"}:
            found_here = (re.search(r"\w+://\S+", word) for word in names)  # after a proxy, too
            yield from ((match[0], command.line) for match in found_here if match)


def scripts(found: Iterable[Command]) -> Iterator[tuple[Command, str]]:
    """(command, path) of every shell script that a command runs."""
    for command in found:
        names = [word for word in command.words if not ASSIGNMENT.fullmatch(word)]
        if names and names[0] in SHELLS:
            names = [word for word in names[1:] if not word.startswith("-")]
        if names and re.fullmatch(r"[\w./-]+\.sh", names[0]):
            yield command, names[0]


def ends_at_once(text: str, values: Mapping[str, str]) -> bool:
    """Whether a script exits at once because a variable lacks the value that it tests for."""
    guards = (GUARD.fullmatch(expand(one, values)) for one in GUARDED.findall(text))
    return any(
        match and "$" not in match[1] + match[2] and match[1] != match[2] for match in guards
    )


def _words(text: str) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError:  # an operator inside quotes
        words = text.split()
    while words and (words[0] in KEYWORDS or re.fullmatch(r"[^(]*\)", words[0])):  # or a case
        words.pop(0)
    return tuple(words)
