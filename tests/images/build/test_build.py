"""What is asked of BuildKit for an image, its labels, and that none over its budget is pushed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from images.build import budgets, build, engine, push, records, render, targets
from images.build.base import FoundBase
from images.build.budgets import Budget, Key
from images.build.graph import parse, used_by
from images.build.options import Options
from images.build.render import Base, Environment, layers
from images.build.targets import BuildTarget
from images.matrix import STAND_IN, Matrix, Variant
from images.mirrors import Mirrors
from images.registry.oci import Layout, Manifest
from tests.images.publish.publish_fakes import OCI, write_image

SAMPLE = Path(__file__).parent / "samples" / "environment.json"
PINNED = FoundBase(Base("image", image="quay.io/ascend/cann:x"), "sha256:1", digest="sha256:1")
STANDING_IN = FoundBase(Base(STAND_IN), "stand-in of CANN 8.3.rc2")
Baked = list[Mapping[str, Mapping[str, Any]]]
Targets = Callable[..., list[BuildTarget]]


@pytest.fixture
def anew() -> list[list[str]]:
    """The names of the targets that BuildKit was to build without its cache, of each bake."""
    return []


@pytest.fixture
def baked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: list[list[str]]) -> Baked:
    """What BuildKit was asked for. It answers with small images: in the layout, and by
    `engine.manifests` for what stays in the engine."""
    asked: Baked = []
    layout = Layout(tmp_path / "oci")

    def bake(
        targets: Mapping[str, Any], *_: object, no_cache: bool = False, **__: object
    ) -> dict[str, Any]:
        asked.append(targets)
        if no_cache:
            anew.append([*targets])
        for target in targets.values():
            kind, _, where = target["output"][0].partition(",dest=")
            if kind == "type=local":
                Path(where).mkdir(parents=True, exist_ok=True)
                (Path(where) / "environment.json").write_text(SAMPLE.read_text())
        return {
            name: {"containerimage.digest": image(layout, name, target["platforms"])}
            for name, target in targets.items()
        }

    def manifests(reference: str, digest: str, single: str) -> dict[str, Manifest]:
        return {single: layout.manifest(digest)}

    monkeypatch.setattr(build, "bake", bake)
    monkeypatch.setattr(build, "WORK", tmp_path)
    monkeypatch.setattr(targets, "WORK", tmp_path)
    monkeypatch.setattr(build, "provide_roots", lambda *_: None)
    monkeypatch.setattr(records, "BUILT", tmp_path / "built")
    monkeypatch.setattr(push, "LAYOUT", layout.directory)
    monkeypatch.setattr(engine, "manifests", manifests)
    return asked


def image(layout: Layout, name: str, platforms: list[str]) -> str:
    """An image of twelve layers, a kilobyte each; of several platforms an index."""
    made = {}
    for platform in platforms:
        content = {f"{name}-{n}": bytes(range(256)) * 4 for n in range(12)}
        made[platform] = write_image(layout, platform.removeprefix("linux/"), content)
    if len(made) == 1:
        return made[platforms[0]]
    entries = [
        {
            **layout.manifest(digest).descriptor.raw,
            "platform": {"architecture": platform.removeprefix("linux/"), "os": "linux"},
        }
        for platform, digest in made.items()
    ]
    index = Manifest.made({"schemaVersion": 2, "mediaType": OCI.index, "manifests": entries})
    layout.path(index.digest).write_bytes(index.body)
    return index.digest


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tags that were pushed."""
    tags: list[str] = []
    monkeypatch.setattr(push, "push", lambda digest, tag, *_: tags.append(tag))
    return tags


@pytest.fixture
def chosen(matrix: Matrix, variant: Callable[..., Variant], options: Options) -> Targets:
    def make(*platforms: str, found: FoundBase = PINNED, **changes: Any) -> list[BuildTarget]:
        own = dataclasses.replace(options, **changes)
        return [
            BuildTarget(
                *(matrix, one, found, f"registry.example.com/vllm-ascend:{one.tag}"),
                *("python", own),
            )
            for one in map(variant, platforms)
        ]

    return make


@pytest.fixture
def options(matrix: Matrix) -> Options:
    return Options(arches=tuple(matrix.arches.values()), push=True, mirrors=Mirrors())


def labels(baked: Baked) -> dict[str, dict[str, str]]:
    return {name: one["labels"] for name, one in baked[-1].items()}


# ---- what is asked -------------------------------------------------------------------------------


