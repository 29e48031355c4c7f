"""Promotion: what belongs to a tag, and that it can be cut off anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.publish import publish
from images.publish.promote import Promoted, promote
from images.registry.client import Reference, bytes_source
from images.registry.oci import Descriptor, Manifest
from tests.images.publish.publish_fakes import (
    OCI,
    FakeRegistry,
    ForgetfulRegistry,
    Killed,
    built,
    sha256,
    small_release,
)

Problems = Callable[..., list[str]]
HERE = Reference("staging.example.com/vllm-ascend", "v1-a3")
THERE = Reference("registry.example.com/team/vllm-ascend")


def attached(registry: FakeRegistry, subject: str, words: str, tag: str = "") -> str:
    """Push an artifact that refers to `subject`, or has a `tag` as cosign's do."""
    content = words.encode()
    blob = Descriptor("text/plain", sha256(content), len(content))
    if blob.digest not in registry.blobs:
        registry.push_blob(blob, bytes_source(content))
    document = {"schemaVersion": 2, "mediaType": OCI.manifest, "artifactType": "example/words",
                "config": blob.raw, "layers": [blob.raw], "annotations": {"of": words}}  # fmt: skip
    if not tag:
        document["subject"] = registry.manifests[subject].descriptor.raw
    made = Manifest.made(document)
    registry.push_manifest(tag or made.digest, made)
    if not tag and not registry.has_referrers:
        name = subject.replace(":", "-")
        there = registry.manifests.get(registry.tagged.get(name, ""))
        entries = [*(there.document["manifests"] if there else []), made.descriptor.raw]
        registry.push_manifest(
            name,
            Manifest.made({"schemaVersion": 2, "mediaType": OCI.index, "manifests": entries}),
        )
    return made.digest


def source(directory: Path, has_referrers: bool) -> tuple[FakeRegistry, set[str]]:
    """A registry with an image, two signatures of the index, an SBOM with one of its own."""
    registry = FakeRegistry(HERE.repository)
    registry.has_referrers = has_referrers
    layout, images, parts = small_release(directory)
    steps = publish.plan(registry, images, built(parts), OCI)
    index = publish.Publisher(registry, layout, OCI, print).publish(steps)[1].digest
    arm = registry.manifests[index].arches["arm64"]
    sbom = attached(registry, arm, "sbom")
    belongs = {
        *(index, *registry.manifests[index].arches.values(), sbom),
        attached(registry, index, "signature"),
        attached(registry, index, "another signature"),
        attached(registry, sbom, "signature of the sbom"),
        attached(registry, index, "cosign", index.replace(":", "-") + ".sig"),
        attached(registry, arm, "attestation", arm.replace(":", "-") + ".att"),
    }
    return registry, belongs


@pytest.fixture(scope="module", params=[True, False], ids=["interface", "tags"])
def staging(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FakeRegistry, set[str]]:
    return source(tmp_path_factory.mktemp("oci"), request.param)


def _promote(here: FakeRegistry, there: FakeRegistry, to: Reference = THERE) -> Promoted:
    return promote(here, HERE, there, to, print)


@pytest.mark.parametrize("has_referrers", [True, False])
def test_everything_that_belongs_to_the_tag(
    staging: tuple[FakeRegistry, set[str]], has_referrers: bool
) -> None:
    here, belongs = staging
    there = FakeRegistry()
    there.has_referrers = has_referrers
    done = _promote(here, there)
    index = here.tagged["v1-a3"]
    assert (done.digest, done.manifests, done.referrers) == (index, len(belongs), 6)
    assert belongs <= set(there.manifests)
    assert there.tagged["v1-a3"] == index
    assert there.tagged[index.replace(":", "-") + ".sig"]
    fallback = {tag for tag in there.tagged if tag.startswith("sha256-") and "." not in tag}
    assert len(fallback) == (0 if has_referrers else 3)
    assert "v1" not in there.tagged
    there.log.clear()
    again = _promote(here, there)
    assert (again.bytes, again.moved, there.uploads()) == (0, False, [])


