"""The commands that a script starts: servers, Ray nodes and proxies, with their variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from clusters.importing import TABLES, shell
from clusters.importing.shell import ALL, CODE, NAME, TEXT, Command, Note, Part, Word

SERVER = "server"
RAY = "ray"
PROXY = "proxy"
LAUNCH = "launch"  # vllm-ascend's launch_online_dp.py, which runs a template once a rank


@dataclass(frozen=True, eq=False)
class Script:
    """One command that a script starts.

    `env`: its variables; unknown values stay as `$NAME`. `literal`: variables in whose value a `$`
    is literal. `words`: of SERVER, those after `vllm serve`; else the whole command.
    `unknown`: names in `words` without a value. `title`: the heading above it in a document.
    `block`: its script or code block; commands of one block run on one machine.
    """

    file: str
    line: int
    kind: str
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    literal: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
    title: str = ""
    block: str = ""
    image: str = ""
    devices: tuple[int, ...] = ()

    @property
    def at(self) -> str:
        return f"{self.file}:{self.line}"

    def note(self, text: str) -> Note:
        return Note(self.line, text, self.file)


@dataclass(frozen=True)
class Reading:
    """`skipped`: lines without meaning for a server. `doubts`: how invalid lines were read."""

    scripts: tuple[Script, ...]
    skipped: tuple[Note, ...]
    doubts: tuple[Note, ...]


_ASSIGNMENT = re.compile(r"([A-Za-z_][\w-]*)(\+?=)(.*)", re.DOTALL | re.ASCII)
_SERVER_MODULES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.cli.main")
_PROXIES = re.compile(r".*(?:proxy|router)[\w.-]*\.py|vllm-router")
_LAUNCHERS = ("launch_online_dp.py", "launch_dp_program.py")
# Placeholders that documents use for a value of the reader, and names of variables that have one.
_UNFILLED = re.compile(
    r"|[xX*.]+|<.*>|\.\.\.|(?:your|YOUR|path.to|/path/to).*|(?:[xX]+\.){3}[xX]+"
    r"|\$\(.*|`.*",
    re.DOTALL,
)
_UNFILLED_NAME = re.compile(
    r"ip|addr|host|nic|if_?name|interface|port|path|model|dir|rank|size", re.IGNORECASE
)
_WRAPPERS: Mapping[str, Sequence[str]] = TABLES["wrappers"]
_TUNING_WRAPPERS: Mapping[str, Sequence[str]] = TABLES["tuning_wrappers"]
_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash")
# Options of docker run whose value is the next word.
_DOCKER_VALUES = re.compile(
    r"-[ehlmnpuvw]|--(?:env|volume|device|name|net|network|shm-size|workdir|user|hostname|publish"
    r"|privileged=\w+|ulimit|ipc|pid|cap-add|mount|entrypoint|runtime|restart|label|env-file"
    r"|security-opt|memory|cpus|cpuset-cpus|add-host|group-add|log-opt|log-driver|platform|pull)"
)


def read(
    text: str,
    file: str,
    line: int = 1,
    given: Mapping[str, str] | None = None,
    title: str = "",
    env: Mapping[str, str] | None = None,
) -> Reading:
    """Read a script. `given`: values that replace the script's; `env`: variables set before."""
    reader = _Reader(file, given or {}, title, f"{file}:{line}")
    for name, value in (env or {}).items():
        reader.assign(name, (Part(TEXT, value, True),), export=True)
    reader.run(text, line)
    notes = (tuple(replace(one, file=file) for one in n) for n in (reader.skipped, reader.doubts))
    return Reading(tuple(reader.scripts), *notes)


