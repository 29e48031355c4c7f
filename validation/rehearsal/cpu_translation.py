"""Translate a cluster for NPUs to vLLM on the CPU: the settings of its instances, by cpu_rules.

The usual compiler and entrypoint then make its commands. Recipes are expanded, since the image need
not contain them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clusters.compile import deployment, recipe
from clusters.model import Cluster, Instance, Override
from common.errors import EX_DATAERR, EX_UNAVAILABLE, Finding, UserError
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.inputs import arguments, catalogue, recipes, stack
from entrypoints.inputs.arguments import Flag, key_of
from entrypoints.inputs.catalogue import Catalogue
from entrypoints.inputs.recipes import SIDES, Block, Sizes
from entrypoints.inputs.stack import Release
from images.matrix import CPU
from validation.rehearsal.change_log import LEFT_OUT, LOWERED, REPLACED, SET, ChangeLog
from validation.rehearsal.cpu_rules import Limit, Rules, VariableValue, reason
from validation.rehearsal.deployment import raise_errors
from validation.rehearsal.parallel_sizes import Machine, container_count, scale

_SIZES = {
    "--tensor-parallel-size": "tp",
    "--pipeline-parallel-size": "pp",
    "--data-parallel-size": "dp",
    "--data-parallel-size-local": "dp_local",
    "--prefill-context-parallel-size": "pcp",
}


@dataclass(frozen=True)
class Target:
    """What to translate to. `facts`: of env/releases. `model`: its path in a container.

    `longest`: the context of the model in tokens, None if unknown.
    """

    facts: str
    model: str
    longest: int | None
    machine: Machine


def translate(cluster: Cluster, rules: Rules, target: Target) -> tuple[Cluster, tuple[str, ...]]:
    """Return the translated cluster, and a line for each change.

    Raises UserError: 65 for a file with errors or roles that the CPU does not support, 69 for a
    machine that is too small.
    """
    roles = _check_roles(cluster, rules)
    need = container_count(cluster.instances)
    if need * rules.worker.gib > target.machine.gib:
        what = (
            f"{need} servers need {need * rules.worker.gib:g} GiB of memory,"
            f" the machine has {target.machine.gib:.0f}"
        )
        fix = "rehearse a part of the file, or use --engine recorded"
        raise UserError([Finding(f"{cluster.file}: nodes", what, fix)], EX_UNAVAILABLE)
    problems: list[LaunchFinding] = []
    release = stack.release(target.facts, problems)
    assert release is not None, problems
    changes = ChangeLog(cluster.instances)
    share = target.machine.workers(rules.worker) // need
    expanded = {
        name: recipes.load(recipe.text(cluster, one, roles))
        for name, one in cluster.instances.items()
    }
    served = next((one.served_model_name for one in expanded.values()), ())
    translator = _Translator(rules, target, release, catalogue.load(release), share, changes)
    parts = [(name, part) for name, one in cluster.instances.items() for part in _split(one)]
    instances = {
        part.name: translator.instance(
            part, name, roles[name], expanded[name].groups.get(roles[name]), i
        )
        for i, (name, part) in enumerate(parts)
    }
    proxy = cluster.proxy
    if proxy:
        proxy = replace(proxy, env=translator.filter_env(proxy.env, "proxy"))
    translated = replace(
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
    return translated, tuple(changes.lines())


def _check_roles(cluster: Cluster, rules: Rules) -> dict[str, str]:
    """The role of each instance, all of which the CPU supports."""
    raise_errors(deployment(cluster))
    problems = []
    roles = recipe.roles(cluster, [])
    for name, role in roles.items():
        if role in rules.unsupported:
            where = f"{cluster.file}:{cluster.line(('instances', name))}: instances.{name}"
            problems.append(Finding(where, rules.unsupported[role], "use --engine recorded"))
    if problems:
        raise UserError(problems, EX_DATAERR)
    return roles


def _split(instance: Instance) -> Iterator[Instance]:
    """Split replicas that share a node into instances, since each needs its own ports."""
    if len(set(instance.nodes)) == len(instance.nodes):
        yield instance
        return
    for replica in range(instance.replicas):
        nodes = instance.nodes[replica * instance.each : (replica + 1) * instance.each]
        yield replace(instance, name=f"{instance.name}-{replica}", nodes=nodes, replicas=1)


@dataclass(frozen=True)
class _Translator:
    """`share`: workers for each container."""

    rules: Rules
    target: Target
    release: Release
    known: Catalogue
    share: int
    changes: ChangeLog

    def instance(
        self, instance: Instance, name: str, role: str, block: Block | None, index: int
    ) -> Instance:
        """The instance with settings that replace the recipe's; without any if it has a `command`.

        `name`: in the file. `index`: among all instances.
        """
        if instance.command or block is None:
            return replace(instance, role=role, devices=None, settings={})
        tokens = _Tokens(self.known, instance)
        block = block._replace(sizes=tokens.sizes().over(block.sizes))
        kv, transfer_env = self._transfer(block, role, index, name)
        stated = {"port": block.port, "dp_rpc_port": block.dp_rpc_port}
        settings = {
            **{key: value for key, value in stated.items() if value is not None},
            "sizes": self._sizes(block, instance.each, name),
            "features": self._features(block, name),
            "env": {**self._env(block, name), **transfer_env},
            "args": self._args(block, tokens, name),
            "kv_transfer": kv,
        }
        if block.concurrency:
            self.changes.add(LEFT_OUT, "concurrency", self.rules.concurrency, name)
        if instance.external:
            self.changes.add(
                REPLACED, "a server for each rank with one server", self.rules.external, name
            )
        return replace(
            instance,
            role=role,
            devices=None,
            external=False,
            settings={key: value for key, value in settings.items() if value != {}},
            arguments=tokens.render(),
            overrides={
                node: Override(self._node_env(one.env, transfer_env, name), tokens.render(node))
                for node, one in instance.overrides.items()
            },
        )

    def filter_env(self, env: Mapping[str, str], who: str) -> dict[str, str]:
        """The variables, less those for NPUs."""
        kept = {}
        for name, value in env.items():
            why = self._variable_reason(name, value)
            if why:
                self.changes.add(LEFT_OUT, name, why, who)
            else:
                kept[name] = value
        return kept

    def _variable_reason(self, name: str, value: str) -> str:
        """Why a variable is left out; empty if it stays."""
        if name in self._overrides():
            return ""
        problems: list[LaunchFinding] = []
        catalogue.check_variables({name: value}, self.known, problems)
        unread = f"vLLM {self.known.vllm} does not read it" if problems else ""
        return reason(name, self.rules.remove.variables) or unread

    def _overrides(self) -> dict[str, VariableValue]:
        return {one.name: one for one in self.rules.override.variables}

    def _env(self, block: Block, who: str) -> dict[str, str]:
        env = self.filter_env({k: v for k, v in block.env.items() if v is not None}, who)
        for name, one in self._overrides().items():
            if env.get(name) != one.value:
                self.changes.add(SET, f"{name}={one.value}", one.why, who)
                env[name] = one.value
        return env

    def _node_env(
        self, env: Mapping[str, str], transfer_env: Mapping[str, str], who: str
    ) -> dict[str, str]:
        """A node's own variables, less those that would override the translation."""
        overrides = self._overrides()
        for name, one in overrides.items():
            if env.get(name, one.value) != one.value:
                self.changes.add(SET, f"{name}={one.value}", one.why, who)
        kept = self.filter_env(env, who)
        return {k: v for k, v in kept.items() if k not in overrides and k not in transfer_env}

    def _flag_reason(self, flag: Flag) -> str:
        """Why a flag is left out; empty if it stays."""
        why = reason(_base(flag), self.rules.remove.flags)
        problems: list[LaunchFinding] = []
        catalogue.check_flags([flag], "", self.known, problems)
        unknown = any(one.code == "unknown-flag" for one in problems)
        return why or (f"vLLM {self.known.vllm} does not know it" if unknown else "")

    def _args(self, block: Block, tokens: _Tokens, who: str) -> dict[str, Any]:
        """The flags of the settings; drops those from `tokens` that would override them."""
        own = [catalogue.resolve(one, self.known) for one in block.flags()]
        flags = (*own, *tokens.flags)
        removed = set()
        for flag in flags:
            why = self._flag_reason(flag)
            if why:
                self.changes.add(LEFT_OUT, f"--{_base(flag)}", why, who)
                removed.add(_base(flag))
        have = {_base(one): one for one in flags}
        changed: dict[str, Any] = {}
        for one in self.rules.override.flags:
            wanted = arguments.from_value(one.name, one.value)
            if have.get(one.name) != wanted:
                self.changes.add(SET, " ".join((wanted.name, *wanted.values)), one.why, who)
                changed[one.name] = one.value
        for limit in self.rules.limits:
            changed.update(self._limit(limit, have.get(limit.name), who))
        tokens.drop({*removed, *changed})
        kept = {_base(one): _value(one) for one in own if _base(one) not in removed}
        return {**kept, **changed}

    def _limit(self, limit: Limit, flag: Flag | None, who: str) -> dict[str, int]:
        highest = limit.value
        if limit.name == "max-model-len" and self.target.longest:
            highest = min(highest, self.target.longest)
        text = " ".join(flag.values) if flag else ""
        if text.isdecimal() and int(text) <= highest:
            return {}
        if text:
            self.changes.add(LOWERED, f"--{limit.name} from {text} to {highest}", limit.why, who)
        else:
            self.changes.add(SET, f"--{limit.name} {highest}", limit.why, who)
        return {limit.name: highest}

    def _features(self, block: Block, who: str) -> dict[str, Any]:
        kept = {}
        for name, value in block.features.items():
            form = self.release.features.get(name)
            why = reason(name, self.rules.remove.features) or (form.missing if form else "")
            if why:
                self.changes.add(LEFT_OUT, f"feature {name}", why, who)
            else:
                kept[name] = value
        return kept

    def _sizes(self, block: Block, nodes: int, who: str) -> dict[str, int]:
        scaled = scale(block.sizes, nodes, self.share, self.rules.max_tensor_parallel)
        if scaled != block.sizes:
            machine = self.target.machine
            why = f"{machine.cores} cores and {machine.gib:.0f} GiB of memory"
            what = f"sizes from {_sizes_text(block.sizes)} to {_sizes_text(scaled)}"
            self.changes.add(LOWERED, what, why, who)
        return {k: v for k, v in scaled._asdict().items() if v is not None}

    def _transfer(
        self, block: Block, role: str, index: int, who: str
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The kv_transfer of the settings, and the variables for it."""
        rule, old = self.rules.transfer, block.kv_transfer
        if role not in SIDES:
            if old:
                self.changes.add(LEFT_OUT, f"{old.get('kv_connector')}", rule.elsewhere, who)
            return {}, {}
        connector = str(old.get("kv_connector") or "the transfer")
        keys = " ".join(f"{key}={value}" for key, value in rule.keys.items())
        self.changes.add(REPLACED, f"{connector} with {rule.connector}, {keys}", rule.why, who)
        port = str(rule.port.first + index * rule.port.step)
        variables = {**rule.variables, rule.port.variable: port}
        for name, value in variables.items():
            self.changes.add(SET, f"{name}={value}", f"for {rule.connector}", who)
        kept = {key: value for key, value in old.items() if key in rule.keep}
        return {**kept, "kv_connector": rule.connector, **rule.keys}, variables


class _Tokens:
    """The arguments of an instance and of its nodes, as flags with their full names."""

    def __init__(self, known: Catalogue, instance: Instance) -> None:
        by_node = {node: one.arguments for node, one in instance.overrides.items()}
        self._flags = {
            place: self._parse(words, known)
            for place, words in {"": instance.arguments, **by_node}.items()
        }

    @staticmethod
    def _parse(words: Sequence[str], known: Catalogue) -> list[Flag]:
        flags = arguments.parse(words, known.aliases, [])
        return [catalogue.resolve(flag, known) for flag in flags]

    @property
    def flags(self) -> list[Flag]:
        return [flag for flags in self._flags.values() for flag in flags]

    def sizes(self) -> Sizes:
        """The parallel sizes among the arguments."""
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

    def render(self, node: str = "") -> tuple[str, ...]:
        words = (arguments.render({flag.name: (flag,)}) for flag in self._flags[node])
        return tuple(word for those in words for word in those)


def _base(flag: Flag) -> str:
    """The flag without dashes: `x` for `--no-x`, the whole flag for one key of a JSON flag."""
    return key_of(flag).lstrip("-").partition(".")[0]


def _value(flag: Flag) -> Any:
    """The value as in a recipe: the reverse of from_value."""
    if not flag.values:
        return key_of(flag) == flag.name
    values = [int(one) if one.isdecimal() else one for one in flag.values]
    return values[0] if len(values) == 1 else values


def _sizes_text(sizes: Sizes) -> str:
    return " ".join(f"{k} {v}" for k, v in sizes._asdict().items() if v is not None)
