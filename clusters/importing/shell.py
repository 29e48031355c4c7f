"""Reads the words of a shell script, and keeps the references that a shell would replace.

A separate parser, because bashlex drops quotes and stops at the first line that is not shell, and
tree-sitter-bash ends a command at a forgotten backslash, which published scripts often have. This
one corrects such mistakes, with a note: a comment or an empty line between continued lines, blanks
after the backslash, a missing backslash before a flag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

TEXT = "text"
NAME = "name"  # $NAME, ${NAME}, ${NAME:-default}, $1
ALL = "all"  # ${NAME[@]}
CODE = "code"  # $(…), `…`, $((…)), ${NAME%…}: not evaluated


@dataclass(frozen=True)
class Part:
    """A piece of a word. `raw`: its text in the script. `default`: of `${NAME:-default}`."""

    kind: str
    text: str
    quoted: bool = False
    raw: str = ""
    default: str | None = None


@dataclass(frozen=True)
class Word:
    parts: tuple[Part, ...]
    line: int

    @property
    def plain(self) -> str:
        """The word with references as in the script."""
        return "".join(part.text if part.kind == TEXT else part.raw for part in self.parts)

    @property
    def bare(self) -> str:
        """The word if it is a single unquoted text, as keywords are; else empty."""
        one = self.parts[0] if len(self.parts) == 1 else None
        return one.text if one and one.kind == TEXT and not one.quoted else ""


@dataclass(frozen=True)
class Note:
    """A note about a line for its author."""

    line: int
    text: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Command:
    """A simple command. `arrays`: words of `NAME=(…)` by the index of the assignment.

    `blocks`: the compound commands around it, outermost first, as (keyword, line).
    """

    words: tuple[Word, ...]
    arrays: dict[int, tuple[Word, ...]]
    blocks: tuple[tuple[str, int], ...]


_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SPECIAL = "0123456789@*#?$!-"
_OPERATORS = ("&&", "||", ";;", "|&", ";", "&", "|", "(", ")", "\n")
_REDIRECT = re.compile(r"\d*(?:<<<|<<-?|<>|<&|>&|>>|>\||&>>|&>|<(?!\()|>(?!\())-?")
_ANGLE = re.compile(r"<[A-Za-z][\w .:/-]*>(?=[\s\"'/:,;\\]|\Z)")
_CONTINUATION = re.compile(r"""--?[A-Za-z]|['"]?\{\s*["\\]""")
_OPENS = ("if", "for", "while", "until", "case", "select")
_CLOSES = ("fi", "done", "esac", "}")
_WITHIN = ("then", "else", "elif", "do", "!", "time")


class Lexer:
    """Words, operators and redirections of a text, in order."""

    def __init__(self, text: str, line: int = 1) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.line = line
        self.notes: list[Note] = []
        self.bodies: list[tuple[str, bool]] = []  # of here documents that start on the next line
        self.words = 0  # of the command so far
        self.arrays = 0  # open parentheses of NAME=(…)

    def tokens(self) -> Iterator[Word | str]:
        """Yield words, and operators as text, without redirections and here documents."""
        while True:
            self._blanks()
            if self.at >= len(self.text):
                return
            if self.text.startswith("\n", self.at):
                if self.words and not self.arrays and self._continues():
                    continue
                self._move(1)
                self._skip_bodies()
                self.words = 0
                yield "\n"
                continue
            if self.text.startswith(("<(", ">("), self.at):
                yield self._process()
                continue
            redirect = _REDIRECT.match(self.text, self.at)
            if redirect and not _ANGLE.match(self.text, self.at):
                self._redirect(redirect[0])
                continue
            operator = next((op for op in _OPERATORS if self.text.startswith(op, self.at)), "")
            if operator:
                if operator == "(" and self.text[self.at - 1 : self.at] == "=":
                    self.arrays += 1
                elif operator == ")" and self.arrays:
                    self.arrays -= 1
                elif operator not in ("(", ")"):
                    self.words = 0
                self._move(len(operator))
                yield operator
                continue
            self.words += 1
            yield self._word()

    def _move(self, count: int) -> str:
        passed = self.text[self.at : self.at + count]
        self.line += passed.count("\n")
        self.at += count
        return passed

    def _at(self, pattern: str) -> re.Match[str] | None:
        return re.compile(pattern).match(self.text, self.at)

    def _take(self, pattern: str) -> str:
        """Move past a match here and return it; empty if nothing matches."""
        match = self._at(pattern)
        return self._move(len(match[0])) if match else ""

    def _note(self, text: str, line: int = 0) -> None:
        self.notes.append(Note(line or self.line, text))

    def _blanks(self) -> None:
        """Skip blanks, continued lines and a comment, but not the end of a line."""
        while True:
            if self._take(r"[ \t\u00a0\u3000]+|\\\n|#[^\n]*"):
                continue
            line = self.line
            passed = self._take(r"\\[ \t]*(?=#|\Z)|\\[ \t]+\n")
            if not passed:  # neither an intended continuation, nor the end of the text
                return
            if len(passed) > 1:
                self._note("something follows the backslash", line)

    def _continues(self) -> bool:
        """At the end of a line: whether the next line continues the command, with a flag.

        Skips everything up to there if so.
        """
        match = self._at(r"(?:[ \t]*(?:#[^\n]*)?\\?\n)+[ \t]*")
        if not match or self.bodies or not _CONTINUATION.match(self.text, match.end()):
            return False
        between = match[0]
        here = self.text[self.text.rfind("\n", 0, self.at) + 1 : self.at].strip()
        why = "the line does not end with a backslash"
        if here.startswith("#") or "#" in between:
            why = "a comment ends the command"
        elif not here or between.count("\n") > 1:
            why = "an empty line ends the command"
        self._note(f"{why}; reading goes on")
        self._move(len(between))
        return True

    def _redirect(self, operator: str) -> None:
        self._move(len(operator))
        self._blanks()
        closes = operator.endswith("-") and "<<" not in operator
        if closes or self.at >= len(self.text) or self.text[self.at] == "\n":
            return
        target = self._word()
        if "<<" in operator and "<<<" not in operator:
            self.bodies.append((target.plain, operator.endswith("-")))

    def _skip_bodies(self) -> None:
        for delimiter, tabs in self.bodies:
            while self.at < len(self.text):
                row = self._take(r"[^\n]*\n?").rstrip("\n")
                if (row.lstrip("\t") if tabs else row) == delimiter:
                    break
        self.bodies = []

    def _process(self) -> Word:
        """`<(…)` as one word."""
        line, start = self.line, self.at
        self._move(2)
        self._until_closed(")")
        raw = self.text[start : self.at]
        return Word((Part(CODE, raw, raw=raw),), line)

    def _word(self) -> Word:
        line = self.line
        parts: list[Part] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\n;&|()<>\u00a0\u3000":
                if placeholder := self._take(_ANGLE.pattern):  # `<node0_ip>`, as in documents
                    _add(parts, Part(TEXT, placeholder))
                    continue
                break
            if char == "'":
                _add(parts, Part(TEXT, self._single(), True))
            elif char == '"':
                self._double(parts)
            elif char == "\\":
                if self._at(r"\\(?:\n[ \t]|[ \t]+(?:\n|#)|[ \t]*\Z)"):
                    break
                if self._at(r"\\\n-"):
                    self._note("no blank before or after the backslash: a shell joins both words")
                    break
                if self.text.startswith("\\\n", self.at):
                    self._move(2)
                    continue
                self._move(1)
                _add(parts, Part(TEXT, self._move(1), True))
            elif char == "$" and self.text.startswith("$'", self.at):
                self._move(1)
                _add(parts, Part(TEXT, _ansi(self._single(escapes=True)), True))
            elif char in "$`":
                _add(parts, self._reference(False))
            elif char == "{" and (bare := self._json()):
                self._note("JSON without quotes: a shell splits it", line)
                _add(parts, Part(TEXT, self._move(len(bare)), True))
            else:
                _add(parts, Part(TEXT, self._move(1)))
        return Word(tuple(parts), line)

    def _json(self) -> str:
        """An unquoted JSON object at this place, else empty."""
        if not self._at(r'\{\s*"'):
            return ""
        try:
            result, end = json.JSONDecoder().raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            return ""
        return self.text[self.at : end] if isinstance(result, dict) and result else ""

    def _single(self, escapes: bool = False) -> str:
        line = self.line
        raw = self._take(r"'(?:\\[\s\S]|[^'\\])*'?" if escapes else r"'[^']*'?")
        if len(raw) < 2 or not raw.endswith("'"):
            self._note("a ' that is never closed", line)
            return raw[1:]
        return raw[1:-1]

    def _double(self, parts: list[Part]) -> None:
        line = self.line
        self._move(1)
        _add(parts, Part(TEXT, "", True))
        while self.at < len(self.text) and self.text[self.at] != '"':
            char = self.text[self.at]
            if char == "\\":
                pair = self._move(2)
                if pair[1:] == "\n":
                    continue
                _add(parts, Part(TEXT, pair[1:] if pair[1:] in '$`"\\' else pair, True))
            elif char in "$`":
                _add(parts, self._reference(True))
            else:
                _add(parts, Part(TEXT, self._move(1), True))
        if self.at >= len(self.text):
            self._note('a " that is never closed', line)
        self._move(1)

    def _reference(self, quoted: bool) -> Part:
        start = self.at
        if raw := self._take(r"`(?:\\[\s\S]|[^`\\])*`?"):
            return Part(CODE, raw, quoted, raw)
        self._move(1)
        rest = self.text[self.at : self.at + 1]
        if rest == "(":
            self._move(1)
            self._until_closed(")")
        elif rest == "{":
            self._move(1)
            self._until_closed("}")
            return _braced(self.text[start : self.at], quoted)
        elif name := _NAME.match(self.text, self.at):
            self._move(len(name[0]))
            return Part(NAME, name[0], quoted, f"${name[0]}")
        elif rest and rest in _SPECIAL:
            self._move(1)
            return Part(ALL if rest in "@*" else NAME, rest, quoted, f"${rest}")
        else:
            return Part(TEXT, "$", quoted)
        raw = self.text[start : self.at]
        return Part(CODE, raw, quoted, raw)

    def _until_closed(self, close: str) -> None:
        """Skip everything up to and including the matching bracket."""
        opening = {")": "(", "}": "{"}[close]
        depth = 1
        while self.at < len(self.text) and depth:
            char = self.text[self.at]
            if char == "'":
                self._single()
            elif char == '"':
                self._double([])
            elif char == "\\":
                self._move(2)
            else:
                depth += (char == opening) - (char == close)
                self._move(1)


def _add(parts: list[Part], part: Part) -> None:
    """Append a part, or join it with a similar text before it."""
    last = parts[-1] if parts else None
    if last and last.kind == part.kind == TEXT and last.quoted == part.quoted:
        part = Part(TEXT, last.text + part.text, part.quoted)
        parts.pop()
    parts.append(part)


def _braced(raw: str, quoted: bool) -> Part:
    inside = raw[2:-1]
    match = re.fullmatch(r"(\w+)(?:\[[@*]\])", inside, re.ASCII)
    if match:
        return Part(ALL, match[1], quoted, raw)
    match = re.fullmatch(r"(\w+|[@*])(?::?([-=?+])(.*))?", inside, re.ASCII | re.DOTALL)
    if match and match[2] in (None, "-", "="):
        kind = ALL if match[1] in ("@", "*") else NAME
        return Part(kind, match[1], quoted, raw, match[3])
    return Part(CODE, raw, quoted, raw)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _ansi(text: str) -> str:
    """The text of `$'…'`."""
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text, flags=re.DOTALL)


