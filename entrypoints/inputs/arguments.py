"""Flags of `vllm serve`: parsing, spelling, and one flag replacing another.

vLLM accepts underscores for dashes, short aliases, `--flag=value`, and dotted flags that set one
key inside a JSON flag (vllm 0.13: vllm/utils/argparse_utils.py). All of them become one
canonical flag here, so that a later one can replace an earlier one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_FLAG = re.compile(r"(--?[A-Za-z][\w.+-]*)(?:=(.*))?", re.DOTALL)
_DEPTH = 32


class Flag(NamedTuple):
    """`name` as vLLM spells it (`--max-num-seqs`); no values for a switch."""

    name: str
    values: tuple[str, ...] = ()


# Canonical key -> its occurrences, in order; more than one only for a repeatable flag.
Flags = dict[str, tuple[Flag, ...]]


def key_of(flag: Flag) -> str:
    """The key by which one flag replaces another: `--no-x` and `--x` have the key `--x`."""
    if flag.name.startswith("--no-") and not flag.values:
        return "--" + flag.name[len("--no-") :]
    return flag.name


def canonical(name: str, aliases: Mapping[str, str]) -> str:
    """vLLM's long spelling of `--max_num_seqs` or `-tp`; text after a dot is unchanged."""
    base, dot, path = name.partition(".")
    base = aliases.get(base, base)
    if base.startswith("--"):
        base = base.replace("_", "-")
    return base + dot + path


def parse(tokens: Sequence[str], aliases: Mapping[str, str], findings: list[Finding]) -> list[Flag]:
    """Flags with the values that follow each. A token before the first flag is an error."""
    found: list[tuple[str, list[str]]] = []
    for token in tokens:
        match = _FLAG.fullmatch(token)
        if match:
            name, value = match.groups()
            found.append((canonical(name, aliases), [] if value is None else [value]))
        elif found:
            found[-1][1].append(token)
        else:
            findings.append(finding("stray-argument", token=token))
    flags = []
    for name, values in found:
        flags.append(Flag(name, tuple(values)))
        keys = name.split(".")[1:] if name.startswith("--") else []
        if keys and (len(values) != 1 or len(keys) > _DEPTH or not all(keys)):
            findings.append(finding("bad-argument.not-one-key", flag=flags.pop().name))
    return flags


def merge(base: Flags, over: Iterable[Flag], repeatable: frozenset[str] = frozenset()) -> Flags:
    """`base` with each flag of `over` replacing the one with the same key; new ones at the end.

    Within `over` the last wins, but a repeatable flag is collected.
    """
    merged = dict(base)
    fresh = set()
    for flag in over:
        name, dot, path = flag.name.partition(".")
        if dot and name.startswith("--"):
            flag = Flag(name, (_set_inside(merged.get(name), path, flag.values[0]),))
        key = key_of(flag)
        again = key in repeatable and key in fresh
        merged[key] = (*merged[key], flag) if again else (flag,)
        fresh.add(key)
    return merged


def render(flags: Flags) -> list[str]:
    """The flags as arguments. A first value that looks like a flag is joined with `=`."""
    argv: list[str] = []
    for occurrences in flags.values():
        for name, values in occurrences:
            if values and is_flag(values[0]):
                argv += [f"{name}={values[0]}", *values[1:]]
            else:
                argv += [name, *values]
    return argv


def is_flag(token: str) -> bool:
    """Whether argparse would take the token for a flag; `-1` and `- a` are values."""
    return _FLAG.fullmatch(token) is not None


def from_value(name: str, value: Any) -> Flag:
    """A flag from YAML: `name` without dashes, and true, false, a scalar, a list or a mapping.

    true is the switch, false its `--no-` form, a mapping JSON, a list of scalars several values.
    """
    if isinstance(value, bool):
        plain = name.removeprefix("no-")
        return Flag(f"--{plain}" if value == (plain == name) else f"--no-{plain}")
    if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
        return Flag(f"--{name}", tuple(scalar(item) for item in value))
    return Flag(f"--{name}", (scalar(value),))


def scalar(value: Any) -> str:
    """A YAML value as the text of one argument."""
    return value if isinstance(value, str) else compact(value)


def compact(value: Any) -> str:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"))


def value_of(flags: Flags, name: str) -> str | None:
    """The last value of a flag, None when it is absent or has none."""
    values = flags[name][-1].values if name in flags else ()
    return values[-1] if values else None


def json_of(flags: Flags, name: str) -> Any:
    """The JSON value of a flag, or None when it is absent or not JSON."""
    return _json(flags[name][-1].values) if name in flags else None


def _json(values: tuple[str, ...]) -> Any:
    try:
        return json.loads(values[0]) if len(values) == 1 else None
    except (ValueError, RecursionError):
        return None


def _set_inside(existing: tuple[Flag, ...] | None, path: str, text: str) -> str:
    """The JSON text of a flag after one dotted key is set; a trailing `+` adds to a list."""
    root = _json(existing[-1].values) if existing else None
    root = inner = root if isinstance(root, dict) else {}
    *parents, last = path.split(".")
    for parent in parents:
        if not isinstance(inner.get(parent), dict):
            inner[parent] = {}
        inner = inner[parent]
    if last.endswith("+"):
        old = inner.get(last[:-1])
        inner[last[:-1]] = [*(old if isinstance(old, list) else []), *text.split(",")]
    else:
        value = _json((text,))
        inner[last] = text if value is None and text != "null" else value
    return compact(root)