class _Reader:
    def __init__(self, file: str, given: Mapping[str, str], title: str, block: str) -> None:
        self.file = file
        self.block = block
        self.title = title
        self.given = given
        self.values: dict[str, tuple[Part, ...]] = {
            name: (Part(TEXT, value, True),) for name, value in given.items()
        }
        self.lists: dict[str, tuple[Word, ...]] = {}
        self.exported: dict[str, None] = {}
        self.export_all = False
        self.scripts: list[Script] = []
        self.skipped: list[Note] = []
        self.doubts: list[Note] = []
        self.image = ""
        self.devices: tuple[int, ...] = ()

    def run(self, text: str, line: int) -> None:
        commands, notes = shell.commands(text, line)
        self.doubts += notes
        serving = {one.blocks[0] for one in commands if one.blocks and _serves(one)}
        reported: set[tuple[str, int]] = set()
        for command in commands:
            outer = command.blocks[0] if command.blocks else None
            if outer and outer[0] not in ("{", "("):
                if outer not in reported:
                    reported.add(outer)
                    if outer in serving:
                        note = f"the {outer[0]} is not evaluated; its body is read once"
                        self.doubts.append(Note(outer[1], note))
                    else:
                        self.skipped.append(Note(outer[1], f"{outer[0]} …"))
                if outer not in serving or command.words[0].bare in ("for", "case", "select"):
                    continue
            self.command(command)

    def command(self, command: Command) -> None:
        words = list(command.words)
        before: list[Word] = []
        while words and _is_assignment(words[0]):
            before.append(words.pop(0))
        if not words:
            for i, word in enumerate(before):
                self._assign_word(word, command.arrays.get(i), self.export_all)
            return
        if words[0].plain in ("export", "declare", "typeset", "readonly", "local"):
            self._export(words, command)
            return
        if words[0].plain == "unset":
            for word in words[1:]:
                self.values.pop(word.plain, None)
                self.exported.pop(word.plain, None)
            return
        if words[0].plain == "set" and any(w.plain in ("-a", "allexport") for w in words[1:]):
            self.export_all = True
            return
        self._runs(words, before)

    def assign(self, name: str, parts: tuple[Part, ...], export: bool, more: bool = False) -> None:
        if name not in self.given:
            new = self._known(_extending(name, parts))
            if not export and _UNFILLED_NAME.search(name) and is_unfilled(_text_of(new)):
                new = (Part(NAME, name, True, f"${name}"),)  # to fill in, by this name
            self.values[name] = (*self.values.get(name, ()), *new) if more else new
        if export:
            self.exported.setdefault(name)

    def _assign_word(self, word: Word, array: tuple[Word, ...] | None, export: bool) -> None:
        name, operator, parts = _assignment(word)
        if array is not None:
            items = tuple(result for one in array for result in self._fields(one))
            more = self.lists.get(name, ()) if operator == "+=" else ()
            self.lists[name] = (*more, *items)
            return
        self.assign(name, parts, export, operator == "+=")

    def _export(self, words: Sequence[Word], command: Command) -> None:
        options = {w.bare for w in words[1:] if w.bare.startswith("-")}
        export = words[0].plain == "export" or any("x" in option for option in options)
        if "-n" in options or "-f" in options:
            return
        offset = len(command.words) - len(words)
        for i, word in enumerate(words[1:], offset + 1):
            if word.bare in options:
                continue
            if _is_assignment(word, dashes=True):
                name = _assignment(word)[0]
                if "-" in name:
                    note = f"{name} is not a valid name: a shell does not set it"
                    self.doubts.append(Note(word.line, note))
                self._assign_word(word, command.arrays.get(i), export)
            elif export and re.fullmatch(r"[A-Za-z_]\w*", word.plain):
                self.exported.setdefault(word.plain)
            else:
                self.skipped.append(Note(word.line, f"{words[0].plain} {word.plain}"))

    def _runs(self, words: list[Word], before: Sequence[Word]) -> None:
        """A command that is not an assignment, with the assignments before it."""
        line = words[0].line
        while words:
            name = PurePath(words[0].plain).name
            if name in {**_WRAPPERS, **_TUNING_WRAPPERS}:
                if name in _TUNING_WRAPPERS:
                    shown = " ".join(word.plain for word in words[:3])
                    self.skipped.append(Note(words[0].line, f"{shown} … before a server"))
                words, more = _unwrap(words)
                before = (*before, *more)
            elif name == "docker" and len(words) > 1 and words[1].plain in ("run", "exec"):
                words, more = self._docker(words)
                before = (*before, *more)
                if not words:
                    return
            elif words[0].plain in _SHELLS and len(words) > 2 and words[1].plain.startswith("-"):
                inner = next(
                    (i for i, w in enumerate(words) if re.fullmatch("-[a-z]*c", w.plain)), 0
                )
                if not inner or inner + 1 >= len(words):
                    break
                for word in before:
                    self._assign_word(word, None, True)
                self.run(self._text(words[inner + 1]), words[inner + 1].line)
                return
            else:
                break
        kind, rest = _kind(words)
        if not kind:
            shown = abbreviate(words)
            if shown and words[0].plain not in ("set", "wait", "tee", "sleep", "echo"):
                self.skipped.append(Note(line, shown))
            return
        outside = dict(self.values), dict(self.exported)
        for word in before:
            self._assign_word(word, None, True)
        unknown: dict[str, None] = {}
        result = [text for word in rest for text in self._arguments(word, unknown)]
        known = {name: self.values[name] for name in self.exported if name in self.values}
        self.values, self.exported = outside
        self.scripts.append(
            Script(
                file=self.file,
                line=line,
                kind=kind,
                words=tuple(map(self._filled, result)),
                env={name: self._filled(_text_of(parts)) for name, parts in known.items()},
                literal=frozenset(
                    name
                    for name, parts in known.items()
                    if any(p.kind == TEXT and re.search(r"\$[{\w]", p.text) for p in parts)
                ),
                unknown=tuple(unknown),
                title=self.title,
                block=self.block,
                image=self.image,
                devices=self.devices,
            )
        )

    def _filled(self, text: str) -> str:
        """The text with given values in place of `node_ip`, `1.xx.xx.1` and `<node>`."""
        for name, value in self.given.items():
            text = text.replace(f"<{name}>", value)
            if name in text and ("_" in name or "xx" in name):
                text = value.join(re.split(rf"(?<![\w.$/-]){re.escape(name)}(?![\w.-])", text))
        return text

    def _docker(self, words: list[Word]) -> tuple[list[Word], list[Word]]:
        """The command in a container and its variables; empty if it starts no server."""
        before, i = [], 2
        while i < len(words) and words[i].plain.startswith("-"):
            word, i = words[i], i + 1
            name, equals, _ = word.plain.partition("=")
            if equals:
                word = Word(_after(word.parts, len(name) + 1), word.line)
            elif _DOCKER_VALUES.fullmatch(name) and i < len(words):
                word, i = words[i], i + 1
            if name in ("-e", "--env"):
                before.append(word)
            if name == "--device" and (match := re.search(r"davinci(\d+)", self._text(word))):
                self.devices = (*self.devices, int(match[1]))
        if i < len(words):
            self.image = self._text(words[i])
        rest = words[i + 1 :]
        if not any(w.plain in ("vllm", *_SHELLS) or "vllm." in w.plain for w in rest):
            self.skipped.append(Note(words[0].line, abbreviate(words)))
            return [], []
        return rest, [word for word in before if _is_assignment(word)]

    # ---- values ----------------------------------------------------------------------------------

    def _known(self, parts: Iterable[Part]) -> tuple[Part, ...]:
        """The parts with known values in place of references."""
        result: list[Part] = []
        for part in parts:
            if part.kind == NAME and part.text in self.values:
                result += self.values[part.text]
            elif part.kind == NAME and part.default is not None:
                result += self._known(shell.within(part.default))
            elif part.kind == ALL and part.text in self.lists:
                result.append(Part(TEXT, " ".join(self._text(w) for w in self.lists[part.text])))
            else:
                result.append(part)
        return tuple(result)

    def _text(self, word: Word) -> str:
        return _text_of(self._known(word.parts))

    def _fields(self, word: Word) -> list[Word]:
        """The words that one word expands to: of an array, or of an unquoted value."""
        result: list[list[Part]] = [[]]
        for part in word.parts:
            if part.kind == ALL and part.text in self.lists:
                items = self.lists[part.text]
                if items:
                    result[-1] += items[0].parts
                    result += [list(one.parts) for one in items[1:]]
            elif part.kind == NAME and not part.quoted:
                for piece in self._known((part,)):
                    texts = piece.text.split() if piece.kind == TEXT else []
                    if len(texts) < 2:
                        result[-1].append(piece)
                        continue
                    result[-1].append(Part(TEXT, texts[0], True))
                    result += [[Part(TEXT, text, True)] for text in texts[1:]]
            else:
                result[-1] += self._known((part,))
        return [Word(tuple(parts), word.line) for parts in result if parts]

    def _arguments(self, word: Word, unknown: dict[str, None]) -> list[str]:
        result = []
        for one in self._fields(word):
            for part in one.parts:
                if part.kind in (NAME, ALL, CODE):
                    unknown.setdefault(part.text if part.kind == NAME else part.raw)
            result.append(_text_of(one.parts))
        return result


