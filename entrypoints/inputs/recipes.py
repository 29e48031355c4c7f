"""Recipes: what the deployment of one model needs, per group of nodes. Format: docs/run.md.

A recipe has a head (model, names, platforms) and settings. Under `roles:` each group (single,
leader, prefill, decode, ray-head) adds to the settings or replaces them; null removes a value.
`extends` lays it over another recipe, given by name or inline. `releases`: the releases that its
source covers. `by_release`: values for other releases, laid over the recipe's. `source`: one text,
or one for each part by its dotted key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from entrypoints.findings import DATA, Finding, Refused, did_you_mean
from entrypoints.inputs import data
from entrypoints.inputs.arguments import Flag, from_value, is_flag, key_of, scalar
from entrypoints.inputs.roles import GROUPS
from entrypoints.inputs.settings import NAMES
from entrypoints.messages import finding, refused
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

_HEAD = (
    *("extends", "description", "source", "releases", "by_release"),
    *("model", "served_model_name", "platforms", "roles"),
)
# Sizes are the same in every release: a cluster file places its containers by them.
_BY_RELEASE = ("source", "model", "served_model_name", "roles")
_SAME_EVERYWHERE = ("nodes", "sizes")
# vllm 0.13: vllm/config/kv_transfer.py
_KV_TRANSFER = (
    *("kv_connector", "kv_role", "kv_port", "engine_id", "kv_ip", "kv_rank", "kv_parallel_size"),
    *("kv_buffer_device", "kv_buffer_size", "kv_load_failure_policy"),
    *("kv_connector_module_path", "kv_connector_extra_config"),
)
EXTRA = "kv_connector_extra_config"
SIDES = ("prefill", "decode")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLAG_NAME = re.compile(r"[a-z][a-z0-9-]*")

# Flags that have their own key, and flags that follow from a node's place in its group.
_OWN_KEY = {
    "--model": "model",
    "--served-model-name": "served_model_name",
    "--port": "port",
    "--tensor-parallel-size": "sizes.tp",
    "--pipeline-parallel-size": "sizes.pp",
    "--data-parallel-size": "sizes.dp",
    "--data-parallel-size-local": "sizes.dp_local",
    "--prefill-context-parallel-size": "sizes.pcp",
    "--data-parallel-rpc-port": "dp_rpc_port",
    "--nnodes": "nodes",
}
_DERIVED = (
    "--headless",
    "--data-parallel-address",
    "--data-parallel-rank",
    "--master-addr",
    "--node-rank",
)


class Sizes(NamedTuple):
    """Parallel sizes; None where not given."""

    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    dp_local: int | None = None
    pcp: int | None = None

    def over(self, other: Sizes) -> Sizes:
        """These sizes, and the other's where these have none."""
        return Sizes(*(b if a is None else a for a, b in zip(self, other, strict=True)))


class Block(NamedTuple):
    """The settings of a recipe or of one group. None in `env` or `args` removes the value.

    `features`: what the recipe enables by name, whatever form a release has for it.
    `concurrency`: the number of requests expected at once.
    """

    nodes: int | None = None
    sizes: Sizes = Sizes()
    port: int | None = None
    dp_rpc_port: int | None = None
    concurrency: int | None = None
    features: Mapping[str, Any] = {}
    env: Mapping[str, str | None] = {}
    args: Mapping[str, Flag | None] = {}
    kv_transfer: Mapping[str, Any] = {}

    def over(self, other: Block) -> Block:
        """This block laid over the other: mappings by key, everything else as a whole."""
        return Block(
            nodes=self.nodes or other.nodes,
            sizes=self.sizes.over(other.sizes),
            port=self.port or other.port,
            dp_rpc_port=self.dp_rpc_port or other.dp_rpc_port,
            concurrency=self.concurrency or other.concurrency,
            features=_overlay(other.features, self.features),
            env={**other.env, **self.env},
            args={**other.args, **self.args},
            kv_transfer=_overlay(other.kv_transfer, self.kv_transfer),
        )

    def settled(self) -> Block:
        """The block without nulls, after blocks are laid over each other."""
        features, kv_transfer = _without_nulls(self.features), _without_nulls(self.kv_transfer)
        return self._replace(features=features, kv_transfer=kv_transfer)

    def flags(self) -> list[Flag]:
        """The flags of `args`, less the removed ones."""
        return [flag for flag in self.args.values() if flag is not None]