def within(text: str) -> tuple[Part, ...]:
    """The parts of a default value after `:-`, including blanks."""
    lexer = Lexer(text)
    parts: list[Part] = []
    while lexer.at < len(text):
        before = lexer.at
        parts += lexer._word().parts
        if lexer.at == before:
            _add(parts, Part(TEXT, lexer._move(1)))
    return tuple(parts)


def commands(text: str, line: int = 1) -> tuple[list[Command], list[Note]]:
    """The simple commands of a script in order, and notes about its lines."""
    lexer = Lexer(text, line)
    found: list[Command] = []
    blocks: list[tuple[str, int]] = []
    words: list[Word] = []
    arrays: dict[int, tuple[Word, ...]] = {}

    def end() -> None:
        nonlocal words, arrays
        if words:
            found.append(Command(tuple(words), arrays, tuple(blocks)))
        words, arrays = [], {}

    tokens = lexer.tokens()
    for token in tokens:
        if isinstance(token, str):
            assigned = words and re.fullmatch(r"[A-Za-z_]\w*\+?=", words[-1].bare)
            if token == "(" and assigned:
                arrays[len(words) - 1] = tuple(_array(tokens))
            elif token == "(" and len(words) == 1:
                blocks.append(("function", words.pop().line))
                next(tokens, None)
                words = []
            elif token == "(":
                end()
                blocks.append(("(", lexer.line))
            elif token == ")":
                end()
                if blocks and blocks[-1][0] == "(":
                    blocks.pop()
            else:
                end()
            continue
        word = token.bare
        if words or not word:
            words.append(token)
        elif word == "function":
            blocks.append((word, token.line))
            next(tokens, None)
        elif word == "{" and blocks and blocks[-1][0] == "function":
            blocks[-1] = ("function body", blocks[-1][1])
        elif word in (*_OPENS, "{"):
            blocks.append((word, token.line))
            if word in ("for", "case", "select"):
                words.append(token)
        elif word in _CLOSES:
            if blocks:
                blocks.pop()
        elif word not in _WITHIN:
            words.append(token)
    end()
    return found, lexer.notes


def _array(tokens: Iterator[Word | str]) -> Iterator[Word]:
    for token in tokens:
        if token == ")":
            return
        if isinstance(token, Word):
            yield token
