"""Writes the recipe and the cluster file of a layout, as data and as readable text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from clusters.importing.layout import Group, Layout, Machine
from clusters.importing.servers import same_flags
from clusters.importing.settings import (
    FRONTEND_FLAGS,
    LEADER_FLAGS,
    ServerSettings,
    common,
    common_nested,
    equal,
    kv_transfer,
    recipe_value,
    server_settings,
    shared_devices,
    sizes,
    subtract,
    subtract_nested,
)
from entrypoints import yaml12
from entrypoints.findings import Refused, one_line
from entrypoints.inputs import arguments, recipes
from entrypoints.inputs.roles import ROLES
from entrypoints.inputs.settings import NAMES

Data = dict[str, Any]


@dataclass
class Files:
    """Both files as data; the comparison adds overrides to `cluster`."""

    recipe: Data
    cluster: Data


def build_files(
    layout: Layout, name: str, release: str, platform: str, image: str, proxy: Data | None
) -> Files:
    """Both files, with the common settings of instances and roles factored out."""
    uses = Counter(name for group in layout.groups for name in {m.name for m in group.machines})
    crowded = frozenset(name for name, count in uses.items() if count > 1)
    every = {group.name: server_settings(group, crowded) for group in layout.groups}
    roles = list(dict.fromkeys(group.role for group in layout.groups))
    both = "prefill" in roles and "decode" in roles
    instances = {group.name: _instance(group, every[group.name], both) for group in layout.groups}
    for group in layout.groups:
        _drop_refused(instances[group.name], group.role, roles)
    blocks: dict[str, Data] = {}
    for role in roles:
        those = [instances[group.name] for group in layout.groups if group.role == role]
        blocks[role] = _factor_out(those)
    top = _factor_out(list(blocks.values()))
    recipe = _recipe(layout, platform, top, blocks)
    cluster: Data = {"name": name, "release": release, "platform": platform}
    if image:
        cluster["image"] = image
    nics = [machine.nic for machine in layout.machines]
    if nics[0] and len(set(nics)) == 1:
        cluster["nic"] = nics[0]
    cluster["recipe"] = "./recipe.yaml"
    cluster["nodes"] = {m.name: _node(m, cluster.get("nic", "")) for m in layout.machines}
    cluster["instances"] = {
        group.name: _cluster_instance(group, instances[group.name], recipe, crowded)
        for group in layout.groups
    }
    for group in layout.groups:
        _overrides(group, every[group.name], cluster["instances"][group.name])
    if proxy:
        cluster["proxy"] = proxy
    return Files(recipe, cluster)


def _instance(group: Group, those: Sequence[ServerSettings], both: bool) -> Data:
    """The settings of all nodes of an instance, under the keys of a recipe."""
    leader = those[0]
    env = common([one.env for one in those], equal)
    serving = [one for one in those if not one.server.worker]
    flags = common([one.flags for one in serving], same_flags)
    for key, flag in leader.flags.items():
        if key in (*FRONTEND_FLAGS, *LEADER_FLAGS):
            rest = [one.flags[key] for one in serving[1:] if key in one.flags]
            same = all(same_flags(flag, other) for other in rest)
            if same and (key in FRONTEND_FLAGS or not rest):
                flags[key] = flag
    numbers, result = leader.server.numbers, Data()
    if len(group.machines) > 1:
        result["nodes"] = len(group.machines)
    if given := sizes(leader.server, group):
        result["sizes"] = given
    ports = {"port": "port", "ray_port": "ray_port"}
    if ROLES[group.role].networked:
        ports["dp_rpc_port"] = "rpc_port"
    result |= {key: numbers[name] for key, name in ports.items() if name in numbers}
    result["env"] = env
    ordered = {key: flags[key] for key in leader.flags if key in flags}
    written = {key: recipe_value(flag) for key, flag in ordered.items()}
    result["args"] = dict(pair for pair in written.values() if pair)
    result["kv_transfer"] = kv_transfer(leader.server, both)
    unwritten = {key: flag for key, flag in ordered.items() if written[key] is None}
    result["arguments"] = arguments.render(unwritten)
    return result


def _drop_refused(settings: Data, role: str, roles: Sequence[str]) -> None:
    """Remove settings that a recipe refuses; the comparison adds them as arguments or overrides."""
    keys = [key for key in _KEYS if key in settings]
    for _ in range(9):
        own = {**dict.fromkeys(roles), role: {key: settings[key] for key in keys}}
        try:
            recipes.load(json.dumps({"model": "m", "roles": own}))
            return
        except Refused as refused:
            for finding in refused.findings:
                key, _, rest = finding.where.removeprefix(f"RECIPE: roles.{role}.").partition(".")
                if key in ("env", "args", "sizes") and rest in settings[key]:
                    del settings[key][rest]
                elif key in ("env", "args", "sizes", "kv_transfer"):
                    settings[key] = {}
                else:
                    settings.pop(key, None)
        keys = [key for key in keys if key in settings]


def _factor_out(those: Sequence[Data]) -> Data:
    """Move the settings that all blocks share out of each block."""
    result: Data = {}
    for key in ("nodes", "sizes", "port", "dp_rpc_port"):
        if those[0].get(key) is not None and all(one.get(key) == those[0][key] for one in those):
            result[key] = those[0][key]
            for one in those:
                del one[key]
    for key in ("env", "args"):
        result[key] = common([one.get(key, {}) for one in those], equal)
        for one in those:
            one[key] = subtract(one.get(key, {}), result[key])
    result["kv_transfer"] = common_nested([one.get("kv_transfer", {}) for one in those])
    for one in those:
        one["kv_transfer"] = subtract_nested(one.get("kv_transfer", {}), result["kv_transfer"])
    return result


def _recipe(layout: Layout, platform: str, top: Data, blocks: Mapping[str, Data]) -> Data:
    leaders = [group.leader for group in layout.groups]
    model = leaders[0].model.strip() or "MODEL"
    model = "MODEL" if model.startswith("-") else model
    result: Data = {"description": _description(layout, model, platform), "model": model}
    names = [one.flags.get("--served-model-name") for one in leaders]
    if names[0] and all(same_flags(name, names[0]) for name in names):
        values = list(names[0][-1].values)
        result["served_model_name"] = values[0] if len(values) == 1 else values
    result["platforms"] = [platform]
    result.update({key: top[key] for key in _KEYS if top.get(key)})
    result["roles"] = {
        role: {key: block[key] for key in _KEYS if block.get(key)} or None
        for role, block in blocks.items()
    }
    return result


_KEYS = ("nodes", "sizes", "port", "dp_rpc_port", "env", "args", "kv_transfer")


_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _description(layout: Layout, model: str, platform: str) -> str:
    short = model.rstrip("/").rpartition("/")[2]
    parts = []
    for role in dict.fromkeys(group.role for group in layout.groups):
        nodes = sum(len(group.machines) for group in layout.groups if group.role == role)
        what = f"{role} on " if role in ("prefill", "decode") else "on "
        word = _WORDS[nodes] if nodes < len(_WORDS) else str(nodes)
        parts.append(f"{what}{word} {platform.upper()} node{'' if nodes == 1 else 's'}")
    return f"{short}, {', '.join(parts)}"


def _node(machine: Machine, nic: str) -> Any:
    if machine.nic and machine.nic != nic:
        return {"address": machine.address, "nic": machine.nic}
    return machine.address


def _cluster_instance(group: Group, settings: Data, recipe: Data, crowded: frozenset[str]) -> Data:
    """An instance of the cluster file: its nodes and its own settings."""
    result: Data = {}
    default = "serve" if group.role in ("single", "leader", "ray-head") else group.role
    if (group.role == "leader" and len(group.machines) == 1) or len(recipe["roles"]) > 1:
        default = group.role
    if group.name != default:
        result["role"] = default
    result["nodes"] = [machine.name for machine in group.machines]
    shares = not group.external and crowded & {machine.name for machine in group.machines}
    if shares and (named := shared_devices(group)):
        result["devices"] = named
    if group.external:
        result["external"] = True
    ports = {"port": "api", "dp_rpc_port": "dp_rpc", "ray_port": "ray"}
    if own := {short: settings[key] for key, short in ports.items() if settings.get(key)}:
        result["ports"] = own
    for key in ("sizes", "env", "args", "kv_transfer"):
        if settings.get(key):
            result[key] = settings[key]
    leader = group.leader
    extra = list(settings.get("arguments", ()))
    if leader.model and leader.model != recipe["model"]:
        extra = ["--model", leader.model, *extra]
    names = leader.flags.get("--served-model-name")
    if names and "served_model_name" not in recipe:
        extra += arguments.render({"": names})
    if extra:
        result["arguments"] = extra
    return result


def _overrides(group: Group, those: Sequence[ServerSettings], instance: Data) -> None:
    """Add the settings of single nodes."""
    env = common([one.env for one in those], equal)
    flags = common([one.flags for one in those if not one.server.worker], same_flags)
    leaders = (*FRONTEND_FLAGS, *LEADER_FLAGS)
    first = those[0]
    for one in those:
        own_env = {**subtract(one.env, env), **one.own_env}
        own_env = {name: text for name, text in own_env.items() if name not in NAMES}
        own = {
            key: flag
            for key, flag in subtract(one.flags, flags).items()
            if key not in leaders
            or (one is not first and not same_flags(flag, first.flags.get(key)))
        }
        add_override(instance, one.machine.name, own_env, arguments.render(own))


def add_override(instance: Data, node: str, env: Mapping[str, str], words: Iterable[str]) -> None:
    """Add to the overrides of a node."""
    words = list(words)
    if not env and not words:
        return
    result = instance.setdefault("overrides", {}).setdefault(node, {})
    if env:
        result["env"] = {**result.get("env", {}), **env}
    if words:
        result["arguments"] = [*result.get("arguments", ()), *words]


# ---- text ----------------------------------------------------------------------------------------


_STR, _MAP, _SEQUENCE, _NULL = (
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq", "null")
)


class _PlainText(str):
    """Text under `env:`, which is always text and needs few quotes."""


class _Flow(dict):  # type: ignore[type-arg]
    """A short mapping on one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def _represent_plain(dumper: yaml.SafeDumper, text: str) -> Any:
    resolved = dumper.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    tag = str(resolved)
    if tag.endswith((":null", ":merge")) or not text:
        tag = _STR
    return dumper.represent_scalar(tag, text)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> Any:
    """Quote text that is not text in YAML 1.2; PyYAML does the same for 1.1."""
    resolvers = yaml12.Loader.yaml_implicit_resolvers.get(text[:1], [])
    style = "'" if any(pattern.match(text) for _, pattern in resolvers) else None
    return dumper.represent_scalar(_STR, text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(_PlainText, _represent_plain)
_Dumper.add_representer(_Flow, lambda dumper, data: dumper.represent_mapping(_MAP, data, True))
_Dumper.add_representer(
    list,
    lambda dumper, data: dumper.represent_sequence(
        _SEQUENCE, data, flow_style=not any(isinstance(one, (dict, list)) for one in data)
    ),
)
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(_NULL, "null"))