def _extending(name: str, parts: Iterable[Part]) -> Iterator[Part]:
    """Read `${NAME:-}` and `${NAME:+:$NAME}` in an assignment to NAME as `$NAME`."""
    for part in parts:
        if part.kind == NAME and part.text == name and not part.default:
            yield replace(part, default=None, raw=f"${name}")
        elif part.kind == CODE and (more := re.fullmatch(rf"\$\{{{name}:?\+(.*)\}}", part.raw)):
            yield from shell.within(more[1])
        else:
            yield part


def is_unfilled(text: str) -> bool:
    """Whether a value is a placeholder to fill in."""
    return _UNFILLED.fullmatch(text) is not None


def _text_of(parts: Iterable[Part]) -> str:
    return "".join(part.text if part.kind == TEXT else part.raw for part in parts)


def abbreviate(words: Sequence[Word]) -> str:
    """The first words of a command."""
    texts = [word.plain.split("\n")[0] for word in words[:6]]
    return " ".join(texts) + (" …" if len(words) > 6 else "")


def _is_assignment(word: Word, dashes: bool = False) -> bool:
    first = word.parts[0] if word.parts else None
    if not first or first.kind != TEXT or first.quoted:
        return False
    match = _ASSIGNMENT.match(first.text)
    return match is not None and (dashes or "-" not in match[1])