def test_labels_and_architectures_reach_the_bake(
    matrix: Matrix, chosen: Targets, options: Options, baked: Baked, pushed: list[str]
) -> None:
    wanted = chosen("a2", "a3")
    given = {one: {"ascend.inputs": one.variant.platform.name} for one in wanted}
    digests = build.into_layout(wanted, given, print)

    layout = Layout(push.LAYOUT)
    assert [len(layout.manifest(digests[one]).arches) for one in wanted] == [2, 2]
    base = {"org.opencontainers.image.base.digest": "sha256:1"}
    assert labels(baked) == {
        "v0_13_0rc1": {"ascend.inputs": "a2", **base},
        "v0_13_0rc1-a3": {"ascend.inputs": "a3", **base},
    }
    for one in baked[-1].values():
        assert one["platforms"] == ["linux/arm64", "linux/amd64"]
        assert one["output"][0].startswith(f"type=oci,tar=false,dest={push.LAYOUT}")
    assert pushed == []

    build.into_layout([wanted[0].for_arches(options.arches[:1])], {}, print)
    assert baked[-1]["v0_13_0rc1"]["platforms"] == ["linux/arm64"]


@pytest.mark.parametrize("pushing", [False, True])
def test_every_image_says_what_it_is_made_from(
    matrix: Matrix,
    chosen: Targets,
    options: Options,
    baked: Baked,
    pushed: list[str],
    docker: Any,
    pushing: bool,
) -> None:
    docker.answers("*", code=1)
    (target,) = chosen("a3", push=pushing, arches=options.arches[:1])
    build.build([target], print)
    assert labels(baked)["v0_13_0rc1-a3"] == {
        "ascend.inputs": target.inputs.digest,
        "org.opencontainers.image.base.digest": "sha256:1",
    }
    assert pushed == ([target.tag] if pushing else [])


def test_a_base_that_is_made_here_goes_by_what_it_is_made_from(
    matrix: Matrix, chosen: Targets, options: Options, baked: Baked
) -> None:
    found = []
    for platform, arches in (("a3", 1), ("a3", 1), ("a2", 1), ("a3", 2)):
        own = chosen(platform, found=STANDING_IN, arches=options.arches[:arches])
        build.into_layout(own, {}, print)
        ((_, said),) = labels(baked).items()
        found.append(said["org.opencontainers.image.base.digest"])
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in found)
    assert found[0] == found[1]
    assert len(set(found)) == 3


PYTHON = ("torch", "libraries", "dependencies", "utilities", "vllm", "proxy", "entrypoint")


@pytest.mark.parametrize(
    ("found", "more"), [(PINNED, ()), (STANDING_IN, ("mooncake", "vllm-ascend"))]
)
def test_layers_that_need_no_environment_are_built_beside_its_capture(
    chosen: Targets,
    options: Options,
    baked: Baked,
    anew: list[list[str]],
    found: FoundBase,
    more: tuple[str, ...],
) -> None:
    """With the instructions of the image, which then comes from the cache."""
    wanted = chosen("a2", "a3", found=found)
    build.into_layout(wanted, {}, print)
    first, second = baked
    assert any(name.startswith("environment-") for name in first)
    for target in wanted:
        before, after = first[f"layers-{target.name}"], second[target.name]
        assert before["output"] == ["type=cacheonly"]
        for key in ("platforms", "args", "context", "contexts", "secret"):
            assert before[key] == after[key]
        text, image = (Path(one["dockerfile"]).read_text() for one in (before, after))
        copies = text.partition("FROM scratch AS layers\n")[2].splitlines()
        names = {re.findall("--from=layer-([a-z-]+) ", line)[0] for line in copies}
        assert names == {*PYTHON, *more}
        assert set(copies) <= set(image.splitlines())
        stages, of_image = parse(text), parse(image)
        for stage in used_by(stages, "layers")[:-1]:
            assert stages[stage] == of_image[stage]
    build.into_layout(wanted, {}, print)
    assert [*baked[-1]] == [*second], "with the environment known, one bake is enough"
    assert anew == []


@pytest.mark.parametrize("arches", [1, 2])
def test_without_the_cache_each_stage_is_built_once(
    chosen: Targets, options: Options, baked: Baked, anew: list[list[str]], arches: int
) -> None:
    """The environment is captured for one architecture only, so its stages are left to others."""
    (target,) = chosen("a3", no_cache=True, arches=options.arches[:arches])
    for _ in range(2):
        build.into_layout([target], {}, print)
    assert anew == [[*baked[0]], [*baked[2]]]
    (image,) = baked[3].values()
    first = parse(Path(baked[2]["layers-v0_13_0rc1-a3"]["dockerfile"]).read_text())
    built = {*used_by(first, "layers"), *(used_by(first, "environment") if arches == 1 else ())}
    stages = parse(Path(image["dockerfile"]).read_text())
    assert image["no-cache-filter"] == [n for n in used_by(stages, "image") if n not in built]
    assert {"layer-venv", "layer-vllm-ascend", "image"} <= {*image["no-cache-filter"]}
    assert ("cann" in image["no-cache-filter"]) == (arches == 2)


