"""What the `vllm serve` of a release accepts: flags and environment variables.

`invoke flags` writes env/flags/{vllm}.json and env/variables/{release}.json from vLLM itself. vLLM
takes half a minute to refuse a flag, and never refuses a variable.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from entrypoints.findings import USAGE, Finding, near
from entrypoints.inputs import data
from entrypoints.inputs.arguments import Flag, canonical
from entrypoints.inputs.settings import NAMES
from entrypoints.inputs.stack import Release
from entrypoints.messages import finding
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

# What Kubernetes sets in a pod for a Service named X: its documentation, "Accessing the Service".
# Compiled when needed, which is seldom.
_OF_A_SERVICE = (
    r".+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_SIZE = r"\s*(\d+(\.\d+)?[kmgt]|\d+[KMGT])\s*"
_LEVEL = "--optimization-level"
_COMPILATION = "--compilation-config"


class Catalogue(NamedTuple):
    """What one release accepts.

    options: name -> {type, default?, aliases?, negative?, choices?, nargs?, action?};
    aliases: other spelling -> name; negatives: `--no-x` -> `--x`; repeatable: collected options;
    variables: those that some source reads; unread: those that only documents mention;
    gone: flags (`--x`) and variables of earlier releases -> (what to do instead, source).
    """

    release: str
    vllm: str
    options: Mapping[str, Mapping[str, Any]]
    aliases: Mapping[str, str]
    negatives: Mapping[str, str]
    repeatable: frozenset[str]
    variables: frozenset[str]
    unread: frozenset[str]
    gone: Mapping[str, tuple[str, str]] = {}


def load(release: Release) -> Catalogue:
    """The catalogue of a release. Raises Refused (65) when its files cannot be read."""
    return data.cached(("catalogue", release.facts), lambda: _load(release))


def _load(release: Release) -> Catalogue:
    options = data.read(data.path_of("flags", f"{release.vllm}.json"))["options"]
    names = data.read(data.path_of("variables", f"{release.facts}.json"))
    return Catalogue(
        release=release.facts,
        vllm=release.vllm,
        options=options,
        aliases={
            alias: name for name, entry in options.items() for alias in entry.get("aliases", ())
        },
        negatives={
            entry["negative"]: name for name, entry in options.items() if "negative" in entry
        },
        repeatable=frozenset(n for n, entry in options.items() if entry.get("action") == "append"),
        variables=frozenset((*names["vllm"], *names["vllm_ascend"], *names["read"])),
        unread=frozenset(names["unread"]),
        gone={
            **{
                f"--{k}": (f"use {v['instead']}", v["source"])
                for k, v in release.flags_gone.items()
            },
            **{k: (v["fix"], v["source"]) for k, v in release.variables_gone.items()},
        },
    )


# ---- flags ---------------------------------------------------------------------------------------


def expand(name: str, catalogue: Catalogue) -> str:
    """The full name for an alias or, as in argparse, for an unambiguous beginning of a name.

    Complete, unknown and ambiguous names are returned unchanged.
    """
    base, dot, path = canonical(name, catalogue.aliases).partition(".")
    base = catalogue.aliases.get(base, base)  # a long alias, now that it has dashes
    if base not in catalogue.options and base not in catalogue.negatives:
        names = (*catalogue.options, *catalogue.negatives, *catalogue.aliases, "--help", "-h")
        meant = [one for one in names if one.startswith(base)]
        if len(meant) == 1:
            base = catalogue.aliases.get(meant[0], meant[0])
    return base + dot + path


def resolve(flag: Flag, catalogue: Catalogue) -> Flag:
    """The flag under its full name, so that it can replace another of that name.

    `-O3` is the optimization level, and was `-O.level 3` before there was one (vllm 0.11:
    vllm/utils/__init__.py, 0.13: vllm/utils/argparse_utils.py); `-n2` is `-n 2`.
    """
    name, values = flag
    glued = name[2:] if not name.startswith("--") and name not in catalogue.aliases else ""
    if name.startswith("-O") and glued and not glued.startswith("."):
        name, values = "-O", (glued,)
    elif glued and "." not in glued and name[:2] in catalogue.aliases:
        name, values = name[:2], (glued, *values)
    full = expand(name, catalogue)
    is_level = len(values) == 1 and (values[0] in ("0", "1", "2", "3") or values == (glued,))
    if name == "-O" and is_level and _LEVEL in catalogue.options:
        return Flag(_LEVEL, values)
    if full == _COMPILATION and is_level and _LEVEL not in catalogue.options:
        return Flag(f"{_COMPILATION}.level", values)
    return Flag(full, values)


def check_flags(
    flags: Iterable[Flag],
    where: str,
    catalogue: Catalogue,
    findings: list[Finding],
    exit_code: int = USAGE,
) -> None:
    """Report each flag that this release's vLLM would refuse."""
    for given in flags:
        flag = resolve(given, catalogue)
        found = _refusal(flag, catalogue)
        if found:
            at = f"{where}: {given.name}" if where else given.name
            name = flag.name.partition(".")[0]
            fix, source = catalogue.gone.get(name, (found.fix, found.source))
            found = found._replace(where=at, fix=fix, source=source, exit_code=exit_code)
            findings.append(found)