class Recipe(NamedTuple):
    """A checked recipe. `groups`: each group's settings laid over the recipe's.

    `name`: RECIPE when the variable contains the recipe itself. `extends`: what it is laid over.
    `releases`: those that its source covers; may be empty. `sources`: dotted key of a part -> the
    source of its facts; the empty key covers all other parts. `by_release`: the recipe of each
    release with other values. `common`: the settings of every group, also of one added later.
    """

    name: str
    description: str
    model: str
    served_model_name: tuple[str, ...]
    platforms: tuple[str, ...]
    groups: Mapping[str, Block]
    extends: str = ""
    releases: tuple[str, ...] = ()
    sources: Mapping[str, str] = {}
    by_release: Mapping[str, Recipe] = {}
    common: Block = Block()

    def on(self, release: str) -> Recipe:
        """The recipe with the values for a release."""
        return self.by_release.get(release, self)

    @property
    def title(self) -> str:
        """The recipe's name or, if it has none, that of the recipe it extends."""
        named = self.name not in ("", "RECIPE")
        return f"{self.extends} with changes" if self.extends and not named else self.name


_NOTHING = Recipe("", "", "", (), (), {})


def names() -> list[str]:
    """The names of the recipes in the image."""
    return data.names("recipes")


def load(name: str) -> Recipe:
    """The recipe with a name or the path of a .yaml file, or the recipe in the text itself.

    Raises Refused: 64 when there is no such recipe, 65 with every error in it.
    """
    return data.cached(("recipe", name), lambda: _load(name, ()))


def unknown(name: str, where: str = "") -> Finding:
    """The finding for an unknown name, given as `where`; suggests similar names, not all."""
    import difflib  # needed only when something is wrong

    parts = [one for one in names() if len(name) > 2 and name.lower() in one]
    near = parts[:3] or difflib.get_close_matches(name, names(), n=1)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return finding("unknown-recipe.not-a-recipe", where, name=name, meant=meant)


def is_text(name: str) -> bool:
    """Whether this is a recipe rather than the name of one: JSON, or text of several lines."""
    return "\n" in name or name.startswith("{")


def _load(name: str, under: tuple[str, ...]) -> Recipe:
    if is_text(name):
        return _Reader("RECIPE", under).recipe("RECIPE", data.parse(name, "RECIPE"))
    if name in under:
        raise refused("bad-recipe.extends-itself", under[-1], name=name)
    by_path = name.endswith((".yaml", ".yml"))
    path = name if by_path else data.path_of("recipes", f"{name}.yaml")
    if by_path and "\0" not in path:
        if not data.is_file(path):
            raise refused("unknown-recipe.not-a-file", name=name)
    elif name not in names():
        raise Refused([unknown(name)])
    return _Reader(path, (*under, name)).recipe(name, data.read(path))


def _overlay(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _overlay(old, value) if both and isinstance(old, Mapping) else value
    return merged


def _without_nulls(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, Mapping) else value
        for key, value in raw.items()
        if value is not None
    }


