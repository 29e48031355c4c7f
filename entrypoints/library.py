"""The library of recipes: what each is for, needs and sets, and how to find one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from entrypoints.findings import Refused, did_you_mean
from entrypoints.inputs import baselines, data, model, recipes, releases
from entrypoints.inputs.baselines import Figure
from entrypoints.inputs.recipes import Recipe
from entrypoints.messages import finding
from entrypoints.plan import plan
from entrypoints.record import TYPE_CHECKING, NamedTuple
from entrypoints.rules import memory
from entrypoints.rules.memory import Need

if TYPE_CHECKING:
    from typing import Any

# For planning a node to see what it needs; TEST-NET-1 (RFC 5737).
_NODE = {"LOCAL_IP": "192.0.2.1", "NIC": "eth0", "JEMALLOC": "0"}
_LENGTH = "--max-model-len"
_COLUMNS = (
    *("recipe", "platforms", "nodes", "NPUs", "GiB/NPU", "context", "roles", "upstream's figures"),
    "releases",
)
_RIGHT = ("nodes", "NPUs", "GiB/NPU", "context")
_UNKNOWN = "-"


class Part(NamedTuple):
    """What one group of nodes needs. `nodes` and `npus`: of one instance.

    `context`: tokens of the longest request; None when neither recipe nor model states it.
    """

    nodes: int
    npus: int
    sizes: Mapping[str, int]
    context: int | None
    memory: Need | None


class Entry(NamedTuple):
    """A recipe, planned for a release and a platform. `figures`: upstream's, of all releases."""

    recipe: Recipe
    release: str
    platform: str
    parts: Mapping[str, Part]
    figures: Sequence[Figure]


def find(
    names: Sequence[str] = (), search: str = "", platform: str = "", release: str = ""
) -> list[Entry]:
    """The named recipes, or all; of these, the ones for a platform and a release.

    Every word of `search` must occur in the name, the description, the model or a feature's name.
    Raises Refused (64) for an unknown name, platform or release.
    """
    findings = [recipes.unknown(name, "NAME") for name in names if name not in recipes.names()]
    if platform and platform not in (platforms := data.names("platforms")):
        fix = did_you_mean(platform, platforms)
        findings.append(finding("unknown-platform.not-a-platform", name=platform, known=fix))
    known = data.names("releases")
    facts = releases.facts_of(release, known)
    if release and not facts:
        fix = releases.meant(release, known)
        findings.append(finding("unknown-release.not-a-release", name=release, known=fix))
    release = facts
    if findings:
        raise Refused(findings)
    with data.CachedReads():
        found = (recipes.load(name) for name in names or recipes.names())
        return [
            _entry(recipe, platform, release)
            for recipe in found
            if (not platform or platform in (recipe.platforms or [platform]))
            and (not release or release in (recipe.releases or [release]))
            and all(word in _words(recipe) for word in search.lower().split())
        ]


def _words(recipe: Recipe) -> str:
    features = [name for block in recipe.groups.values() for name in block.features]
    return " ".join((recipe.name, recipe.description, recipe.model, *features)).lower()


def _entry(recipe: Recipe, platform: str, release: str) -> Entry:
    """Plan for the given release, else for the default or the first that the recipe states."""
    default = data.read(data.path_of("defaults.yaml"))["release"]
    stated = releases.sort(recipe.releases)
    release = release or (default if default in stated or not stated else stated[0])
    platform = platform or next(iter(recipe.platforms), "")
    where = {"VLLM_ASCEND_RELEASE": release, "ASCEND_PLATFORM": platform, "RECIPE": recipe.name}
    parts = {group: _part({**_NODE, **where, "ROLE": group}) for group in recipe.on(release).groups}
    return Entry(recipe.on(release), release, platform, parts, baselines.of(recipe))


def _part(environ: Mapping[str, str]) -> Part:
    launch = plan(environ)
    place = launch.place
    assert place is not None  # a group of a recipe
    given = launch.argv[launch.argv.index(_LENGTH) + 1] if _LENGTH in launch.argv else ""
    needed = memory.need(launch.facts) if launch.facts else None
    context = int(given) if given.isdigit() else needed and needed.tokens
    sizes = {key: value for key, value in place.sizes._asdict().items() if value is not None}
    return Part(place.nodes, place.world, sizes, context, needed)


# ---- as text and as data -------------------------------------------------------------------------


def as_json(entries: Sequence[Entry]) -> str:
    """The entries as JSON."""
    return json.dumps(as_data(entries), indent=2) + "\n"


