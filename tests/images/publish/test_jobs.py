"""From the matrix to a publication: the digest of the inputs, what is missing, what is built."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common.errors import EX_UNAVAILABLE, user_error
from images.attestations import provenance, sign
from images.build import build, inputs, push, targets
from images.build.base import FoundBase
from images.build.inputs import LABEL
from images.build.options import Options
from images.build.render import DEBIAN, Base
from images.build.targets import BuildTarget
from images.locking import slices
from images.matrix import CPU, STAND_IN, Matrix, Variant
from images.publish import built, jobs, publish
from images.publish.jobs import Job
from images.publish.publish import Image, Step
from images.registry.client import Repository
from images.registry.oci import Layout, Manifest
from tests.images.publish.publish_fakes import OCI, FakeRegistry, write_image

Problems = Callable[..., list[str]]
Variants = Callable[..., Variant]
PUBLISHED = FoundBase(
    Base("image", image="quay.io/ascend/cann:x", os_image="ubuntu:22.04"), "sha256:1"
)
BOTH = ("arm64", "amd64")


@pytest.fixture
def options(matrix: Matrix) -> Options:
    return Options(arches=tuple(matrix.arches.values()), push=True)


@pytest.fixture
def target(matrix: Matrix, variant: Variants, options: Options) -> Callable[..., BuildTarget]:
    def make(
        platform: str = "a3",
        os: str = "ubuntu22.04",
        base: FoundBase = PUBLISHED,
        **changes: Any,
    ) -> BuildTarget:
        chosen, own = variant(platform, os), dataclasses.replace(options, **changes)
        tag = f"registry.example.com/vllm-ascend:{chosen.tag}"
        return BuildTarget(matrix, chosen, base, tag, "python", own)

    return make


# ---- the digest of the inputs --------------------------------------------------------------------


def test_the_digest_is_the_same_in_any_order(
    matrix: Matrix, target: Callable[..., BuildTarget], options: Options
) -> None:
    found = target().inputs
    assert found.digest == target(arches=options.arches[::-1]).inputs.digest
    assert len(found.digest) == 64
    assert found.annotations[LABEL] == found.digest


def test_every_input_makes_another_digest(
    matrix: Matrix, target: Callable[..., BuildTarget], options: Options
) -> None:
    one = target()
    release = one.variant.release
    pinned = dataclasses.replace(release, vllm_ascend="0.13.0rc2")
    packages = {**release.os_packages, "apt": (*release.os_packages["apt"], "jq")}
    found = {
        "as it is": one.inputs.digest,
        "platform": target("a2").inputs.digest,
        "os": target(os="openeuler24.03").inputs.digest,
        "base": target(base=dataclasses.replace(PUBLISHED, identity="sha256:2")).inputs.digest,
        "arch": one.for_arches(options.arches[:1]).inputs.digest,
        "share-cann": target(share_cann=True).inputs.digest,
    }
    for name, other in (
        ("pin", pinned),
        ("packages", dataclasses.replace(release, os_packages=packages)),
    ):
        changed = dataclasses.replace(one.variant, release=other)
        altered = dataclasses.replace(one, variant=changed)
        found[name] = altered.inputs.digest
    assert len(set(found.values())) == len(found)


def test_a_file_of_the_entrypoint_makes_another_digest(
    matrix: Matrix,
    target: Callable[..., BuildTarget],
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = target().inputs
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "new.yaml").write_text("new: true")
    monkeypatch.setattr(targets, "ENV", tmp_path / "env")
    after = target().inputs
    assert after.digest != before.digest
    assert after.changed(before.annotations) == ["layer-entrypoint"]


def test_a_lock_names_its_layer(
    matrix: Matrix,
    target: Callable[..., BuildTarget],
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = target().inputs
    shutil.copytree(slices.LOCKS, tmp_path / "locks")
    for file in (tmp_path / "locks").glob("v0.13.0rc1/*/vllm.txt"):
        file.write_text(file.read_text() + "# another\n")
    monkeypatch.setattr(slices, "LOCKS", tmp_path / "locks")
    after = target().inputs
    assert after.changed(before.annotations) == ["layer-vllm"]


def test_what_says_nothing_of_its_stages_has_no_changes(
    matrix: Matrix, target: Callable[..., BuildTarget], options: Options
) -> None:
    found = target().inputs
    assert found.changed({}) == []
    assert found.changed({inputs.STAGES: "no JSON"}) == []
    assert found.changed(found.annotations) == []


# ---- a release is whole or refused ---------------------------------------------------------------


@pytest.fixture
def job(
    matrix: Matrix,
    options: Options,
    target: Callable[..., BuildTarget],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Job]:
    """A job for a registry in memory, whose images are built by a few bytes for each layer."""
    _machine(monkeypatch, tmp_path)
    monkeypatch.setattr(build, "provide_roots", lambda *_: None)
    monkeypatch.setattr(build, "into_layout", BUILDER)
    BUILDER.built.clear()

    def make(
        platforms: tuple[str, ...],
        oses: tuple[str, ...] = ("ubuntu22.04",),
        arches: tuple[str, ...] = BOTH,
        repository: Repository | None = None,
        base: FoundBase = PUBLISHED,
    ) -> Job:
        own = dataclasses.replace(options, arches=tuple(matrix.arch(name) for name in arches))
        chosen = [
            target(platform, os, base, arches=own.arches) for platform in platforms for os in oses
        ]
        registry = repository or FakeRegistry()
        return Job(chosen, registry, OCI)

    return make


def _machine(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Go on as on a machine that has built what is in `directory`."""
    monkeypatch.setattr(push, "LAYOUT", directory / "oci")
    monkeypatch.setattr(built, "RECORDS", directory / "parts")


