"""A cluster for NPUs as one for the processor: settings laid over its own, by processor.yaml.

The same compiler and the same entrypoint make the commands of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clusters.compile import deployment, recipe
from clusters.findings import ERROR
from clusters.model import Cluster, Instance, Override
from common.errors import EX_DATAERR, EX_UNAVAILABLE, Problem, UserError
from entrypoints.inputs import arguments, catalogue, recipes, stack
from entrypoints.inputs.arguments import Flag, key_of
from entrypoints.inputs.catalogue import Catalogue
from entrypoints.inputs.recipes import EXTRA, SIDES, Block, Sizes
from entrypoints.inputs.stack import Release
from entrypoints.problems import Problem as Refusal
from images.matrix import CPU
from rehearsal.changes import Changes
from rehearsal.rules import Rules, Value, why
from rehearsal.sizes import Machine, containers, scaled

LEFT_OUT, SET, LOWERED, REPLACED = "left out", "set", "lowered", "replaced"


@dataclass(frozen=True)
class Target:
    """Where it shall run. `facts`: of env/releases, `model`: its place in a container.

    `longest`: tokens that the model takes, None where that is not known.
    """

    facts: str
    model: str
    longest: int | None
    machine: Machine


def translate(cluster: Cluster, rules: Rules, target: Target) -> tuple[Cluster, tuple[str, ...]]:
    """The cluster on the processor, and what that has changed, in words.

    Raises UserError: 65 for a file that has errors, or roles that the processor does not have, 69
    for a machine that is too small.
    """
    roles = _checked(cluster, rules)
    need = containers(cluster.instances)
    if need * rules.worker.gib > target.machine.gib:
        what = (
            f"{need} servers need {need * rules.worker.gib:g} GiB of memory,"
            f" the machine has {target.machine.gib:.0f}"
        )
        fix = "take a part of the file, or --engine recorded"
        raise UserError([Problem(f"{cluster.file}: nodes", what, fix)], EX_UNAVAILABLE)
    problems: list[Refusal] = []
    release = stack.release(target.facts, problems)
    assert release is not None, problems
    changes = Changes(cluster.instances)
    share = target.machine.workers(rules.worker) // need
    work = _Work(rules, target, release, catalogue.load(release), share, changes)
    instances = {
        name: work.instance(cluster, one, roles[name], at)
        for at, (name, one) in enumerate(cluster.instances.items())
    }
    proxy = cluster.proxy
    if proxy:
        proxy = replace(proxy, env=work.kept(proxy.env, "proxy"))
    made = replace(
        cluster,
        release=target.facts,
        model=target.model,
        nodes={k: replace(v, platform=CPU, devices=None) for k, v in cluster.nodes.items()},
        instances=instances,
        proxy=proxy,
        run=replace(cluster.run, shm_gib=rules.shm_gib),
    )
    return made, tuple(changes.lines())


def _checked(cluster: Cluster, rules: Rules) -> dict[str, str]:
    """The role of every instance of a file without errors."""
    wrong = [one for one in deployment(cluster).findings if one.severity == ERROR]
    problems = [Problem(f"{one.file}:{one.line}: {one.where}", one.message) for one in wrong]
    roles = recipe.roles(cluster, [])
    for name, role in roles.items():
        if role in rules.refused:
            where = f"{cluster.file}:{cluster.line(('instances', name))}: instances.{name}"
            problems.append(Problem(where, rules.refused[role], "take --engine recorded"))
    if problems:
        raise UserError(problems, EX_DATAERR)
    return roles


@dataclass(frozen=True)
class _Work:
    """`share`: workers that each container may have."""

    rules: Rules
    target: Target
    release: Release
    known: Catalogue
    share: int
    changes: Changes

    def instance(self, cluster: Cluster, instance: Instance, role: str, at: int) -> Instance:
        """An instance with settings laid over its own. `at`: its place in the file."""
        if instance.command:
            return instance
        roles = recipe.roles(cluster, [])
        block = recipes.load(recipe.text(cluster, instance, roles)).groups[role]
        name = instance.name
        tokens = _Tokens(self.known, instance)
        args = self._args(block, tokens, name)
        env = self._env(block, name)
        kv, further = self._transfer(block, role, at, name)
        over: dict[str, Any] = {
            "args": args,
            "env": {**env, **further},
            "features": self._features(block, name),
            "kv_transfer": kv,
            "sizes": self._sizes(block, instance.each, name),
        }
        overrides = {
            node: Override(self._own(one.env, over["env"], name), tokens.kept(node))
            for node, one in instance.overrides.items()
        }
        if instance.external:
            self.changes.note(
                REPLACED, "a server for each rank by one", "the model has no experts", name
            )
        return replace(
            instance,
            devices=None,
            external=False,
            settings=_laid(over, instance.settings),
            arguments=tokens.kept(),
            overrides=overrides,
        )

    def kept(self, env: Mapping[str, str], who: str) -> dict[str, str]:
        """Variables without those for NPUs."""
        kept = {}
        for name, value in env.items():
            reason = self._variable(name, value)
            if reason:
                self.changes.note(LEFT_OUT, name, reason, who)
            else:
                kept[name] = value
        return kept

    def _own(self, env: Mapping[str, str], over: Mapping[str, Any], who: str) -> dict[str, str]:
        """A node's own variables, which would win over the recipe's."""
        return {k: v for k, v in self.kept(env, who).items() if over.get(k) is None}

    def _variable(self, name: str, value: str | None) -> str:
        problems: list[Refusal] = []
        catalogue.check_variables({name: value}, self.known, problems)
        reason = f"vLLM {self.known.vllm} does not read it" if problems else ""
        return why(name, self.rules.without.variables) or reason

    def _flag(self, flag: Flag) -> str:
        name = flag.name.lstrip("-").partition(".")[0]
        reason = why(name.removeprefix("no-"), self.rules.without.flags)
        problems: list[Refusal] = []
        catalogue.check_flags([flag], "", self.known, problems)
        unknown = any(one.code == "unknown-flag" for one in problems)
        return reason or (f"vLLM {self.known.vllm} does not know it" if unknown else "")

    def _args(self, block: Block, tokens: _Tokens, who: str) -> dict[str, Any]:
        """Flags to lay over the recipe's; what is left out of `tokens` is noted there."""
        over: dict[str, Any] = {}
        for flag in (*block.flags(), *tokens.flags):
            reason = self._flag(flag)
            if reason:
                self.changes.note(LEFT_OUT, _base(flag), reason, who)
                over[_base(flag)[2:]] = None
        have = {key_of(one): one for one in (*block.flags(), *tokens.flags)}
        for one in self.rules.given.flags:
            wanted = arguments.from_value(one.name, one.value)
            if have.get(key_of(wanted)) != wanted:
                self.changes.note(SET, " ".join((wanted.name, *wanted.values)), one.why, who)
                over[one.name] = one.value
        for one in self.rules.most:
            self._cap(one, have.get(f"--{one.name}"), over, who)
        tokens.drop(over)
        return over

    def _cap(self, cap: Value, flag: Flag | None, over: dict[str, Any], who: str) -> None:
        most = cap.value
        if cap.name == "max-model-len" and self.target.longest:
            most = min(most, self.target.longest)
        text = " ".join(flag.values) if flag else ""
        if text.isdecimal() and int(text) <= most:
            return
        over[cap.name] = most
        if text:
            self.changes.note(LOWERED, f"--{cap.name} from {text} to {most}", cap.why, who)
        else:
            self.changes.note(SET, f"--{cap.name} {most}", cap.why, who)

    def _env(self, block: Block, who: str) -> dict[str, str | None]:
        have = {name: value for name, value in block.env.items() if value is not None}
        kept = self.kept(have, who)
        over: dict[str, str | None] = {name: None for name in have if name not in kept}
        for one in self.rules.given.variables:
            if kept.get(one.name) != one.value:
                self.changes.note(SET, f"{one.name}={one.value}", one.why, who)
                over[one.name] = one.value
        return over

    def _features(self, block: Block, who: str) -> dict[str, None]:
        over: dict[str, None] = {}
        for name in block.features:
            form = self.release.features.get(name)
            reason = why(name, self.rules.without.features) or (form.missing if form else "")
            if reason:
                self.changes.note(LEFT_OUT, f"feature {name}", reason, who)
                over[name] = None
        return over

    def _sizes(self, block: Block, nodes: int, who: str) -> dict[str, int]:
        made = scaled(block.sizes, nodes, self.share, self.rules.tensor)
        if made == block.sizes:
            return {}
        machine = self.target.machine
        reason = f"{machine.cores} cores and {machine.gib:.0f} GiB of memory"
        what = f"sizes from {_said(block.sizes)} to {_said(made)}"
        self.changes.note(LOWERED, what, reason, who)
        return {k: v for k, v in made._asdict().items() if v is not None}

    def _transfer(
        self, block: Block, role: str, at: int, who: str
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The kv_transfer to lay over the recipe's, and the variables that it needs."""
        rule, have = self.rules.transfer, block.kv_transfer
        if role not in SIDES:
            if have:
                self.changes.note(LEFT_OUT, f"{have.get('kv_connector')}", rule.elsewhere, who)
            return {key: None for key in have}, {}
        was = str(have.get("kv_connector") or "the transfer")
        keys = " ".join(f"{key}={value}" for key, value in rule.keys.items())
        self.changes.note(REPLACED, f"{was} by {rule.connector}, {keys}", rule.why, who)
        extra = {key: None for key in have.get(EXTRA) or {}}
        port = str(rule.port.first + at * rule.port.step)
        variables = {**rule.variables, rule.port.variable: port}
        for name, value in variables.items():
            self.changes.note(SET, f"{name}={value}", f"for {rule.connector}", who)
        return {"kv_connector": rule.connector, **rule.keys, EXTRA: extra}, variables


class _Tokens:
    """Arguments of an instance and of its nodes, as flags with full names."""

    def __init__(self, known: Catalogue, instance: Instance) -> None:
        given = {node: one.arguments for node, one in instance.overrides.items()}
        self._flags = {
            place: self._parsed(words, known)
            for place, words in {"": instance.arguments, **given}.items()
        }

    @staticmethod
    def _parsed(words: Sequence[str], known: Catalogue) -> list[Flag]:
        flags = arguments.parse(words, known.aliases, [])
        return [catalogue.resolve(flag, known) for flag in flags]

    @property
    def flags(self) -> list[Flag]:
        return [flag for flags in self._flags.values() for flag in flags]

    def drop(self, over: Mapping[str, Any]) -> None:
        """Take out what would win over the settings."""
        self._flags = {
            place: [flag for flag in flags if _base(flag)[2:] not in over]
            for place, flags in self._flags.items()
        }

    def kept(self, node: str = "") -> tuple[str, ...]:
        return tuple(
            word
            for name, values in self._flags[node]
            for word in arguments.render({name: (Flag(name, values),)})
        )


def _base(flag: Flag) -> str:
    """The flag's key, of the whole for one key inside a JSON flag."""
    return key_of(flag).partition(".")[0]


def _laid(over: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others over them, whatever spelling the flags of the former have."""
    made = dict(settings)
    for key, value in over.items():
        if value:
            old = made.get(key) or {}
            kept = {k: v for k, v in old.items() if key != "args" or _plain(k) not in value}
            made[key] = {**kept, **value}
    return made


def _plain(name: str) -> str:
    return name.replace("_", "-").removeprefix("no-")


def _said(sizes: Sizes) -> str:
    return " ".join(f"{k} {v}" for k, v in sizes._asdict().items() if v is not None)