class _Reader:
    """Makes a Recipe of a YAML document and collects the errors in it."""

    def __init__(self, path: str, under: tuple[str, ...] = ()) -> None:
        self.path = path
        self.under = under
        self.findings: list[Finding] = []
        self.sides_given = False

    def add(self, at: str, message: str, /, **values: Any) -> None:
        where = f"{self.path}: {at}" if at else self.path
        self.findings.append(finding(message, where, **values))

    def recipe(self, name: str, raw: Any) -> Recipe:
        raw = self.mapping("", raw, (*_HEAD, *Block._fields))
        roles = self.mapping("roles", raw.get("roles"), GROUPS)
        if "roles" in raw and not raw["roles"]:
            self.add("roles", "bad-recipe.no-roles", known=", ".join(GROUPS))
        extends = raw.get("extends")
        under = self.extended(extends) if extends is not None else _NOTHING
        for key in ("model", "roles"):
            if key not in raw and extends is None:
                self.add(key, "missing-key", key=key)
        every = {**under.groups, **roles}
        self.sides_given = all(side in every for side in SIDES)
        recipe = self.laid_over(under, "", raw)._replace(name=name, extends=under.title)
        platforms, known = data.names("platforms"), data.names("releases")
        own = self.mapping("by_release", raw.get("by_release"), known)
        by_release, sources = {}, dict(recipe.sources)
        for release in {**under.by_release, **own}:
            below = recipe
            if release in under.by_release:
                below = self.laid_over(under.by_release[release], "", raw)
            at = f"by_release.{release}"
            differs = self.differences(at, own.get(release))
            by_release[release] = self.laid_over(below, at, differs)
            for key, source in (self.get(at, differs, "source", self.sources) or {}).items():
                sources[f"{at}.{key}" if key else at] = source
        stated = self.get("", raw, "releases", self.texts) or (() if own else under.releases)
        releases = tuple(dict.fromkeys((*stated, *own)))
        for one in recipe.platforms:
            if one not in platforms:
                meant = did_you_mean(one, platforms)
                self.add("platforms", "bad-recipe.unknown-name", name=one, known=meant)
        for one in releases:
            if one not in known:
                self.other_release(one, known)
        if self.findings:
            raise Refused(list(dict.fromkeys(self.findings)))
        for release, there in by_release.items():
            there = there._replace(name=name, extends=under.title)
            by_release[release] = there._replace(releases=releases, sources=sources)
        return recipe._replace(releases=releases, sources=sources, by_release=by_release)

    def differences(self, at: str, raw: Any) -> dict[str, Any]:
        """Check the values for one release."""
        known = [key for key in Block._fields if key not in _SAME_EVERYWHERE]
        good = self.mapping(at, raw, (*_BY_RELEASE, *known))
        for role, block in self.mapping(f"{at}.roles", good.get("roles"), GROUPS).items():
            self.mapping(f"{at}.roles.{role}", block, known)
        return good

    def laid_over(self, under: Recipe, at: str, raw: Mapping[str, Any]) -> Recipe:
        """Lay a document, or a part of it, over the recipe that it changes."""
        inside = f"{at}." if at else ""
        roles = self.mapping(f"{inside}roles", raw.get("roles"), GROUPS)
        base = self.block(at, {k: v for k, v in raw.items() if k in Block._fields})
        groups = {
            k: self.block(f"{inside}roles.{k}", roles.get(k))
            .over(base)
            .over(under.groups.get(k, under.common))
            for k in {**under.groups, **roles}
        }
        return under._replace(
            description=self.get(at, raw, "description", self.text) or under.description,
            model=self.get(at, raw, "model", self.text) or under.model,
            served_model_name=self.get(at, raw, "served_model_name", self.texts)
            or under.served_model_name,
            platforms=self.get(at, raw, "platforms", self.texts) or under.platforms,
            groups={k: block.settled() for k, block in groups.items()},
            common=base.over(under.common),
            sources={**under.sources, **(self.get(at, raw, "source", self.sources) or {})},
        )

    def other_release(self, name: str, known: list[str]) -> None:
        from entrypoints.inputs import releases  # needed only for a release without a file

        if not releases.facts_of(name, known):
            meant = releases.meant(name, known)
            self.add("releases", "bad-recipe.unknown-name", name=name, known=meant)

    def extended(self, raw: Any) -> Recipe:
        """The recipe that this one extends; errors in it are errors here."""
        try:
            if isinstance(raw, dict):
                return _Reader(f"{self.path}: extends", self.under).recipe("", raw)
            name = self.text("extends", raw)
            return _load(name, self.under) if name else _NOTHING
        except Refused as refused:
            for one in refused.findings:
                where = f"{self.path}: extends" if one.where == "RECIPE" else one.where
                self.findings.append(one._replace(where=where, exit_code=DATA))
        return _NOTHING

    def block(self, at: str, raw: Any) -> Block:
        raw = self.mapping(at, raw, Block._fields)
        checks: Mapping[str, Callable[[str, Any], Any]] = {
            **{"sizes": self.sizes, "features": self.features, "env": self.env},
            **{"args": self.args, "kv_transfer": self.kv_transfer},
        }
        given = {key: self.get(at, raw, key, checks.get(key, self.count)) for key in Block._fields}
        return Block(**{key: value for key, value in given.items() if value is not None})

    def get(
        self, at: str, raw: Mapping[str, Any], key: str, check: Callable[[str, Any], T]
    ) -> T | None:
        return None if raw.get(key) is None else check(f"{at}.{key}" if at else key, raw[key])

    def mapping(self, at: str, raw: Any, allowed: Iterable[str] = ()) -> dict[str, Any]:
        if raw is None and at:
            return {}
        if not isinstance(raw, dict):
            self.add(at, "bad-recipe.not-a-mapping")
            return {}
        known = list(allowed)
        good = {}
        for key, value in raw.items():
            if not isinstance(key, str) or (known and key not in known):
                where = f"{at}.{key}" if at else str(key)
                self.add(where, "unknown-key", known=did_you_mean(str(key), known))
            else:
                good[key] = value
        return good

    def text(self, at: str, raw: Any) -> str:
        if isinstance(raw, str) and raw and "\0" not in raw and not raw.startswith("-"):
            return raw
        self.add(at, "bad-recipe.not-a-name", value=raw)
        return ""

    def texts(self, at: str, raw: Any) -> tuple[str, ...]:
        return tuple(self.text(at, item) for item in (raw if isinstance(raw, list) else [raw]))

    def sources(self, at: str, raw: Any) -> dict[str, str]:
        parts = raw if isinstance(raw, dict) else {"": raw}
        return {str(key): self.text(f"{at}.{key}" if key else at, parts[key]) for key in parts}

    def count(self, at: str, raw: Any) -> int | None:
        if type(raw) is int and 1 <= raw <= 65535:
            return raw
        self.add(at, "bad-recipe.not-a-number", value=raw)
        return None

    def sizes(self, at: str, raw: Any) -> Sizes:
        raw = self.mapping(at, raw, Sizes._fields)
        return Sizes(**{key: self.get(at, raw, key, self.count) for key in raw})

    def features(self, at: str, raw: Any) -> dict[str, Any]:
        """Names are checked when a plan is made, against the release's features."""
        good = self.mapping(at, raw)
        return good if self.json(at, good) else {}

    def env(self, at: str, raw: Any) -> dict[str, str | None]:
        good: dict[str, str | None] = {}
        for name, value in self.mapping(at, raw).items():
            where = f"{at}.{name}"
            if not _ENV_NAME.fullmatch(name):
                self.add(where, "bad-recipe.not-a-variable")
            elif name in NAMES:
                self.add(where, "bad-recipe.own-variable")
            elif isinstance(value, (dict, list)) or "\0" in str(value):
                self.add(where, "bad-recipe.not-text")
            else:
                good[name] = None if value is None else scalar(value)
        return good

    def args(self, at: str, raw: Any) -> dict[str, Flag | None]:
        good: dict[str, Flag | None] = {}
        for key, value in self.mapping(at, raw).items():
            where, name = f"{at}.{key}", key.replace("_", "-")
            if not _FLAG_NAME.fullmatch(name):
                self.add(where, "bad-recipe.not-a-flag")
                continue
            if not self.json(where, value):
                continue
            flag = from_value(name, True if value is None else value)
            same = key_of(flag)
            if same in _OWN_KEY:
                self.add(where, "bad-recipe.has-a-key", key=_OWN_KEY[same])
            elif same in _DERIVED or (same == "--data-parallel-start-rank" and value != 0):
                self.add(where, "bad-recipe.of-one-node")
            elif same in good:
                self.add(where, "bad-recipe.same-flag")
            elif isinstance(value, list) and any(is_flag(v) for v in flag.values):
                self.add(where, "bad-recipe.like-a-flag")
            else:
                good[same] = None if value is None else flag
        return good

    def kv_transfer(self, at: str, raw: Any) -> dict[str, Any]:
        good = self.mapping(at, raw, _KV_TRANSFER)
        if not self.json(at, good):
            return {}
        if good.get("kv_port") is not None:
            port = good["kv_port"]
            self.count(
                f"{at}.kv_port", int(port) if re.fullmatch("[0-9]{1,5}", str(port)) else port
            )
        extra = self.mapping(f"{at}.{EXTRA}", good.get(EXTRA))
        self.blocks(f"{at}.{EXTRA}", extra)
        parts = extra.get("connectors")
        for i, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, dict) and isinstance(part.get(EXTRA), dict):
                self.blocks(f"{at}.{EXTRA}.connectors[{i}].{EXTRA}", part[EXTRA])
        return good

    def blocks(self, at: str, extra: Mapping[str, Any]) -> None:
        for side in SIDES:
            if side in extra and self.sides_given:
                self.add(f"{at}.{side}", "bad-recipe.own-block", side=side)

    def json(self, at: str, raw: Any, depth: int = 0) -> bool:
        """Whether the value can be written as JSON; reports it when not."""
        if depth > 32:
            self.add(at, "bad-recipe.too-deep")
            return False
        if isinstance(raw, dict):
            raw = self.mapping(at, raw)
            return all(self.json(f"{at}.{k}", v, depth + 1) for k, v in raw.items())
        if isinstance(raw, list):
            return all(self.json(at, item, depth + 1) for item in raw)
        if raw is None or isinstance(raw, (bool, int, float)):
            return True
        if isinstance(raw, str) and "\0" not in raw:
            return True
        self.add(at, "bad-recipe.not-json", value=raw)
        return False