class Builder:
    """Stands for BuildKit: writes a small image for each architecture, and an index of them."""

    def __init__(self) -> None:
        self.built: list[tuple[str, tuple[str, ...], Mapping[str, str]]] = []

    def __call__(
        self,
        wanted: list[BuildTarget],
        labels: Mapping[BuildTarget, Mapping[str, str]],
        say: object,
    ) -> dict[BuildTarget, str]:
        layout, result = Layout(push.LAYOUT), {}
        for one in wanted:
            arches = tuple(arch.name for arch in one.options.arches)
            self.built.append((one.tag.rpartition(":")[2], arches, labels[one]))
            made = {arch: write_image(layout, arch, {one.name: arch.encode()}) for arch in arches}
            entries = [
                {
                    **layout.manifest(digest).descriptor.raw,
                    "platform": {"architecture": arch, "os": "linux"},
                }
                for arch, digest in made.items()
            ]
            index = Manifest.made(
                {"schemaVersion": 2, "mediaType": OCI.index, "manifests": entries}
            )
            layout.path(index.digest).write_bytes(index.body)
            result[one] = index.digest
        return result


BUILDER = Builder()
PLATFORMS = ("a2", "a3")
OSES = ("ubuntu22.04", "openeuler24.03")


def _summary(steps: list[Step]) -> dict[str, str]:
    return {step.image.tag: step.action for step in steps}


def test_a_whole_release_is_built_and_published_at_once(job: Callable[..., Job]) -> None:
    registry = FakeRegistry()
    whole = job(PLATFORMS, OSES, repository=registry)
    assert set(_summary(jobs.plan(whole)).values()) == {"build"}
    done = jobs.run(whole, False, print)
    assert len(done) == 4
    assert {tag for tag in registry.real_tags() if tag.count("-") < 3} >= {
        "v0.13.0rc1", "v0.13.0rc1-a3", "v0.13.0rc1-a3-openeuler"
    }  # fmt: skip
    assert [(arches, list(labels)) for _, arches, labels in BUILDER.built] == [(BOTH, [LABEL])] * 4
    assert set(_summary(jobs.plan(whole)).values()) == {"skip"}
    BUILDER.built.clear()
    jobs.run(whole, False, print)
    assert BUILDER.built == []