def _refusal(flag: Flag, catalogue: Catalogue) -> Finding | None:
    """Why vLLM would refuse a flag of full name."""
    base, dot, _ = flag.name.partition(".")
    values = flag.values
    entry = catalogue.options.get(base)
    if entry is None:
        if base not in catalogue.negatives:
            return _unknown_flag(base, catalogue)
        entry = {"type": "flag"}
    kind = entry["type"]
    if kind in ("flag", "bool"):
        if values or dot:
            negative = entry.get("negative")
            return finding(
                "bad-argument.switch", forms=f"{base} or {negative}" if negative else base
            )
        return None
    if dot:
        # What vLLM makes of a dotted flag.
        return None if _fits('{"key": 1}', entry) else finding("bad-argument.no-keys", flag=base)
    nargs = entry.get("nargs")
    if not values and nargs != "?":
        return finding("bad-argument.no-value", wanted=_wanted(entry))
    if len(values) > 1 and nargs != "+":
        return finding("bad-argument.several-values", count=len(values))
    for value in values:
        if not _fits(value, entry):
            message = "bad-choice" if "choices" in entry else "bad-argument.bad-value"
            shown = "its value" if "json" in kind else repr(value)
            return finding(message, value=shown, wanted=_wanted(entry))
    return None


def _fits(value: str, entry: Mapping[str, Any]) -> bool:
    kind = entry["type"].removeprefix("optional:")
    if "choices" in entry:
        if value == "" and kind != entry["type"]:
            value = "None"
        return value in entry["choices"] or (kind == "int" and _same_int(value, entry["choices"]))
    if kind != entry["type"] and value in ("", "None"):
        return True
    try:
        _VALUES.get(kind, _ANY)[0](value)
    except (ValueError, RecursionError):
        return False
    return True


def _same_int(value: str, choices: Sequence[str]) -> bool:
    try:
        return str(int(value)) in choices
    except ValueError:
        return False


def _wanted(entry: Mapping[str, Any]) -> str:
    if "choices" in entry:
        return f"one of {', '.join(entry['choices'])}"
    return _VALUES.get(entry["type"].removeprefix("optional:"), _ANY)[1]


def _size(text: str) -> None:
    """vLLM's human_readable_int: `32k` is 32000 and may have a decimal point, `32K` is 32768."""
    if not text.isdecimal() and not re.fullmatch(_SIZE, text):
        int(text)


def _size_or_auto(text: str) -> None:
    if text.strip().lower() != "auto":
        _size(text)


def _json_or_text(text: str) -> None:
    stripped = text.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        json.loads(text)


