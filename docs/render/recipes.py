"""The recipe pages: purpose, settings, start commands and memory of each recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.errors import EX_DATAERR, Finding, UserError, did_you_mean
from common.paths import ROOT
from common.yaml import document, line_of
from docs.render.compatibility import in_order
from docs.render.markdown import Page, page
from docs.render.releases import release_facts
from entrypoints.inputs import baselines, data, model, recipes
from entrypoints.inputs.baselines import Figure
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
    """A feature and its form in one release: a flag, a variable, or why it has none."""

    name: str
    value: object
    form: str
    source: str


@dataclass(frozen=True)
class Fit:
    """The result of planning every node for a release and a platform."""

    release: str
    platform: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe. `deployment`: planned for `variant`, the first variant without errors."""

    recipe: Recipe
    text: str
    variant: Variant
    deployment: Deployment
    fits: tuple[Fit, ...]
    features: tuple[Setting, ...]
    examples: tuple[str, ...]
    figures: tuple[Figure, ...]
    deprecation: model.Deprecation | None

    @property
    def page(self) -> str:
        """The name of its page, which all recipes of a model share."""
        return self.recipe.name.partition("/")[0]

    def fit(self, release: str, platform: str) -> str:
        """The result for a release on a platform, for people."""
        for one in self.fits:
            if (one.release, one.platform) == (release, platform):
                refused = "refused" if one.problems else ""
                return refused or ("starts, with warnings" if one.warnings else "starts")
        return "not stated"

    @property
    def context(self) -> tuple[str, ...]:
        """The longest requests in tokens; several if the nodes differ."""
        lengths = (one.facts.number("--max-model-len") for one in self.launches if one.facts)
        return tuple(dict.fromkeys(str(length) for length in lengths if length))

    @property
    def launches(self) -> list[Launch]:
        """The launches of nodes with NPUs."""
        launches = (node.launch for node in self.deployment.nodes)
        return [one for one in launches if one and one.place]

    @property
    def memory(self) -> dict[str, Need]:
        """Group → the estimate for one device."""
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
        """Error → where it occurs."""
        return self._by_line(lambda fit: fit.problems)

    @property
    def warned(self) -> dict[str, str]:
        """Warning → where it occurs."""
        return self._by_line(lambda fit: fit.warnings)

    def _by_line(self, lines: Callable[[Fit], tuple[str, ...]]) -> dict[str, str]:
        """Line → the releases and platforms that report it."""
        places: dict[str, list[str]] = {}
        for fit in self.fits:
            for line in lines(fit):
                places.setdefault(line, []).append(f"{fit.release} on {fit.platform}")
        return {
            line: "everywhere" if len(where) == len(self.fits) else ", ".join(where)
            for line, where in places.items()
        }


def render(matrix: Matrix) -> list[Page]:
    """A page for each model, and a list of them.

    Raises UserError (65) for releases and features in recipes that nobody knows.
    """
    problems = [
        finding
        for name in recipes.names()
        for finding in unknown_names(
            Path(data.path_of("recipes", f"{name}.yaml")), recipes.load(name)
        )
    ]
    if problems:
        raise UserError(problems, EX_DATAERR)
    entries = [_entry(matrix, name) for name in recipes.names()]
    platforms = {one.variant.platform.name: one.variant for one in entries}
    functions = {name: commands.function(_image(of, {})) for name, of in platforms.items()}
    releases = [one.name for one in in_order(matrix)]
    models = dict.fromkeys(one.page for one in entries)
    return [
        page("recipes.md", "recipes.md.j2", recipes=entries, functions=functions),
        *(
            page(
                f"recipes/{name}.md",
                "recipe.md.j2",
                page=name,
                recipes=[one for one in entries if one.page == name],
                releases=releases,
            )
            for name in models
        ),
    ]


def _entry(matrix: Matrix, name: str) -> RecipeEntry:
    recipe = recipes.load(name)
    text = Path(data.path_of("recipes", f"{name}.yaml")).read_text(encoding="utf-8")
    fits, tried = [], []
    for one in _variants(matrix, recipe):
        (found,) = commands.deployments(_image(one, {name: text}))
        problems = [*found.problems, *(line for node in found.nodes for line in node.problems)]
        problems = list(dict.fromkeys(problems))
        fits.append(Fit(one.release.name, one.platform.name, tuple(problems), _warnings(found)))
        tried.append((one, found))
    good = next((i for i, fit in enumerate(fits) if not fit.problems), 0)
    variant, deployment = tried[good]
    files = sorted(EXAMPLES.glob("*.yaml"))
    examples = (path for path in files if document(path).get("recipe") == name)
    return RecipeEntry(
        recipe=recipe,
        text=text.strip(),
        variant=variant,
        deployment=deployment,
        fits=tuple(fits),
        features=tuple(_features(recipe, variant)),
        examples=tuple(one.name for one in examples),
        figures=tuple(baselines.of(recipe)),
        deprecation=model.deprecation(recipe.model),
    )


def _variants(matrix: Matrix, recipe: Recipe) -> Iterator[Variant]:
    """Every release and platform of the recipe, the default release first."""
    releases = [one for one in in_order(matrix) if one.name in (recipe.releases or matrix.releases)]
    releases.sort(key=lambda one: one.name != matrix.default_release)
    system = next(iter(matrix.oses))
    for release in releases:
        for platform in recipe.platforms or release.platforms:
            if platform in release.platforms:
                yield matrix.variant(release.name, platform, system)


def _image(variant: Variant, texts: Mapping[str, str]) -> Image:
    """The image of a variant, with what a plan needs of it."""
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


def _warnings(found: Deployment) -> tuple[str, ...]:
    lines: dict[str, None] = {}
    for node in found.nodes:
        for warning in node.launch.warnings if node.launch else ():
            line = warning.line()
            if node.launch and (path := node.launch.context.settings.recipe):
                line = line.replace(path, found.recipe)  # planned from a temporary file
            lines[line] = None
    return tuple(lines)


def _features(recipe: Recipe, variant: Variant) -> Iterator[Setting]:
    release = release_facts(variant.facts)
    wanted = {
        (name, yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("\n...")): None
        for block in recipe.on(variant.facts).groups.values()
        for name, value in block.features.items()
    }
    for name, value in wanted:
        form = release.features[name]
        text = form.env or (f"--{form.arg}" if form.arg else "")
        yield Setting(name, value, text, f"{form.missing}; {form.source}".removeprefix("; "))


def unknown_names(path: Path, recipe: Recipe) -> Iterator[Finding]:
    """The releases that a recipe claims and nobody knows, and features that a release lacks."""
    lacking: dict[str, list[str]] = {}
    for release in recipe.releases:
        if release not in data.names("releases"):
            yield _unknown(path, "releases", release, "a release", data.names("releases"))
            continue
        known = release_facts(release).features
        blocks = recipe.on(release).groups.values()
        for name in dict.fromkeys(name for block in blocks for name in block.features):
            if name not in known:
                lacking.setdefault(name, []).append(release)
    for name, releases in lacking.items():
        known = release_facts(releases[-1]).features
        what = f"a feature of {', '.join(releases)}"
        yield _unknown(path, f"features.{name}", name, what, known)


def _unknown(path: Path, key: str, name: str, what: str, known: Iterable[str]) -> Finding:
    file = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    message, fix = f"'{name}' is not {what}", did_you_mean(name, known)
    return Finding(key, message, fix, file=file, line=line_of(path, key))
