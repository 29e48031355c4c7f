"""Compares the plans of the files with the scripts, and adds overrides where they differ."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters.checks import load_deployment
from clusters.deployment import Container, Deployment
from clusters.importing import servers, write
from clusters.importing.layout import Group, Layout
from clusters.importing.servers import TRANSFER, Server, same_flags
from clusters.importing.settings import VISIBLE_DEVICES, device_numbers
from clusters.importing.write import Files
from common.errors import Finding
from entrypoints.inputs import arguments, references
from entrypoints.inputs.arguments import Flag
from entrypoints.inputs.catalogue import Catalogue
from entrypoints.inputs.settings import NAMES

RECIPE, CLUSTER = "recipe.yaml", "cluster.yaml"
_SETTABLE = ("JEMALLOC", "RAY_ARGS")
_Pair = tuple[Server, "Container | None"]


@dataclass(frozen=True)
class Difference:
    """A difference between a plan and its script. `got`: the plan's value, or None."""

    server: Server
    what: str  # a flag, a variable, or "model"
    want: Any
    got: Any
    variable: bool = False

    @property
    def irreproducible(self) -> bool:
        """Whether this is a variable that no file can set as the script does."""
        return self.variable and (_not_settable(self.what) or self.got == self.want)

    def __str__(self) -> str:
        shown = self.want
        if isinstance(shown, tuple):
            shown = " ".join(word for flag in shown for word in (flag.name, *flag.values))
        elif self.variable:
            shown = f"{self.what}={shown}"
        return f"{self.server.script.at}: {shown}"


@dataclass(frozen=True)
class Comparison:
    """`added`: flags of a plan that are not in its script, by the place of the script."""

    findings: tuple[Finding, ...]
    lost: tuple[Difference, ...]
    added: Mapping[str, tuple[str, ...]]
    commands: tuple[str, ...]  # instances that run the script's own command
    flags: int
    variables: int


def compare(files: Files, layout: Layout, known: Catalogue) -> Comparison:
    """Plan the files and compare; add overrides for differences, and plan again."""
    for _ in range(3):
        deployment, pairs, differences = _attempt(files, layout, known)
        if not any(differences.values()) or not _move_to_overrides(files, layout, differences):
            break
    lost = [one for those in differences.values() for one in those]
    broken = {one.server.script.at for one in lost if not one.variable}
    commands = [
        name
        for group in layout.groups
        if any(server.script.at in broken for server in group.servers)
        for name in _run_as_commands(files, group)
    ]
    if commands:
        deployment, pairs, differences = _attempt(files, layout, known)
        lost = [one for those in differences.values() for one in those]
    return Comparison(
        findings=deployment.findings,
        lost=tuple(lost),
        added={server.script.at: a for server, c in pairs if (a := _added(server, c, known))},
        commands=tuple(commands),
        flags=sum(len(server.flags) + bool(server.model) for server, _ in pairs),
        variables=sum(len(server.env) for server, _ in pairs),
    )


def _attempt(
    files: Files, layout: Layout, known: Catalogue
) -> tuple[Deployment, list[_Pair], dict[int, list[Difference]]]:
    """Plan the files. Returns the servers with their containers, and id(server) -> differences."""
    deployment = plan(files)
    pairs = list(_pairs(layout, deployment))
    return deployment, pairs, {id(one): list(_differences(one, its, known)) for one, its in pairs}