# ---- budgets -------------------------------------------------------------------------------------


@pytest.fixture
def limited(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give A3 on arm64 a budget of so many MB, and half a kilobyte for the entrypoint before."""

    def limit(megabytes: float) -> None:
        key = Key("v0.13.0rc1", "a3", "ubuntu22.04", "arm64", "image", "gzip")
        own = layers(matrix, matrix.variant(None, "a3", "ubuntu22.04"), PINNED.base)
        baseline = {**dict.fromkeys(own, 1.0), "entrypoint": 0.0, "base 1": 1.0}
        found = {key: Budget(**vars(key), baseline=baseline, image=megabytes)}
        monkeypatch.setattr(budgets, "load", lambda matrix: found)
        monkeypatch.setattr(budgets, "ROUNDING", 0.0)

    return limit


TOO_LARGE = (
    r"registry\.example\.com/vllm-ascend:v0\.13\.0rc1-a3 \(linux/arm64\): is 0\.0 MB compressed, "
    r"0\.0 MB over its budget of 0\.0 MB; entrypoint grew from 0\.0 MB to 0\.0 MB \(make it .*\)"
)


def test_an_image_over_its_budget_is_not_pushed(
    matrix: Matrix,
    chosen: Targets,
    options: Options,
    baked: Baked,
    pushed: list[str],
    limited: Callable[[float], None],
    problems_of: Callable[..., list[str]],
) -> None:
    limited(0.001)
    wanted = chosen("a2", "a3")
    for attempt in (
        lambda: build.build(wanted, print),
        lambda: build.into_layout(wanted, {}, print),
        lambda: build.build(wanted, print),
    ):
        (problem,) = problems_of(attempt, 65)
        assert re.fullmatch(TOO_LARGE, problem), problem
    assert pushed == [], "nor is another of the same command"
    assert len([one for one in baked if "v0_13_0rc1-a3" in one]) == 3, "built again, from the cache"


def test_it_is_pushed_within_its_budget_or_when_that_does_not_count(
    matrix: Matrix,
    chosen: Targets,
    options: Options,
    baked: Baked,
    pushed: list[str],
    limited: Callable[[float], None],
) -> None:
    limited(1)
    (within,) = chosen("a3")
    build.build([within], print)
    limited(0.001)
    build.build(chosen("a3", budget=False, no_cache=True), print)
    assert pushed == [within.tag] * 2


def test_in_the_engine_it_stays_and_is_known(
    matrix: Matrix,
    chosen: Targets,
    options: Options,
    baked: Baked,
    docker: Any,
    limited: Callable[[float], None],
    problems_of: Callable[..., list[str]],
) -> None:
    limited(0.001)
    own = {"push": False, "arches": options.arches[:1]}
    (target,) = chosen("a3", **own)
    docker.answers("image inspect --format {{json .RootFS.Layers}} *", code=1)
    docker.answers("history *", code=1)
    (built,) = build.build([target], print)
    docker.answers(f"image inspect --format {{{{.Id}}}} {target.tag}", out=built.digest)
    (again,) = build.build([target], print)
    assert again == dataclasses.replace(built, up_to_date=True)
    (problem,) = problems_of(lambda: build.enforce_budgets({target: again.sizes}), 65)
    assert re.fullmatch(TOO_LARGE, problem)
    (accepted,) = chosen("a3", budget=False, **own)
    build.enforce_budgets({accepted: again.sizes})


# ---- rendering -----------------------------------------------------------------------------------


def test_a_dockerfile_is_rendered_once_for_each_environment(
    chosen: Targets, baked: Baked, pushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[object] = []

    def count(*arguments: Any, environment: Environment | None, **given: Any) -> str:
        rendered.append(environment)
        return render.dockerfile(*arguments, environment=environment, **given)

    monkeypatch.setattr(targets, "dockerfile", count)
    (first,) = chosen("a3")
    build.planned([first])
    build.build([first], print)
    assert len(rendered) == 2
    assert rendered[0] is None
    (again,) = chosen("a3")
    build.planned([again])
    build.build([again], print)
    build.into_layout([again.for_arches(again.options.arches[:1])], {}, print)
    assert rendered[2:] == rendered[:2]
