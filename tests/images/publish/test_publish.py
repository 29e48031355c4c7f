"""Publishing: what is done for a tag and why, in which order, and cut off anywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from images.build.inputs import LABEL
from images.publish import publish
from images.publish.publish import TEMPORARY, Image, Published, Publisher, Step
from images.registry.oci import MEDIA_TYPES, Layout, MediaTypes
from images.registry.transfer import require_complete
from tests.images.publish.publish_fakes import (
    OCI,
    FakeRegistry,
    ForgetfulRegistry,
    Killed,
    Part,
    built,
    small_release,
)

Problems = Callable[..., list[str]]
Release = tuple[Layout, list[Image], list[Part]]
NOW = datetime(2026, 1, 5, 10, tzinfo=timezone.utc)
DOCKER = MEDIA_TYPES["docker"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return small_release(tmp_path_factory.mktemp("oci"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return small_release(tmp_path_factory.mktemp("changed"), changed="new")


def _plan(registry: FakeRegistry, release: Release, types: MediaTypes = OCI) -> list[Step]:
    _, images, parts = release
    return publish.plan(registry, images, built(parts), types)


def _publish(
    registry: FakeRegistry, release: Release, now: datetime = NOW, types: MediaTypes = OCI
) -> list[Published]:
    steps = _plan(registry, release, types)
    return Publisher(registry, release[0], types, print, now=now).publish(steps)


def _actions(steps: list[Step]) -> list[tuple[str, str]]:
    return [(step.action, step.why) for step in steps]


# ---- what is there in the end --------------------------------------------------------------------


def test_a_tag_leads_to_an_index_of_all_architectures(release: Release) -> None:
    registry = FakeRegistry()
    first, second = _publish(registry, release)
    assert (first.tag, second.tag) == ("v1", "v1-a3")
    assert first.immutable_tag == f"v1-{release[1][0].inputs.digest[:12]}"
    assert registry.tagged["v1"] == registry.tagged[first.immutable_tag] == first.digest
    index = registry.manifests[first.digest]
    assert list(index.arches) == ["arm64", "amd64"]
    assert index.annotations[LABEL] == release[1][0].inputs.digest
    for digest in index.arches.values():
        assert registry.manifests[digest].annotations[LABEL] == release[1][0].inputs.digest
    assert "latest" not in registry.tagged


def test_a_blob_that_images_share_is_uploaded_once(release: Release) -> None:
    registry = FakeRegistry()
    _publish(registry, release)
    layers = {b.digest for m in registry.manifests.values() for b in m.blobs}
    assert sorted(registry.uploads()) == sorted(f"upload {digest}" for digest in layers)
    assert len(layers) == 2 + 2 + 1 + 2 + 4  # base, torch, mooncake, vllm-ascend, configs


def test_docker_media_types(release: Release) -> None:
    registry = FakeRegistry()
    found = _publish(registry, release, types=DOCKER)[0]
    index = registry.manifests[found.digest]
    assert index.media_type == DOCKER.index
    assert "annotations" not in index.document
    arm = registry.manifests[index.arches["arm64"]]
    assert (arm.media_type, arm.document["config"]["mediaType"]) == (DOCKER.manifest, DOCKER.config)
    assert {one["mediaType"] for one in arm.document["layers"]} == set(DOCKER.layers.values())
    assert {step.action for step in _plan(registry, release, DOCKER)} == {"skip"}


def test_zstd_layers_have_no_docker_media_type(tmp_path: Path, problems_of: Problems) -> None:
    layout, images, parts = small_release(tmp_path)
    manifest = layout.manifest(parts[0].digest)
    document = json.loads(manifest.body.replace(b"tar+gzip", b"tar+zstd"))
    layout.path(parts[0].digest).write_text(json.dumps(document))
    registry = FakeRegistry()
    (problem,) = problems_of(lambda: _publish(registry, (layout, images, parts), NOW, DOCKER), 65)
    assert "tar+zstd" in problem
    assert "--compression gzip" in problem
    assert registry.tagged == {}


def test_an_image_of_another_architecture_is_refused(
    release: Release, problems_of: Problems
) -> None:
    layout, images, parts = release
    swapped = [
        dataclasses.replace(one, arch={"arm64": "amd64", "amd64": "arm64"}[one.arch])
        for one in parts
    ]
    registry = FakeRegistry()
    (problem,) = problems_of(lambda: _publish(registry, (layout, images, swapped)), 65)
    assert "is built for amd64, not arm64" in problem
    assert registry.tagged == {}


# ---- what is done, and why -----------------------------------------------------------------------


def test_nothing_is_there(release: Release) -> None:
    assert (
        _actions(_plan(FakeRegistry(), release))
        == [("push", "not published yet; built here, not in the registry: arm64, amd64")] * 2
    )
    layout, images, parts = release
    assert _actions(_plan(FakeRegistry(), (layout, images, parts[:3]))) == [
        ("push", "not published yet; built here, not in the registry: arm64, amd64"),
        ("build", "not published yet"),
    ]


def test_nothing_changed(release: Release) -> None:
    registry = FakeRegistry()
    _publish(registry, release)
    registry.log.clear()
    assert (
        _actions(_plan(registry, (release[0], release[1], [])))
        == [("skip", "published from the same inputs")] * 2
    )
    assert [one.action for one in _publish(registry, release)] == ["skip", "skip"]
    assert not [line for line in registry.log if line.startswith(("upload", "put"))]


def test_a_layer_changed(release: Release, changed: Release) -> None:
    registry = FakeRegistry()
    before = _publish(registry, release)
    (first, _) = _plan(registry, (changed[0], changed[1], []))
    assert (first.action, first.why) == ("build", "differs in layer-mooncake")
    registry.log.clear()
    after = _publish(registry, changed)
    assert len(registry.uploads()) == 1 + 4  # the layer, and the configs that name it
    for old, new in zip(before, after, strict=True):
        assert registry.tagged[old.immutable_tag] == old.digest
        assert registry.tagged[new.immutable_tag] == registry.tagged[new.tag] == new.digest
        assert new.digest != old.digest


def test_back_to_what_was_published_before_only_moves_the_tag(
    release: Release, changed: Release
) -> None:
    registry = FakeRegistry()
    first = _publish(registry, release)
    _publish(registry, changed)
    assert [step.action for step in _plan(registry, (release[0], release[1], []))] == ["move"] * 2
    registry.log.clear()
    assert [one.digest for one in _publish(registry, release)] == [one.digest for one in first]
    assert registry.tagged["v1"] == first[0].digest
    assert registry.uploads() == []


def test_a_promoted_image_without_its_immutable_tag_gets_it(release: Release) -> None:
    registry = FakeRegistry()
    (first, _) = _publish(registry, release)
    del registry.tagged[first.immutable_tag]
    step = _plan(registry, (release[0], release[1], []))[0]
    assert (step.action, step.why) == ("move", f"{first.immutable_tag} is missing")
    assert _publish(registry, release)[0].digest == first.digest
    assert registry.tagged[first.immutable_tag] == first.digest


def test_an_architecture_that_was_pushed_is_not_built_again(release: Release) -> None:
    layout, images, parts = release
    registry = FakeRegistry()
    final = _publish(registry, release)
    tag = next(tag for tag in registry.tagged if TEMPORARY.fullmatch(tag))
    registry.tagged = {tag: registry.tagged[tag]}
    registry.collect()
    there = TEMPORARY.fullmatch(tag)
    assert there is not None
    image = next(one for one in images if one.inputs.digest.startswith(there["inputs"]))
    (step,) = publish.plan(registry, [image], built([]), OCI)
    assert step.lacking == [arch for arch in image.arches if arch != there["arch"]]
    rest = [one for one in parts if (one.tag, one.arch) != (image.tag, there["arch"])]
    done = _publish(registry, (layout, images, rest))
    assert [one.digest for one in done] == [one.digest for one in final]


def test_an_immutable_tag_is_never_moved(
    release: Release, changed: Release, problems_of: Problems
) -> None:
    registry = FakeRegistry()
    others = _publish(registry, changed)
    for image, other in zip(release[1], others, strict=True):
        registry.tagged[image.immutable_tag] = other.digest
    before = dict(registry.tagged)
    problems = problems_of(lambda: _publish(registry, release), 65)
    assert len(problems) == 2
    assert all("this tag is never moved" in problem for problem in problems)
    assert registry.tagged == before


def test_an_immutable_tag_that_another_run_made_meanwhile(
    release: Release, changed: Release, problems_of: Problems
) -> None:
    registry = FakeRegistry()
    (other, _) = _publish(registry, changed)
    steps = _plan(registry, release)
    registry.tagged[release[1][0].immutable_tag] = other.digest
    before = registry.real_tags()
    publisher = Publisher(registry, release[0], OCI, print, now=NOW)
    (problem,) = problems_of(lambda: publisher.publish(steps), 65)
    assert f"is another image, {other.digest}" in problem
    assert registry.real_tags() == before


def test_what_is_missing_in_the_registry_is_told_and_no_tag_moves(
    release: Release, problems_of: Problems
) -> None:
    lost = release[0].manifest(release[2][0].digest).blobs[1].digest
    registry = ForgetfulRegistry(lost)
    (problem,) = problems_of(lambda: _publish(registry, release), 70)
    assert problem.startswith(f"{registry.name}@{lost}: the blob is missing")
    assert registry.real_tags() == {}


def test_a_blob_of_another_size_is_told(release: Release, problems_of: Problems) -> None:
    registry = FakeRegistry()
    found = _publish(registry, release)[0]
    blob = registry.manifests[registry.manifests[found.digest].arches["amd64"]].blobs[1]
    registry.blobs[blob.digest] = b"short"
    (problem,) = problems_of(lambda: require_complete(registry, [found.digest]), 70)
    assert f"the blob has 5 bytes, not {blob.size}" in problem


# ---- cut off anywhere ----------------------------------------------------------------------------


def _check(registry: FakeRegistry, allowed: dict[str, set[str]]) -> None:
    """No tag leads to something partial, or to anything but what was or what is to be."""
    for tag, digest in registry.tagged.items():
        assert list(registry.lacks(registry.manifests[digest])) == []
        if not TEMPORARY.fullmatch(tag):
            assert digest in allowed[tag]
            assert set(registry.manifests[digest].arches) == {"arm64", "amd64"}


def _finals(*releases: Release) -> dict[str, set[str]]:
    registry, allowed = FakeRegistry(), dict[str, set[str]]()
    for release in releases:
        for one in _publish(registry, release):
            for tag in (one.tag, one.immutable_tag):
                allowed.setdefault(tag, set()).add(one.digest)
    return allowed


def test_killed_after_every_single_operation(release: Release) -> None:
    final = _publish(FakeRegistry(), release)
    allowed = _finals(release)
    counted = FakeRegistry()
    _publish(counted, release)
    for operations in range(len(counted.log)):
        registry = FakeRegistry()
        registry.left = operations
        with pytest.raises(Killed):
            _publish(registry, release)
        _check(registry, allowed)
        registry.left = None
        assert [one.digest for one in _publish(registry, release)] == [one.digest for one in final]
        _check(registry, allowed)
        assert registry.real_tags() == counted.real_tags()


@settings(max_examples=60)
@given(
    kills=st.lists(st.tuples(st.integers(0, 90), st.booleans(), st.booleans()), max_size=6),
    before=st.booleans(),
)
def test_killed_again_and_again(
    release: Release, changed: Release, kills: list[tuple[int, bool, bool]], before: bool
) -> None:
    """Over an older release or none, now this one, now the other, with a garbage collection."""
    registry, allowed, now = FakeRegistry(), _finals(release, changed), NOW
    if before:
        _publish(registry, release)
    for operations, collected, other in kills:
        registry.left = operations
        now += timedelta(minutes=40)
        with contextlib.suppress(Killed):
            _publish(registry, release if other else changed, now)
        if collected:
            registry.collect()
        _check(registry, allowed)
    registry.left = None
    done = _publish(registry, changed, now)
    _check(registry, allowed)
    assert [one.digest for one in done] == [one.digest for one in _publish(FakeRegistry(), changed)]
    assert all(registry.tagged[one.tag] == one.digest for one in done)


def test_the_first_failure_stops_the_others_and_is_told(release: Release) -> None:
    class Refusing(FakeRegistry):
        def push_blob(self, blob: object, source: object, mount_from: str = "") -> None:
            from common.errors import EX_UNAVAILABLE, user_error

            raise user_error(self.name, "the registry is full", exit_code=EX_UNAVAILABLE)

    registry = Refusing()
    with pytest.raises(UserError) as raised:
        _publish(registry, release)
    assert [str(one) for one in raised.value.findings] == [f"{registry.name}: the registry is full"]
    assert registry.stop.is_set()
    assert registry.tagged == {}
