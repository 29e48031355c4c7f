"""The recipes: what each is for, what it sets, how each node is started, and what it weighs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.paths import ROOT
from docs.render.compatibility import in_order
from docs.render.page import Page, page
from entrypoints.inputs import data, model, recipes, stack
from entrypoints.inputs.recipes import Recipe
from entrypoints.launch.model import Launch
from entrypoints.rules.memory import Need, need
from images.catalogue import commands
from images.catalogue.commands import Deployment
from images.inspect.model import Image
from images.matrix import Matrix, Variant

REGISTRY = "registry.example.com/team/vllm-ascend"
EXAMPLES = ROOT / "clusters" / "examples"


@dataclass(frozen=True)
class Setting:
    """A feature in the form of one release: a flag or a variable, or why it has none."""

    name: str
    value: object
    form: str
    source: str


@dataclass(frozen=True)
class Fit:
    """What planning every node for a release and a platform came to."""

    release: str
    platform: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """A recipe. `deployment` is planned for `variant`, the first for which nothing is refused."""

    recipe: Recipe
    text: str
    variant: Variant
    deployment: Deployment
    fits: tuple[Fit, ...]
    features: tuple[Setting, ...]
    examples: tuple[str, ...]

    @property
    def page(self) -> str:
        """The page that it is on: all recipes of a model share one."""
        return self.recipe.name.partition("/")[0]

    def fit(self, release: str, platform: str) -> str:
        """How it goes with a release on a platform, in a word."""
        for one in self.fits:
            if (one.release, one.platform) == (release, platform):
                refused = "refused" if one.problems else ""
                return refused or ("starts, with warnings" if one.warnings else "starts")
        return "not stated"

    @property
    def context(self) -> tuple[str, ...]:
        """The longest requests in tokens, as the nodes' flags say; several where they differ."""
        lengths = (one.facts.number("--max-model-len") for one in self.launches if one.facts)
        return tuple(dict.fromkeys(str(length) for length in lengths if length))

    @property
    def launches(self) -> list[Launch]:
        """The launches of nodes with NPUs."""
        made = (node.launch for node in self.deployment.nodes)
        return [one for one in made if one and one.place]

    @property
    def memory(self) -> dict[str, Need]:
        """Group → the estimate for one of its devices."""
        found: dict[str, Need] = {}
        for launch in self.launches:
            assert launch.place is not None
            size = need(launch.facts) if launch.facts else None
            if size:
                found.setdefault(launch.place.group.name, size)
        return found

    @property
    def model(self) -> model.Model | None:
        return model.find(self.recipe.model, {})

    @property
    def refused(self) -> dict[str, str]:
        """What refuses it → where."""
        return _by_word((one, one.problems) for one in self.fits)

    @property
    def warned(self) -> dict[str, str]:
        """What warns of it → where."""
        return _by_word((one, one.warnings) for one in self.fits)


def made(matrix: Matrix) -> list[Page]:
    """A page for each model, and one that lists them."""
    shown = [_shown(matrix, name) for name in recipes.names()]
    platforms = {one.variant.platform.name: one.variant for one in shown}
    functions = {name: commands.function(_image(of, {})) for name, of in platforms.items()}
    releases = [one.name for one in in_order(matrix)]
    models = dict.fromkeys(one.page for one in shown)
    return [
        page("recipes.md", "recipes.md.j2", recipes=shown, functions=functions),
        *(
            page(
                f"recipes/{name}.md",
                "recipe.md.j2",
                page=name,
                recipes=[one for one in shown if one.page == name],
                releases=releases,
            )
            for name in models
        ),
    ]


def _shown(matrix: Matrix, name: str) -> Shown:
    recipe = recipes.load(name)
    text = Path(data.path_of("recipes", f"{name}.yaml")).read_text(encoding="utf-8")
    tried = [(one, _planned(one, name, text)) for one in _variants(matrix, recipe)]
    good = (one for one in tried if not _problems(one[1]))
    variant, deployment = next(good, tried[0])
    return Shown(
        recipe=recipe,
        text=text.strip(),
        variant=variant,
        deployment=deployment,
        fits=tuple(
            Fit(one.release.name, one.platform.name, tuple(_problems(found)), _warnings(found))
            for one, found in tried
        ),
        features=tuple(_features(recipe, variant)),
        examples=tuple(_examples(name)),
    )


def _variants(matrix: Matrix, recipe: Recipe) -> Iterator[Variant]:
    """Every release and platform for which the recipe is stated, the default release first."""
    releases = [one for one in in_order(matrix) if one.name in (recipe.releases or matrix.releases)]
    releases.sort(key=lambda one: one.name != matrix.default_release)
    system = next(iter(matrix.oses))
    for release in releases:
        for platform in recipe.platforms or release.platforms:
            if platform in release.platforms:
                yield matrix.variant(release.name, platform, system)


def _planned(variant: Variant, name: str, text: str) -> Deployment:
    (found,) = commands.deployments(_image(variant, {name: text}))
    return found


def _image(variant: Variant, texts: Mapping[str, str]) -> Image:
    """The image of a variant, as far as a plan goes by it."""
    return Image(
        reference=f"{REGISTRY}:{variant.tag}",
        place="registry",
        digest="",
        manifest="",
        platform="",
        platforms=(),
        labels={"ascend.platform": variant.platform.name},
        layers=(),
        environment={
            "ASCEND_PLATFORM": variant.platform.name,
            "VLLM_ASCEND_RELEASE": variant.facts,
        },
        recipes=texts,
    )


def _problems(found: Deployment) -> list[str]:
    lines = [*found.problems, *(line for node in found.nodes for line in node.problems)]
    return list(dict.fromkeys(lines))


def _warnings(found: Deployment) -> tuple[str, ...]:
    lines: dict[str, None] = {}
    for node in found.nodes:
        for warning in node.launch.warnings if node.launch else ():
            line = warning.line()
            if node.launch and (path := node.launch.context.settings.recipe):
                line = line.replace(path, found.recipe)  # it is planned from a file of its own
            lines[line] = None
    return tuple(lines)


def _features(recipe: Recipe, variant: Variant) -> Iterator[Setting]:
    release = stack.release(variant.facts, [])
    assert release is not None
    wanted = {
        (name, yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("\n...")): None
        for block in recipe.groups.values()
        for name, value in block.features.items()
    }
    for name, value in wanted:
        form = release.features[name]
        text = form.env or (f"--{form.arg}" if form.arg else "")
        yield Setting(name, value, text, f"{form.missing}; {form.source}".removeprefix("; "))


def _examples(name: str) -> Iterator[str]:
    for path in sorted(EXAMPLES.glob("*.yaml")):
        if yaml.safe_load(path.read_text(encoding="utf-8")).get("recipe") == name:
            yield path.name


def _by_word(found: Iterable[tuple[Fit, tuple[str, ...]]]) -> dict[str, str]:
    """Line → the releases and platforms in which it is told."""
    words: dict[str, list[str]] = {}
    every = list(found)
    for fit, lines in every:
        for line in lines:
            words.setdefault(line, []).append(f"{fit.release} on {fit.platform}")
    return {
        line: "everywhere" if len(where) == len(every) else ", ".join(where)
        for line, where in words.items()
    }