def text(data: Data, notes: Mapping[str, str] | None = None) -> str:
    """A file with blank lines between long keys, and comments from `notes` after values."""
    pieces: list[str] = []
    for key, value in data.items():
        result = yaml.dump(
            {key: _styled(value, key)},
            Dumper=_Dumper,
            sort_keys=False,
            width=96,
            allow_unicode=True,
            default_flow_style=False,
        )
        if key == "roles":
            result = re.sub(r"^(  [a-z-]+:) null$", r"\1", result, flags=re.MULTILINE)
        several = result.count("\n") > 1
        if pieces and (several or pieces[-1].count("\n") > 1):
            pieces.append("\n")
        pieces.append(result)
    whole = "".join(pieces)
    for value, note in (notes or {}).items():
        row = re.compile(rf"^( *[\w.-]+: {re.escape(value)})$", re.MULTILINE)
        comment = f"  # {one_line(note)}".replace("\\", r"\\")
        whole = row.sub(rf"\1{comment}", whole, count=1)
    return whole


def _styled(value: Any, key: str, env: bool = False) -> Any:
    if isinstance(value, dict):
        inner = {name: _styled(item, name, key == "env") for name, item in value.items()}
        short = all(
            not isinstance(item, (dict, list)) or isinstance(item, _Flow) for item in inner.values()
        )
        width = len(str(inner)) + len(key)
        narrow = width < 90 and key not in ("env", "args", "nodes", "roles", "instances")
        return _Flow(inner) if inner and short and narrow else inner
    if isinstance(value, list):
        return [_styled(item, "") for item in value]
    return _PlainText(value) if env and isinstance(value, str) and "\n" not in value else value