def _assignment(word: Word) -> tuple[str, str, tuple[Part, ...]]:
    """Name, operator and value of `NAME=value`."""
    match = _ASSIGNMENT.match(word.parts[0].text)
    assert match
    return match[1], match[2], _after(word.parts, match.start(3))


def _after(parts: Sequence[Part], count: int) -> tuple[Part, ...]:
    """The parts without the first `count` characters, which are in the first text."""
    first, *rest = parts
    kept = replace(first, text=first.text[count:])
    return (kept, *rest) if kept.text or not rest else tuple(rest)


def _unwrap(words: list[Word]) -> tuple[list[Word], list[Word]]:
    """The command that a wrapper runs, and the variables that the wrapper sets."""
    name, rest, before = PurePath(words[0].plain).name, words[1:], list[Word]()
    takes = {**_WRAPPERS, **_TUNING_WRAPPERS}[name]
    while rest:
        word = rest[0]
        if word.plain in takes:
            rest = rest[2:]
        elif word.plain.startswith("-"):
            rest = rest[1:]
        elif name in ("env", "sudo") and _is_assignment(word):
            before.append(word)
            rest = rest[1:]
        elif name in ("timeout", "taskset", "chrt") and re.fullmatch(
            r"[\d.,x-]+[smh]?", word.plain
        ):
            rest = rest[1:]
        else:
            break
    return rest, before


def _kind(words: Sequence[Word]) -> tuple[str, Sequence[Word]]:
    """The kind of a command, and its relevant words."""
    plain = [word.plain for word in words]
    names = [PurePath(text).name for text in plain[:3]]
    if names[:2] == ["vllm", "serve"]:
        return SERVER, words[2:]
    if names and re.fullmatch(r"python[\d.]*", names[0]):
        flags = next((i for i, text in enumerate(plain[1:], 1) if not text.startswith("-")), 0)
        if len(plain) > 2 and plain[flags - 1] == "-m" and plain[flags] in _SERVER_MODULES:
            serve = plain[flags + 1 : flags + 2] == ["serve"]
            return SERVER, words[flags + 1 + serve :]
        script = PurePath(plain[flags]).name if flags else ""
        if script in _LAUNCHERS:
            return LAUNCH, words[flags:]
        if _PROXIES.fullmatch(script):
            return PROXY, words[flags:]
    if names and _PROXIES.fullmatch(names[0]):
        return PROXY, words
    if plain[:2] == ["ray", "start"]:
        return RAY, words
    return "", words


def _serves(command: Command) -> bool:
    texts = [word.plain for word in command.words]
    return any(
        _kind(command.words[i:])[0] or "vllm serve" in text for i, text in enumerate(texts[:12])
    )