def as_data(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The entries as data; memory in GiB per NPU."""
    return [
        {
            "name": one.recipe.name,
            "description": one.recipe.description,
            "model": one.recipe.model,
            "platforms": list(one.recipe.platforms),
            "releases": releases.sort(one.recipe.releases),
            "roles": {
                role: {**part._asdict(), "memory": _memory(part.memory)}
                for role, part in one.parts.items()
            },
            "planned_for": {"release": one.release, "platform": one.platform},
            "sources": dict(one.recipe.sources),
            "deprecated": old._asdict() if (old := model.deprecation(one.recipe.model)) else None,
            "upstream": [figure._asdict() for figure in one.figures],
        }
        for one in entries
    ]


def _memory(need: Need | None) -> dict[str, float | None] | None:
    if need is None:
        return None
    cache = None if need.cache is None else round(need.cache, 1)
    return {"weights": round(need.weights, 1), "cache": cache, "of": round(need.have, 1)}


def table(entries: Sequence[Entry]) -> str:
    """One line for each recipe. + joins several roles; memory and context are the largest."""
    if not entries:
        return ""
    rows = [_COLUMNS, *(_row(one) for one in entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    right = [_COLUMNS.index(name) for name in _RIGHT]
    return "".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )


def _row(one: Entry) -> tuple[str, ...]:
    parts = list(one.parts.values())
    memory = [part.memory.total for part in parts if part.memory]
    return (
        one.recipe.name,
        ", ".join(one.recipe.platforms),
        "+".join(str(part.nodes) for part in parts),
        "+".join(str(part.npus) for part in parts),
        f"{max(memory):.0f}" if memory else _UNKNOWN,
        _tokens(max((part.context or 0 for part in parts), default=0)),
        "+".join(one.parts),
        ", ".join(sorted({figure.metric for figure in one.figures})) or _UNKNOWN,
        _span(one.recipe.releases),
    )


def _span(stated: Iterable[str]) -> str:
    """Releases as text; successive ones by the first and the last."""
    known = releases.sort(data.names("releases"))
    at = sorted(known.index(name) for name in stated)
    spans: list[list[int]] = []
    for i in at:
        if spans and spans[-1][-1] == i - 1:
            spans[-1].append(i)
        else:
            spans.append([i])
    return ", ".join(
        known[span[0]] if len(span) == 1 else f"{known[span[0]]} to {known[span[-1]]}"
        for span in spans
    )


def _tokens(count: int | None) -> str:
    return str(count) if count else _UNKNOWN


def details(entries: Sequence[Entry]) -> str:
    """Each recipe in full."""
    return "\n".join(_detail(one) for one in entries)


def _detail(one: Entry) -> str:
    """What the recipe is, what each role needs and sets, and where that is stated."""
    recipe = one.recipe
    served = (
        f", served as {', '.join(recipe.served_model_name)}" if recipe.served_model_name else ""
    )
    lines = [
        recipe.name,
        f"  {recipe.description}",
        f"  model      {recipe.model}{served}",
        f"  platforms  {', '.join(recipe.platforms)}",
        f"  releases   {', '.join(releases.sort(recipe.releases)) or 'not stated'}",
    ]
    if old := model.deprecation(recipe.model):
        lines.append(
            f"  note       {old.release} announced that tests of {old.model} end ({old.source})"
        )
    for role, part in one.parts.items():
        lines += ["", *_role(one, role, part)]
    lines += ["", "stated in"]
    lines += [f"  {f'{key}: ' if key else ''}{source}" for key, source in recipe.sources.items()]
    if one.figures:
        lines += ["", "upstream's tests reach"]
    for figure in one.figures:
        schedule = f"{figure.release}, {figure.schedule}"
        lines.append(f"  {figure.target} ({schedule}; {figure.sends}) {figure.source}")
    lines += ["", "run", *(f"  {line}" for line in _run(one))]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _role(one: Entry, role: str, part: Part) -> Iterator[str]:
    block = one.recipe.groups[role]
    nodes = "1 node" if part.nodes == 1 else f"{part.nodes} nodes"
    sizes = " ".join(f"{key}={value}" for key, value in part.sizes.items())
    npus = "1 NPU" if part.npus == 1 else f"{part.npus} NPUs"
    yield f"{role}: {nodes}, {npus}{f' ({sizes})' if sizes else ''}"
    yield f"  context    {_tokens(part.context)} tokens"
    if part.memory:
        cache = part.memory.cache
        known = f" and {cache:.1f} of KV cache for one request" if cache is not None else ""
        of = f", of {part.memory.have:.1f}" if part.memory.have else ""
        yield f"  each NPU   {part.memory.weights:.1f} GiB of weights{known}{of} (an estimate)"
    for title, pairs in (
        ("features", block.features),
        ("env", block.env),
        ("args", {flag.name: " ".join(flag.values) for flag in block.flags()}),
        ("kv", block.kv_transfer),
    ):
        rows = [f"{key} {_value(value)}".rstrip() for key, value in pairs.items()]
        for i, row in enumerate(rows):
            yield f"  {title if i == 0 else '':10} {row}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _run(one: Entry) -> Iterator[str]:
    """The docker run command of each role, without the options that all containers share."""
    for role, part in one.parts.items():
        more = "" if role == "single" else " -e LOCAL_IP=…"
        start = f"docker run … -e RECIPE={one.recipe.name}"
        yield f"{start} -e ROLE={role}{more} IMAGE"
        if role == "ray-head":
            yield f"{start} -e ROLE=ray-worker -e LEADER_IP=… IMAGE"
        elif part.nodes > 1:
            group = "" if role == "leader" else f" -e GROUP={role}"
            rank = "1" if part.nodes == 2 else f"1…{part.nodes - 1}"
            yield f"{start} -e ROLE=headless{group} -e NODE_RANK={rank} -e LEADER_IP=…{more} IMAGE"