def test_under_another_tag_over_an_older_image(staging: tuple[FakeRegistry, set[str]]) -> None:
    here, _ = staging
    there = FakeRegistry()
    promote(here, Reference(HERE.repository, "v1"), there, THERE, print)
    there.tagged["stable"] = there.tagged["v1"]
    done = _promote(here, there, Reference(THERE.repository, "stable"))
    assert there.tagged["stable"] == here.tagged["v1-a3"]
    assert done.target == f"{there.name}:stable"


def test_referrers_that_the_target_has_already_stay(
    staging: tuple[FakeRegistry, set[str]],
) -> None:
    here, _ = staging
    there = FakeRegistry()
    _promote(here, there)
    own = attached(there, here.tagged["v1-a3"], "a signature made there")
    _promote(here, there)
    name = here.tagged["v1-a3"].replace(":", "-")
    listed = [one.digest for one in there.manifests[there.tagged[name]].children]
    assert own in listed
    assert len(listed) == 3


def test_a_signature_is_there_before_the_tag(staging: tuple[FakeRegistry, set[str]]) -> None:
    here, _ = staging
    there = FakeRegistry()
    _promote(here, there)
    puts = [line for line in there.log if line.startswith(("put", "upload"))]
    assert puts[-1] == "put v1-a3"


def test_killed_after_every_single_operation(staging: tuple[FakeRegistry, set[str]]) -> None:
    here, belongs = staging
    counted = FakeRegistry()
    _promote(here, counted)
    for operations in range(len(counted.log)):
        there = FakeRegistry()
        there.left = operations
        with pytest.raises(Killed):
            _promote(here, there)
        there.left = None
        if "v1-a3" in there.tagged:
            assert belongs <= set(there.manifests)
        _promote(here, there)
        assert there.tagged == counted.tagged
        assert set(there.manifests) >= belongs


@settings(max_examples=40)
@given(kills=st.lists(st.tuples(st.integers(0, 70), st.booleans()), max_size=5))
def test_killed_again_and_again(
    staging: tuple[FakeRegistry, set[str]], kills: list[tuple[int, bool]]
) -> None:
    here, belongs = staging
    there = FakeRegistry()
    promote(here, Reference(HERE.repository, "v1"), there, THERE, print)
    there.tagged["v1-a3"] = older = there.tagged["v1"]
    for operations, collected in kills:
        there.left = operations
        with contextlib.suppress(Killed):
            _promote(here, there)
        if there.tagged["v1-a3"] != older:
            assert belongs <= set(there.manifests)
        if collected:
            there.collect()
    there.left = None
    assert _promote(here, there).digest == there.tagged["v1-a3"] != older
    assert belongs <= set(there.manifests)


def test_what_is_missing_in_the_target_is_told_and_no_tag_moves(
    staging: tuple[FakeRegistry, set[str]], problems_of: Problems
) -> None:
    here, _ = staging
    index = here.manifests[here.tagged["v1-a3"]]
    lost = here.manifests[index.arches["amd64"]].blobs[1].digest
    there = ForgetfulRegistry(lost)
    (problem,) = problems_of(lambda: _promote(here, there), 70)
    assert problem.startswith(f"{there.name}@{lost}: the blob is missing")
    assert "v1-a3" not in there.tagged


def test_no_such_image(staging: tuple[FakeRegistry, set[str]], problems_of: Problems) -> None:
    here, _ = staging
    missing = Reference(HERE.repository, "v2")
    assert problems_of(lambda: promote(here, missing, FakeRegistry(), THERE, print), 69) == [
        f"{here.name}:v2: there is no such image"
    ]


def test_no_tag(staging: tuple[FakeRegistry, set[str]], problems_of: Problems) -> None:
    here, _ = staging
    none = Reference(HERE.repository)
    (problem,) = problems_of(lambda: promote(here, none, FakeRegistry(), THERE, print), 64)
    assert problem.startswith("SOURCE")
    by_digest = Reference(HERE.repository, digest=here.tagged["v1"])
    (problem,) = problems_of(lambda: promote(here, by_digest, FakeRegistry(), THERE, print), 64)
    assert problem.startswith("TARGET")