# Type -> a function that raises ValueError for a value that vLLM refuses, and what it wants.
_ANY: tuple[Callable[[str], object], str] = (str, "a value")
_VALUES: Mapping[str, tuple[Callable[[str], object], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "human_readable_int": (_size, "a whole number, or one such as 32k or 1M"),
    "human_readable_int_or_auto": (_size_or_auto, "a whole number, one such as 32k, or auto"),
    "json": (json.loads, "JSON"),
    "json:dataclass": (json.loads, "a JSON object"),
    "json|str": (_json_or_text, "a JSON object or text"),
}


def _unknown_flag(name: str, catalogue: Catalogue) -> Finding:
    names = [*catalogue.options, *catalogue.negatives, *catalogue.aliases]
    begun = [one for one in names if one.startswith(name)]
    others = _others("flags", catalogue.vllm, lambda known: name in known["options"])
    also = ", which is the beginning of several" if begun else ""
    also += f"; known to vLLM {', '.join(others)}" if others else ""
    named = {"vllm": catalogue.vllm, "release": catalogue.release, "also": also}
    if begun:
        return finding("unknown-flag.shortened", known=", ".join(begun), **named)
    return finding("unknown-flag.unknown", fix=near(name, names), **named)


# ---- variables -----------------------------------------------------------------------------------


def check_variables(
    variables: Mapping[str, str | None],
    catalogue: Catalogue,
    findings: list[Finding],
    where: str = "",
    exit_code: int = USAGE,
) -> None:
    """Report each VLLM_* variable that nothing in this release reads or documents.

    Ignores the entrypoint's own, and what Kubernetes sets for a Service named vllm.
    """
    in_pod = "KUBERNETES_SERVICE_HOST" in variables
    for name, value in variables.items():
        if not name.startswith(("VLLM_", "VLLM-")) or name in NAMES:
            continue
        if name in catalogue.variables or name in catalogue.unread:
            continue
        if re.fullmatch(_OF_A_SERVICE, name) and (in_pod or (value or "").startswith("tcp://")):
            continue
        found = _unknown_variable(name, catalogue)
        at = f"{where}.{name}" if where else name
        fix, source = catalogue.gone.get(name, (found.fix, found.source))
        findings.append(found._replace(where=at, fix=fix, source=source, exit_code=exit_code))


def unread(names: Iterable[str], catalogue: Catalogue) -> list[Finding]:
    """A warning for each variable that published configurations set although nothing reads it."""
    found = []
    for name in names:
        if name in catalogue.unread and name not in catalogue.gone:
            fix = near(name, catalogue.variables, 0.8)
            found.append(finding("unread-variable", name=name, release=catalogue.release, fix=fix))
    return found


def _unknown_variable(name: str, catalogue: Catalogue) -> Finding:
    proper = name.replace("-", "_")
    if proper != name and proper in catalogue.variables:
        return finding("unknown-variable.dashed", proper=proper)
    others = _others("variables", catalogue.release, lambda known: _knows(known, proper))
    also = f"; known to {', '.join(others)}" if others else ""
    fix = near(proper, (*catalogue.variables, *(one for one in NAMES if "VLLM" in one)))
    named = {"vllm": catalogue.vllm, "release": catalogue.release}
    return finding("unknown-variable.unknown", fix=fix, also=also, **named)


def _knows(names: Mapping[str, Any], name: str) -> bool:
    return any(name in names[key] for key in ("vllm", "vllm_ascend", "read"))


# ---- suggestions ---------------------------------------------------------------------------------


def _others(kind: str, but: str, holds: Callable[[Any], bool]) -> list[str]:
    """The other versions of vLLM, or releases, for which `holds` is true."""
    names = sorted(n[:-5] for n in os.listdir(data.path_of(kind)) if n.endswith(".json"))
    return [n for n in names if n != but and holds(data.read(data.path_of(kind, f"{n}.json")))]
