"""A cluster for NPUs as one for the processor: the settings of its instances, by processor.yaml.

The same compiler and the same entrypoint make the commands of both. Recipes are written out: the
image need not have them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clusters.compile import deployment, recipe
from clusters.model import Cluster, Instance, Override
from common.errors import ERROR, EX_DATAERR, EX_UNAVAILABLE, Finding, UserError
from entrypoints.inputs import arguments, catalogue, recipes, stack
from entrypoints.inputs.arguments import Flag, key_of
from entrypoints.inputs.catalogue import Catalogue
from entrypoints.inputs.recipes import SIDES, Block, Sizes
from entrypoints.inputs.stack import Release
from entrypoints.problems import Problem as Refusal
from images.matrix import CPU
from validation.rehearsal.changes import LEFT_OUT, LOWERED, REPLACED, SET, Changes
from validation.rehearsal.rules import Rules, Value, why
from validation.rehearsal.sizes import Machine, containers, scaled

_SIZES = {
    "--tensor-parallel-size": "tp",
    "--pipeline-parallel-size": "pp",
    "--data-parallel-size": "dp",
    "--data-parallel-size-local": "dp_local",
    "--prefill-context-parallel-size": "pcp",
}


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
        raise UserError([Finding(f"{cluster.file}: nodes", what, fix)], EX_UNAVAILABLE)
    problems: list[Refusal] = []
    release = stack.release(target.facts, problems)
    assert release is not None, problems
    changes = Changes(cluster.instances)
    share = target.machine.workers(rules.worker) // need
    written = {
        name: recipes.load(recipe.text(cluster, one, roles))
        for name, one in cluster.instances.items()
    }
    served = next((one.served_model_name for one in written.values()), ())
    work = _Work(rules, target, release, catalogue.load(release), share, changes)
    parts = [(name, part) for name, one in cluster.instances.items() for part in _apart(one)]
    instances = {
        part.name: work.instance(part, one, roles[one], written[one].groups.get(roles[one]), at)
        for at, (one, part) in enumerate(parts)
    }
    proxy = cluster.proxy
    if proxy:
        proxy = replace(proxy, env=work.kept(proxy.env, "proxy"))
    made = replace(
        cluster,
        release=target.facts,
        recipe=None,
        model=target.model,
        served_model_name=cluster.served_model_name or "".join(served[:1]),
        settings={},
        nodes={k: replace(v, platform=CPU, devices=None) for k, v in cluster.nodes.items()},
        instances=instances,
        proxy=proxy,
        run=replace(cluster.run, shm_gib=rules.shm_gib),
    )
    return made, tuple(changes.lines())


def _checked(cluster: Cluster, rules: Rules) -> dict[str, str]:
    """The role of every instance of a file without errors."""
    wrong = [one for one in deployment(cluster).findings if one.severity == ERROR]
    problems = [Finding(f"{one.file}:{one.line}: {one.where}", one.message) for one in wrong]
    roles = recipe.roles(cluster, [])
    for name, role in roles.items():
        if role in rules.refused:
            where = f"{cluster.file}:{cluster.line(('instances', name))}: instances.{name}"
            problems.append(Finding(where, rules.refused[role], "take --engine recorded"))
    if problems:
        raise UserError(problems, EX_DATAERR)
    return roles


def _apart(instance: Instance) -> Iterator[Instance]:
    """The instance; replicas that share a node as instances, for each has ports of its own."""
    if len(set(instance.nodes)) == len(instance.nodes):
        yield instance
        return
    for replica in range(instance.replicas):
        nodes = instance.nodes[replica * instance.each : (replica + 1) * instance.each]
        yield replace(instance, name=f"{instance.name}-{replica}", nodes=nodes, replicas=1)


@dataclass(frozen=True)
class _Work:
    """`share`: workers that each container may have."""

    rules: Rules
    target: Target
    release: Release
    known: Catalogue
    share: int
    changes: Changes

    def instance(
        self, instance: Instance, name: str, role: str, block: Block | None, at: int
    ) -> Instance:
        """An instance with settings that need no recipe; one with a command of its own has none.

        `name`: the file's for it. `at`: its place among all instances.
        """
        if instance.command or block is None:
            return replace(instance, role=role, devices=None, settings={})
        tokens = _Tokens(self.known, instance)
        block = block._replace(sizes=tokens.sizes().over(block.sizes))
        kv, further = self._transfer(block, role, at, name)
        stated = {"port": block.port, "dp_rpc_port": block.dp_rpc_port}
        settings = {
            **{key: value for key, value in stated.items() if value is not None},
            "sizes": self._sizes(block, instance.each, name),
            "features": self._features(block, name),
            "env": {**self._env(block, name), **further},
            "args": self._args(block, tokens, name),
            "kv_transfer": kv,
        }
        if block.concurrency:
            self.changes.note(LEFT_OUT, "concurrency", self.rules.concurrency, name)
        if instance.external:
            self.changes.note(REPLACED, "a server for each rank by one", self.rules.external, name)
        return replace(
            instance,
            role=role,
            devices=None,
            external=False,
            settings={key: value for key, value in settings.items() if value != {}},
            arguments=tokens.kept(),
            overrides={
                node: Override(self._own(one.env, further, name), tokens.kept(node))
                for node, one in instance.overrides.items()
            },
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

    def _variable(self, name: str, value: str) -> str:
        if name in self._given():
            return ""
        problems: list[Refusal] = []
        catalogue.check_variables({name: value}, self.known, problems)
        reason = f"vLLM {self.known.vllm} does not read it" if problems else ""
        return why(name, self.rules.without.variables) or reason

    def _given(self) -> dict[str, Value]:
        return {one.name: one for one in self.rules.given.variables}

    def _env(self, block: Block, who: str) -> dict[str, str]:
        env = self.kept({k: v for k, v in block.env.items() if v is not None}, who)
        for name, one in self._given().items():
            if env.get(name) != one.value:
                self.changes.note(SET, f"{name}={one.value}", one.why, who)
                env[name] = one.value
        return env

    def _own(self, env: Mapping[str, str], further: Mapping[str, str], who: str) -> dict[str, str]:
        """A node's own variables, which would win over the instance's."""
        given = self._given()
        for name, one in given.items():
            if env.get(name, one.value) != one.value:
                self.changes.note(SET, f"{name}={one.value}", one.why, who)
        kept = self.kept(env, who)
        return {k: v for k, v in kept.items() if k not in given and k not in further}

    def _flag(self, flag: Flag) -> str:
        """Why a flag is left out; empty when it stays."""
        reason = why(_base(flag), self.rules.without.flags)
        problems: list[Refusal] = []
        catalogue.check_flags([flag], "", self.known, problems)
        unknown = any(one.code == "unknown-flag" for one in problems)
        return reason or (f"vLLM {self.known.vllm} does not know it" if unknown else "")

    def _args(self, block: Block, tokens: _Tokens, who: str) -> dict[str, Any]:
        """The flags of the settings; `tokens` lose those that would win over them."""
        own = [catalogue.resolve(one, self.known) for one in block.flags()]
        flags = (*own, *tokens.flags)
        without = set()
        for flag in flags:
            reason = self._flag(flag)
            if reason:
                self.changes.note(LEFT_OUT, f"--{_base(flag)}", reason, who)
                without.add(_base(flag))
        have = {_base(one): one for one in flags}
        made: dict[str, Any] = {}
        for one in self.rules.given.flags:
            wanted = arguments.from_value(one.name, one.value)
            if have.get(one.name) != wanted:
                self.changes.note(SET, " ".join((wanted.name, *wanted.values)), one.why, who)
                made[one.name] = one.value
        for one in self.rules.most:
            made.update(self._cap(one, have.get(one.name), who))
        tokens.drop({*without, *made})
        kept = {_base(one): _value(one) for one in own if _base(one) not in without}
        return {**kept, **made}

    def _cap(self, cap: Value, flag: Flag | None, who: str) -> dict[str, int]:
        most = cap.value
        if cap.name == "max-model-len" and self.target.longest:
            most = min(most, self.target.longest)
        text = " ".join(flag.values) if flag else ""
        if text.isdecimal() and int(text) <= most:
            return {}
        if text:
            self.changes.note(LOWERED, f"--{cap.name} from {text} to {most}", cap.why, who)
        else:
            self.changes.note(SET, f"--{cap.name} {most}", cap.why, who)
        return {cap.name: most}

    def _features(self, block: Block, who: str) -> dict[str, Any]:
        kept = {}
        for name, value in block.features.items():
            form = self.release.features.get(name)
            reason = why(name, self.rules.without.features) or (form.missing if form else "")
            if reason:
                self.changes.note(LEFT_OUT, f"feature {name}", reason, who)
            else:
                kept[name] = value
        return kept

    def _sizes(self, block: Block, nodes: int, who: str) -> dict[str, int]:
        made = scaled(block.sizes, nodes, self.share, self.rules.tensor)
        if made != block.sizes:
            machine = self.target.machine
            reason = f"{machine.cores} cores and {machine.gib:.0f} GiB of memory"
            what = f"sizes from {_said(block.sizes)} to {_said(made)}"
            self.changes.note(LOWERED, what, reason, who)
        return {k: v for k, v in made._asdict().items() if v is not None}

    def _transfer(
        self, block: Block, role: str, at: int, who: str
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The kv_transfer of the settings, and the variables that it needs."""
        rule, have = self.rules.transfer, block.kv_transfer
        if role not in SIDES:
            if have:
                self.changes.note(LEFT_OUT, f"{have.get('kv_connector')}", rule.elsewhere, who)
            return {}, {}
        was = str(have.get("kv_connector") or "the transfer")
        keys = " ".join(f"{key}={value}" for key, value in rule.keys.items())
        self.changes.note(REPLACED, f"{was} by {rule.connector}, {keys}", rule.why, who)
        port = str(rule.port.first + at * rule.port.step)
        variables = {**rule.variables, rule.port.variable: port}
        for name, value in variables.items():
            self.changes.note(SET, f"{name}={value}", f"for {rule.connector}", who)
        same = {key: value for key, value in have.items() if key in rule.kept}
        return {**same, "kv_connector": rule.connector, **rule.keys}, variables


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

    def sizes(self) -> Sizes:
        """Those that arguments give."""
        return Sizes(
            **{
                _SIZES[flag.name]: int(flag.values[0])
                for flag in self._flags[""]
                if flag.name in _SIZES and flag.values and flag.values[0].isdecimal()
            }
        )

    def drop(self, names: Collection[str]) -> None:
        self._flags = {
            place: [flag for flag in flags if _base(flag) not in names]
            for place, flags in self._flags.items()
        }

    def kept(self, node: str = "") -> tuple[str, ...]:
        words = (arguments.render({flag.name: (flag,)}) for flag in self._flags[node])
        return tuple(word for those in words for word in those)


def _base(flag: Flag) -> str:
    """The flag without dashes: of `--no-x` x, of one key inside a JSON flag the whole."""
    return key_of(flag).lstrip("-").partition(".")[0]


def _value(flag: Flag) -> Any:
    """As a recipe has it: the reverse of from_value."""
    if not flag.values:
        return key_of(flag) == flag.name
    values = [int(one) if one.isdecimal() else one for one in flag.values]
    return values[0] if len(values) == 1 else values


def _said(sizes: Sizes) -> str:
    return " ".join(f"{k} {v}" for k, v in sizes._asdict().items() if v is not None)
