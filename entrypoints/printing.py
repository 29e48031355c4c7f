"""What `plan`, `roles` and `--help` print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from entrypoints.findings import one_line
from entrypoints.inputs.arguments import is_flag
from entrypoints.inputs.references import REFERENCE
from entrypoints.inputs.roles import ROLES
from entrypoints.inputs.settings import VARIABLES
from entrypoints.launch.model import Launch
from entrypoints.messages import refused
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

MASK = "***"
_SECRET = re.compile(r"(?:^|_)(?:TOKEN|KEY)$|PASSWORD|SECRET", re.IGNORECASE)
_SECRET_FLAGS = ("--api-key", "--hf-token")
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


USAGE_TEXT = """\
usage: [FLAGS ...]                     run the server of ROLE; these flags replace its own
       plan [--format text|json|env] [FLAGS ...]   show what would run; start nothing
       dryrun [--format text|json] [FLAGS ...]     ask this image's vLLM whether it would start
       preflight [--format text|json]  check whether this machine fits
       health [--format text|json]     report whether the server here is starting, ready or broken
       recipes [NAME ...] [--format text|json]     list the recipes, or show some in detail
       roles [--format text|json]      list the roles of a node
       COMMAND [ARGS ...]              run any other command

variables (an argument wins over a variable, a variable over the recipe):
"""


def help_text() -> str:
    """The help of the entrypoint."""
    width = max(len(v.name) for v in VARIABLES)
    rows = (
        f"  {v.name:{width}}  {v.meaning}{f' (or {v.lws_variable})' if v.lws_variable else ''}"
        f"{f' (default: {v.default})' if v.default else ''}\n"
        for v in VARIABLES
    )
    codes = (
        "\nexit codes: 64 variable or argument, 65 recipe, 69 peer not reachable in time,"
        " 78 machine or image\n"
    )
    return USAGE_TEXT + "".join(rows) + codes


def plan_json(launch: Launch) -> str:
    """The plan as JSON."""
    return _dump(plan_data(launch))


def plan_data(launch: Launch) -> dict[str, Any]:
    """The plan as data, with secrets masked. `before`: only when something runs first.

    `sources`: of the variables that upstream's image sets, if there are any.
    """
    document: dict[str, Any] = {
        "role": launch.role,
        "env": masked_env(launch.env),
        "argv": list(masked(launch.argv)),
        "ports": launch.ports,
        "warnings": [
            {key: getattr(warning, key) for key in ("code", "message", "fix", "source")}
            for warning in launch.warnings
        ],
    }
    if launch.sources:
        document["sources"] = dict(launch.sources)
    if launch.before:
        document["before"] = [list(command) for command in launch.before]
    return document


def plan_text(launch: Launch) -> str:
    """The plan as a shell script, which takes secrets from the shell that runs it."""
    lines = ["#!/bin/sh", f"# {one_line(launch.title)}"]
    lines += [f"# warning: {one_line(warning.line())}" for warning in launch.warnings]
    lines += [f"# waits for {peer.name} at {peer.host}:{peer.port}" for peer in launch.peers]
    for name, value in launch.env.items():
        if is_secret(name):
            text = f'"${{{name}:?is a secret and not shown; set it first}}"'
        else:
            text = _expanding(value) if name in launch.expands else quote(value)
        source = launch.sources.get(name)
        lines.append(
            f"export {name}={text}" + (f"  # upstream's image: {source}" if source else "")
        )
    lines += [_command(command) for command in launch.before]
    if launch.npus:
        lines.append(f"# waits until `ray status` shows {launch.npus} NPUs")
    lines.append(_command(masked(launch.argv)))
    return "\n".join(lines) + "\n"


def _command(argv: Iterable[str]) -> str:
    """A command for a shell, one flag per line."""
    return " \\\n  ".join(command_lines(argv))


def command_lines(argv: Iterable[str]) -> list[str]:
    """A command quoted for a shell, as one text for each flag with its values."""
    command: list[str] = []
    for token in argv:
        if is_flag(token) or not command:
            command.append(quote(token))
        else:
            command[-1] += f" {quote(token)}"
    return command


def plan_env(launch: Launch) -> str:
    """The environment for `docker run --env-file`.

    A secret is a bare name, whose value docker takes from its own environment. A value that refers
    to other variables is a comment, because docker would pass it on unexpanded. Raises Refused
    when a value has a line break, which the format does not allow.
    """
    lines = []
    for name, value in launch.env.items():
        if is_secret(name):
            lines.append(name)
        elif "\n" in value or "\r" in value:
            raise refused("bad-env-file", variable=name)
        elif name in launch.expands:
            lines.append(f"# set by the entrypoint in the container: {name}={value}")
        else:
            lines.append(f"{name}={value}")
    return "\n".join(lines) + "\n"


def roles_json() -> str:
    """The roles as JSON."""
    return _dump(
        [{"name": r.name, "summary": r.summary, "needs": list(r.needs)} for r in ROLES.values()]
    )


def roles_text() -> str:
    """The roles, with the variables that each needs besides RECIPE or MODEL."""
    lines = []
    for role in ROLES.values():
        needs = f" [{', '.join(role.needs)}]" if role.needs else ""
        lines.append(f"{role.name:10} {role.summary}{needs}\n")
    return "".join(lines)


def is_secret(name: str) -> bool:
    """Whether the name of a variable marks a secret."""
    return _SECRET.search(name) is not None


def is_secret_key(name: str) -> bool:
    """Whether a key of a recipe holds a secret: a variable, or a flag without dashes."""
    return is_secret(name) or _is_secret_flag(f"--{name}")


def _is_secret_flag(name: str) -> bool:
    return name.replace("_", "-") in _SECRET_FLAGS


def masked_env(env: Mapping[str, str]) -> dict[str, str]:
    """The variables, with the values of secrets masked."""
    return {name: MASK if is_secret(name) else value for name, value in env.items()}


def masked(argv: Iterable[str]) -> Iterator[str]:
    """The arguments, with the values of secret flags masked."""
    secret = False
    for token in argv:
        name, joined, _ = token.partition("=")
        if is_flag(token):
            secret = _is_secret_flag(name)
            yield f"{name}={MASK}" if secret and joined else token
        else:
            yield MASK if secret else token


def quote(text: str) -> str:
    """The text as one word of a POSIX shell (shlex.quote, without importing shlex)."""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "'\"'\"'") + "'"


def _expanding(value: str) -> str:
    """The value as one word of a shell, in which only references to variables are expanded."""
    parts, at = [], 0
    for match in REFERENCE.finditer(value):
        parts += [(value[at : match.start()], False), (match[0], True)]
        at = match.end()
    parts.append((value[at:], False))
    if all(refers or not text or _PLAIN.fullmatch(text) for text, refers in parts):
        return f'"{value}"'
    return "".join(f'"{text}"' if refers else quote(text) for text, refers in parts if text)


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