def plan(files: Files) -> Deployment:
    """The deployment of both files."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / RECIPE).write_text(write.text(files.recipe), encoding="utf-8")
        path = Path(folder) / CLUSTER
        path.write_text(write.text(files.cluster), encoding="utf-8")
        return load_deployment(path)


def _pairs(layout: Layout, deployment: Deployment) -> Iterator[_Pair]:
    by_place = {(one.instance, one.rank): one for one in deployment.containers}
    for group in layout.groups:
        for rank, member in enumerate(group.members):
            if member.server is None:
                continue
            alone = by_place.get((f"{group.name}-{rank}", 0))
            yield member.server, by_place.get((group.name, rank), alone)


def _planned(container: Container | None, known: Catalogue) -> tuple[str, Any, dict[str, str]]:
    """Model, flags and variables of a container."""
    if container is None:
        return "", {}, {}
    launch = None if container.command else container.launch
    env = {**container.env, **(launch.env if launch else {})}
    argv: Sequence[str] = launch.argv if launch else container.command
    if tuple(argv[:2]) != ("vllm", "serve"):
        return "", {}, env
    model, flags = servers.parse_argv(argv, known)
    return model, flags, env


def _differences(
    server: Server, container: Container | None, known: Catalogue
) -> Iterator[Difference]:
    model, flags, env = _planned(container, known)
    if server.model and model != server.model:
        yield Difference(server, "model", (Flag(server.model),), model)
    for key, want in server.flags.items():
        if not same_flags(want, flags.get(key)):
            yield Difference(server, key, want, flags.get(key))
    for name, text in server.env.items():
        if name in NAMES and servers.states(server, name, text):
            continue  # a variable of the script, whose value is in the command
        kept = env.get(name) == text and not _unfilled(container, server, name, text)
        if not kept and not (name == VISIBLE_DEVICES and _has_devices(container, text)):
            yield Difference(server, name, text, env.get(name), True)


def _unfilled(container: Container | None, server: Server, name: str, text: str) -> bool:
    """Whether a container gets a reference unresolved: only those in a recipe are resolved."""
    refers = bool(references.names(text)) and name not in server.script.literal
    return refers and not (container and container.launch and name in container.launch.env)


def _has_devices(container: Container | None, text: str) -> bool:
    """Whether a container has exactly the devices that a variable names."""
    given = container.devices if container and not container.whole else None
    return given == device_numbers(text)


def _added(server: Server, container: Container | None, known: Catalogue) -> tuple[str, ...]:
    flags = {} if server.worker else _planned(container, known)[1]
    return tuple(
        " ".join((one.name, *one.values))
        for key, those in flags.items()
        if key not in server.flags
        for one in those
    )


def _not_settable(name: str) -> bool:
    """Whether no file can set a variable of a container."""
    return (name in NAMES and name not in _SETTABLE) or not re.fullmatch(r"[A-Za-z_][\w-]*", name)


def _move_to_overrides(
    files: Files, layout: Layout, differences: Mapping[int, Sequence[Difference]]
) -> bool:
    """Add differences to the arguments of the instance, or to the overrides of a node."""
    changed = False
    for group in layout.groups:
        instance = files.cluster["instances"][group.name]
        members = [member for member in group.members if member.server]
        words = [tuple(_words(differences[id(member.server)])) for member in members]
        if words and words[0] and len(set(words)) == 1 and len(members) == len(group.members):
            instance["arguments"] = [*instance.get("arguments", ()), *words[0]]
            words, changed = [()] * len(words), True
        for node in dict.fromkeys(member.machine.name for member in members):
            here = [i for i, member in enumerate(members) if member.machine.name == node]
            own = {words[i] for i in here}
            env = {tuple(_variables(differences[id(members[i].server)])) for i in here}
            # An override holds for all ranks of a node: none when they differ.
            own_words = own.pop() if len(own) == 1 else ()
            own_env = env.pop() if len(env) == 1 else ()
            if own_words or own_env:
                write.add_override(instance, node, dict(own_env), own_words)
                changed = True
    return changed


def _variables(differences: Sequence[Difference]) -> Iterator[tuple[str, str]]:
    for one in differences:
        if one.variable and not one.irreproducible:
            yield one.what, one.want


def _words(differences: Sequence[Difference]) -> Iterator[str]:
    for one in differences:
        if one.variable:
            continue
        if one.what == "model":
            yield from ("--model", one.want[0].name)
        elif one.what == TRANSFER and (dotted := _dotted_flags(one)):
            yield from dotted
        else:
            yield from arguments.render({one.what: one.want})


def _dotted_flags(one: Difference) -> list[str]:
    """The missing keys of a KV transfer as flags; empty if they do not make it equal."""
    want = arguments.json_of({"": one.want}, "")
    got = arguments.json_of({"": one.got}, "") if one.got else None
    if not isinstance(want, dict) or not isinstance(got, dict):
        return []
    keys = list(_differing_keys(want, got, TRANSFER))
    words = [word for key, value in keys for word in (key, arguments.scalar(value))]
    flags = [Flag(key, (arguments.scalar(value),)) for key, value in keys]
    result = arguments.merge({TRANSFER: one.got}, flags)
    return words if len(keys) < 5 and same_flags(result[TRANSFER], one.want) else []


def _differing_keys(
    want: Mapping[str, Any], got: Mapping[str, Any], at: str
) -> Iterator[tuple[str, Any]]:
    for key, value in want.items():
        if "." in key or key.endswith("+"):
            continue
        if isinstance(value, dict) and isinstance(got.get(key), dict):
            yield from _differing_keys(value, got[key], f"{at}.{key}")
        elif key not in got or got[key] != value or type(got[key]) is not type(value):
            yield f"{at}.{key}", value


def _run_as_commands(files: Files, group: Group) -> list[str]:
    """Run each server of a group with the command of its script, as a last resort."""
    instances = files.cluster["instances"]
    result: dict[str, Any] = {}
    role = instances[group.name].get("role") or group.name
    for rank, member in enumerate(group.members):
        if (server := member.server) is None:
            continue
        name = group.name if len(group.servers) == 1 else f"{group.name}-{rank}"
        one: dict[str, Any] = {"role": role, "nodes": [member.machine.name]}
        if name == role:
            del one["role"]
        if "port" in server.numbers:
            one["ports"] = {"api": server.numbers["port"]}
        one["command"] = ["vllm", "serve", server.model, *arguments.render(dict(server.flags))]
        if env := {name: text for name, text in server.env.items() if not _not_settable(name)}:
            one["overrides"] = {member.machine.name: {"env": env}}
        result[name] = one
    files.cluster["instances"] = {
        name: one
        for old, whole in instances.items()
        for name, one in (result if old == group.name else {old: whole}).items()
    }
    return list(result)