def test_a_part_of_a_release_is_refused(
    job: Callable[..., Job], problems_of: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, roots = FakeRegistry(), list[object]()
    part = job(("a3",), repository=registry)
    monkeypatch.setattr(build, "provide_roots", lambda *given: roots.append(given))
    problems = problems_of(lambda: jobs.run(part, False, print), 65)
    assert roots == []  # they take a minute
    assert len(problems) == 3
    assert problems[0] == (
        f"{registry.name}:v0.13.0rc1: of release v0.13.0rc1 this is missing: arm64, amd64 "
        "(publish it too: --all and every --arch, or --allow-missing)"
    )
    assert (registry.tagged, BUILDER.built) == ({}, [])
    (done,) = jobs.run(part, True, print)
    assert registry.tagged[done.tag] == done.digest


def test_an_architecture_left_out_is_missing(
    job: Callable[..., Job], problems_of: Problems
) -> None:
    registry = FakeRegistry()
    one = job(PLATFORMS, OSES, ("arm64",), registry)
    problems = problems_of(lambda: jobs.run(one, False, print), 65)
    assert len(problems) == 4
    assert all("this is missing: amd64" in problem for problem in problems)
    jobs.run(one, True, print)
    assert list(registry.manifests[registry.tagged["v0.13.0rc1"]].arches) == ["arm64"]
    (step,) = (s for s in jobs.plan(job(PLATFORMS, OSES, repository=registry))
               if s.image.tag == "v0.13.0rc1")  # fmt: skip
    assert step.action == "build"
    jobs.run(job(PLATFORMS, OSES, repository=registry), False, print)
    assert list(registry.manifests[registry.tagged["v0.13.0rc1"]].arches) == list(BOTH)


def test_what_the_registry_has_of_the_release_is_not_missing(job: Callable[..., Job]) -> None:
    registry = FakeRegistry()
    jobs.run(job(("a2",), OSES, repository=registry), True, print)
    jobs.run(job(("a3",), ("ubuntu22.04",), repository=registry), True, print)
    rest = job(("a3",), ("openeuler24.03",), repository=registry)
    assert _summary(jobs.plan(rest)) == {"v0.13.0rc1-a3-openeuler": "build"}
    jobs.run(rest, False, print)


def test_what_is_missing_is_told_of_the_stand_in_s_own_tags(
    matrix: Matrix, job: Callable[..., Job], variant: Variants
) -> None:
    base = FoundBase(Base(STAND_IN), "stand-in of CANN 8.3.rc2")
    standing = job(("a3",), base=base)
    (target,) = standing.targets
    named = dataclasses.replace(target, tag=f"{target.tag}-standin")
    steps = jobs.plan(dataclasses.replace(standing, targets=[named]))
    assert [step.image.tag for step in steps if step.action == "missing"] == [
        "v0.13.0rc1-standin",
        "v0.13.0rc1-openeuler-standin",
        "v0.13.0rc1-a3-openeuler-standin",
    ]


def test_an_image_without_npus_is_beside_the_release(
    matrix: Matrix, job: Callable[..., Job]
) -> None:
    for_npus = job(("a3",), OSES)
    variant = matrix.variant(None, CPU, "", "0.13.0")
    debian = FoundBase(Base(DEBIAN), "packages")
    tag = f"registry.example.com/vllm-ascend:{variant.tag}"
    cpu = BuildTarget(matrix, variant, debian, tag, None, for_npus.options)
    assert jobs._missing(dataclasses.replace(for_npus, targets=[cpu])) == []
    both = dataclasses.replace(for_npus, targets=[cpu, *for_npus.targets])
    assert jobs._missing(both) == jobs._missing(for_npus)


# ---- what is built is not built again ------------------------------------------------------------


def _built_and_cut_off(job: Job, monkeypatch: pytest.MonkeyPatch) -> Job:
    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publish.Publisher, "publish", cut_off)
        with pytest.raises(KeyboardInterrupt):
            jobs.run(job, True, print)
    return job


def test_cut_off_after_the_build_it_only_pushes(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _built_and_cut_off(job(("a3",)), monkeypatch)
    assert len(BUILDER.built) == 1
    (step, *_) = jobs.plan(one)
    assert (step.action, step.why) == (
        "push",
        "not published yet; built here, not in the registry: arm64, amd64",
    )
    jobs.run(one, True, print)
    assert len(BUILDER.built) == 1


def test_a_layout_that_lost_a_blob_is_built_again(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _built_and_cut_off(job(("a3",)), monkeypatch)
    layout = Layout(push.LAYOUT)
    (step, *_) = jobs.plan(one)
    layout.path(layout.manifest(step.local["amd64"]).blobs[1].digest).unlink()
    (step, *_) = jobs.plan(one)
    assert (step.action, sorted(step.local)) == ("build", ["arm64"])
    jobs.run(one, True, print)
    assert [arches for _, arches, _ in BUILDER.built] == [BOTH, ("amd64",)]


def test_the_layout_keeps_only_what_was_published_last(job: Callable[..., Job]) -> None:
    jobs.run(job(("a3",)), True, print)
    (push.LAYOUT / "blobs" / "sha256" / "stray").write_text("of an older build")
    jobs.run(job(("a2",)), True, print)
    layout = Layout(push.LAYOUT)
    kept = {path.name for path in (push.LAYOUT / "blobs" / "sha256").iterdir()}
    assert "stray" not in kept
    assert len(kept) == 2 * len(layout.manifest(f"sha256:{_a_manifest(kept)}").blobs) + 2


def _a_manifest(names: set[str]) -> str:
    blobs = push.LAYOUT / "blobs" / "sha256"
    return next(name for name in sorted(names) if b'"layers"' in (blobs / name).read_bytes()[:9999]
                and b"schemaVersion" in (blobs / name).read_bytes())  # fmt: skip


def test_an_image_is_the_same_whatever_the_order_of_the_options(job: Callable[..., Job]) -> None:
    there, back = (job(("a3",), arches=arches) for arches in (BOTH, BOTH[::-1]))
    first: list[Image] = [step.image for step in jobs.plan(there)]
    assert first == [step.image for step in jobs.plan(back)]


# ---- one machine for each architecture -----------------------------------------------------------


def test_two_machines_make_what_one_makes(
    job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, registry = FakeRegistry(), FakeRegistry()
    jobs.run(job(("a3",), repository=alone), True, print)
    BUILDER.built.clear()
    for arch, machine in (("amd64", "x86_64"), ("arm64", "aarch64")):
        _machine(monkeypatch, tmp_path / arch)
        monkeypatch.setattr("platform.machine", partial(str, machine))
        (step,) = jobs.run_part(job(("a3",), repository=registry), arch, print)
        assert (step.action, step.why) == ("build", f"the registry lacks {arch}")
        (again,) = jobs.run_part(job(("a3",), repository=registry), arch, print)
        assert again.action == "skip"
        assert registry.real_tags() == {}
    assert [arches for _, arches, _ in BUILDER.built] == [("amd64",), ("arm64",)]
    _machine(monkeypatch, tmp_path / "third")
    jobs.merge(job(("a3",), repository=registry), True, print)
    assert registry.real_tags() == alone.real_tags()
    assert len(BUILDER.built) == 2
    jobs.merge(job(("a3",), repository=registry), True, print)


def test_a_merge_names_every_part_that_is_not_there(
    job: Callable[..., Job], problems_of: Problems
) -> None:
    registry = FakeRegistry()
    both = job(("a2", "a3"), repository=registry)
    jobs.run_part(both, "arm64", print)
    problems = problems_of(lambda: jobs.merge(both, True, print), 65)
    assert problems == [
        f"{registry.name}:{tag}: from these inputs the registry has no amd64 "
        "(invoke publish --part amd64 with the same options)"
        for tag in ("v0.13.0rc1", "v0.13.0rc1-a3")
    ]
    assert registry.real_tags() == {}


def test_a_merge_of_a_part_of_a_release_is_refused(
    job: Callable[..., Job], problems_of: Problems
) -> None:
    one = job(("a3",))
    for arch in BOTH:
        jobs.run_part(one, arch, print)
    assert len(problems_of(lambda: jobs.merge(one, False, print), 65)) == 3


# ---- signed --------------------------------------------------------------------------------------


class Signatures:
    """In the place of cosign: which architecture has its provenance; it may fail."""

    def __init__(self) -> None:
        self.attested: list[tuple[str, str]] = []
        self.fails = False

    def attest(self, at: str, kind: str, predicate: str, signer: object) -> None:
        if self.fails:
            raise user_error("cosign attest", "the log does not answer", exit_code=EX_UNAVAILABLE)
        self.attested.append((at, json.loads(predicate)["of"]))


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> Signatures:
    """Signing without cosign, and provenance without BuildKit."""
    made = Signatures()

    def said(layout: object, index: Manifest) -> dict[str, list[provenance.Statement]]:
        kind = f"{provenance.SLSA}v0.2"
        return {
            digest: [provenance.Statement(kind, (), {"of": arch})]
            for arch, digest in index.arches.items()
        }

    monkeypatch.setattr(provenance, "buildkit", said)
    monkeypatch.setattr(sign, "attest", made.attest)
    monkeypatch.setattr(sign, "index", lambda *_: None)
    return made


def _signed(job: Job) -> Job:
    return dataclasses.replace(job, signer=sign.Signer())


def test_whoever_builds_signs_the_provenance(
    job: Callable[..., Job], signatures: Signatures
) -> None:
    registry = FakeRegistry()
    jobs.run(_signed(job(("a3",), repository=registry)), True, print)
    tags = {arch: digest for tag, digest in registry.tagged.items() for arch in BOTH
            if tag.endswith("-proven") and arch in tag}  # fmt: skip
    assert sorted(signatures.attested) == sorted(
        (f"{registry.name}@{tags[arch]}", arch) for arch in BOTH
    )


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_part_whose_provenance_was_not_signed_is_not_there(
    job: Callable[..., Job],
    signatures: Signatures,
    problems_of: Problems,
    elsewhere: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = FakeRegistry()
    one = _signed(job(("a3",), repository=registry))
    signatures.fails = True
    problems_of(lambda: jobs.run_part(one, "arm64", print), 69)
    assert registry.tagged == {}
    signatures.fails = False
    if elsewhere:
        _machine(monkeypatch, tmp_path / "elsewhere")
    registry.stop.clear()
    uploads = registry.uploads()
    (step,) = jobs.run_part(one, "arm64", print)
    assert step.action == ("build" if elsewhere else "push")
    assert registry.uploads() == uploads
    (digest,) = registry.tagged.values()
    assert signatures.attested == [(f"{registry.name}@{digest}", "arm64")]


def test_what_one_part_recorded_the_next_one_leaves(
    job: Callable[..., Job], signatures: Signatures, problems_of: Problems
) -> None:
    one = _signed(job(("a3",)))
    signatures.fails = True
    for arch in BOTH:
        problems_of(lambda arch=arch: jobs.run_part(one, arch, print), 69)
        one.repository.stop.clear()
    signatures.fails = False
    assert [jobs.run_part(one, arch, print)[0].action for arch in BOTH] == ["push", "push"]
    assert [arch for _, arch in signatures.attested] == list(BOTH)


def test_an_unsigned_part_is_not_enough_for_a_signed_image(
    job: Callable[..., Job], signatures: Signatures, problems_of: Problems
) -> None:
    one = job(("a3",))
    for arch in BOTH:
        jobs.run_part(one, arch, print)
    problems = problems_of(lambda: jobs.merge(_signed(one), True, print), 65)
    assert ["no arm64 with a signed provenance" in line for line in problems] == [True, False]
    (step,) = jobs.run_part(_signed(one), "arm64", print)
    assert step.action == "push"
    jobs.merge(one, True, print)
