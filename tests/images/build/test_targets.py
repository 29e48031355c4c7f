"""What is chosen, under which tag, from which files: the options of a build."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images.build import graph, targets
from images.build.base import FoundBase
from images.build.options import Options, parse_arches, parse_sources, select_variants
from images.build.render import Base
from images.build.targets import BuildTarget, resolve
from images.locking import slices
from images.matrix import STAND_IN, Matrix, Variant
from images.mirrors import Mirrors

Problems = Callable[..., list[str]]
Variants = Callable[..., Variant]
STANDING_IN = FoundBase(Base(STAND_IN), "stand-in of CANN 8.3.rc2")
PUBLISHED = FoundBase(Base("image", image="quay.io/ascend/cann:x"), "sha256:1")


def _silent(_: str) -> None:
    pass


@pytest.fixture
def options(matrix: Matrix) -> Options:
    return Options(arches=(matrix.arch("arm64"),))


# ---- names ---------------------------------------------------------------------------------------


def test_platforms_and_oses_are_combined(matrix: Matrix) -> None:
    found = select_variants(matrix, None, ["a2", "a3"], ["ubuntu22.04", "openeuler24.03"], False)
    assert [variant.tag for variant in found] == [
        "v0.13.0rc1",
        "v0.13.0rc1-openeuler",
        "v0.13.0rc1-a3",
        "v0.13.0rc1-a3-openeuler",
    ]


def test_all_is_every_image_of_the_release(matrix: Matrix) -> None:
    found = select_variants(matrix, "v0.23.0.post1", [], ["ubuntu22.04"], True)
    assert len(found) == 4
    assert {variant.platform.name for variant in found} == {"a2", "a3"}


def test_no_platform(matrix: Matrix, problems_of: Problems) -> None:
    assert problems_of(lambda: select_variants(matrix, None, [], ["ubuntu22.04"], False), 64) == [
        "--platform: is missing (--platform a2 or a3 or 310p, or --all)"
    ]


def test_every_wrong_platform_is_told_once(matrix: Matrix, problems_of: Problems) -> None:
    names, oses = ["a3", "a33", "a5", "b"], ["ubuntu22.04", "openeuler24.03"]
    assert problems_of(lambda: select_variants(matrix, None, names, oses, False), 64) == [
        "--platform: 'a33' is not in the matrix (did you mean a3?)",
        "--platform: release v0.13.0rc1 has no a5 image (it has a2, a3, 310p)",
        "--platform: 'b' is not in the matrix (known: a2, a3, 310p, a5, cpu)",
    ]


def test_wrong_names_of_every_kind_are_told_at_once(matrix: Matrix, problems_of: Problems) -> None:
    found = problems_of(lambda: select_variants(matrix, "v0.13", ["a33"], ["ubunto"], False), 64)
    assert sorted(problem.split(":")[0] for problem in found) == ["--os", "--platform", "--release"]


@pytest.mark.parametrize("everything", [False, True])
def test_a_wrong_release_is_told_once(
    matrix: Matrix, problems_of: Problems, everything: bool
) -> None:
    oses = ["ubuntu22.04", "openeuler24.03"]
    (problem,) = problems_of(
        lambda: select_variants(matrix, "v0.13.1", ["a2", "a3"], oses, everything), 64
    )
    assert problem.startswith("--release: 'v0.13.1' is not in the matrix (did you mean v0.1")


def test_no_os_is_no_choice(matrix: Matrix, problems_of: Problems) -> None:
    (problem,) = problems_of(lambda: select_variants(matrix, None, ["a3"], [], False), 64)
    assert problem.startswith("--os: ")


def test_a_platform_named_twice_is_built_once(matrix: Matrix) -> None:
    assert len(select_variants(matrix, None, ["a3", "a3"], ["ubuntu22.04"], False)) == 1


def test_architectures(matrix: Matrix, problems_of: Problems) -> None:
    found = parse_arches(matrix, ["arm64", "amd64"])
    assert [arch.oci_platform for arch in found] == ["linux/arm64", "linux/amd64"]
    (problem,) = problems_of(lambda: parse_arches(matrix, ["arm"]), 64)
    assert problem == "--arch: 'arm' is not in the matrix (did you mean arm64?)"


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("riscv64", "arm64")],
)
def test_this_machines_own_architecture(
    matrix: Matrix, monkeypatch: pytest.MonkeyPatch, machine: str, arch: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert [one.name for one in parse_arches(matrix, [])] == [arch]


def test_sources_are_directories_or_addresses(tmp_path: Path) -> None:
    url = "https://git.example/Mooncake.git#main"
    assert parse_sources([f"vllm-ascend={tmp_path}", f"mooncake={url}"]) == {
        "vllm-ascend": str(tmp_path),
        "mooncake": url,
    }
    assert parse_sources([]) == {}


def test_every_wrong_source_is_told(problems_of: Problems) -> None:
    given = ["moncake=https://x.example", "mooncake=/none", "vllm-ascend", "mooncake="]
    assert problems_of(lambda: parse_sources(given), 64) == [
        "--source: 'moncake=https://x.example': unknown source 'moncake' (did you mean mooncake?)",
        "--source: 'mooncake=/none': no such directory (NAME=DIR or NAME=URL)",
        "--source: 'vllm-ascend': no such directory (NAME=DIR or NAME=URL)",
        "--source: 'mooncake=': no such directory (NAME=DIR or NAME=URL)",
    ]


# ---- tags and tools ------------------------------------------------------------------------------


def _one(matrix: Matrix, variant: Variant, options: Options) -> BuildTarget:
    (target,) = resolve(matrix, [variant], options, _silent)
    return target


@pytest.mark.parametrize(
    ("registry", "tag"),
    [
        ("", "vllm-ascend:v0.13.0rc1-a3-standin"),
        ("r.example.com/team", "r.example.com/team/vllm-ascend:v0.13.0rc1-a3-standin"),
        ("r.example.com:5000/", "r.example.com:5000/vllm-ascend:v0.13.0rc1-a3-standin"),
    ],
)
def test_the_tag_says_that_it_is_a_stand_in(
    matrix: Matrix, variant: Variants, options: Options, registry: str, tag: str
) -> None:
    target = _one(matrix, variant("a3"), replace(options, base=STAND_IN, registry=registry))
    assert target.tag == tag
    assert target.name == "v0_13_0rc1-a3-standin"


def test_the_published_tag(
    docker: Any, matrix: Matrix, variant: Variants, options: Options
) -> None:
    docker.answers("image inspect *", out="sha256:1\n")
    target = _one(matrix, variant("a3", "openeuler24.03"), options)
    assert target.tag == "vllm-ascend:v0.13.0rc1-a3-openeuler"
    assert target.tools_image == "docker.io/library/python:3.11-slim-bookworm"


@pytest.mark.parametrize(
    ("base", "tools", "image"),
    [
        (STAND_IN, None, None),
        (STAND_IN, "tools.example:1", "tools.example:1"),
        ("cann.example:1", None, "m.example/docker.io/library/python:3.11-slim-bookworm"),
        ("cann.example:1", "debian", None),
        ("cann.example:1", "tools.example:1", "tools.example:1"),
    ],
)
def test_what_the_stages_run_on(
    docker: Any,
    matrix: Matrix,
    variant: Variants,
    options: Options,
    base: str,
    tools: str | None,
    image: str | None,
) -> None:
    docker.answers("image inspect *", out="sha256:1\n")
    mirrors = Mirrors(registry_mirror="m.example")
    target = _one(matrix, variant("a3"), replace(options, base=base, tools=tools, mirrors=mirrors))
    assert target.tools_image == image


def test_debian_has_no_newer_python(
    docker: Any, matrix: Matrix, options: Options, problems_of: Problems
) -> None:
    docker.answers("image inspect *", out="sha256:1\n")
    variant = matrix.variant("v0.23.0.post1", "a3", "ubuntu22.04")
    (problem,) = problems_of(
        lambda: targets._tools_image(matrix, variant, PUBLISHED, replace(options, tools="debian")),
        64,
    )
    assert problem == (
        "--tools debian: v0.23.0.post1 needs Python 3.12, Debian bookworm has 3.11 (--tools IMAGE)"
    )


def test_a_release_without_a_lock_is_refused_once(
    matrix: Matrix, options: Options, problems_of: Problems
) -> None:
    chosen_ones = [
        replace(one, release=replace(one.release, name="v9"))
        for one in select_variants(matrix, None, ["a2", "a3"], ["ubuntu22.04"], False)
    ]
    found = problems_of(
        lambda: resolve(matrix, chosen_ones, replace(options, base=STAND_IN), _silent), 65
    )
    assert found == ["locks/v9: this release has no lock (invoke lock --release v9)"]


def test_wrong_installers_and_a_missing_lock_are_told_together(
    matrix: Matrix, options: Options, problems_of: Problems, tmp_path: Path
) -> None:
    variant = matrix.variant("v0.18.0", "a3", "ubuntu22.04")
    variant = replace(variant, release=replace(variant.release, name="v9"))
    found = problems_of(
        lambda: resolve(matrix, [variant], replace(options, cann_packages=tmp_path), _silent), 65
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "locks/v9",
        f"{tmp_path}/SHA256SUMS",
    ]


def test_every_image_that_nobody_has_is_told(
    docker: Any, matrix: Matrix, options: Options, problems_of: Problems
) -> None:
    docker.answers("image inspect *", err="No such image", code=1)
    docker.answers("buildx imagetools *", err="ERROR: not found", code=1)
    both = select_variants(matrix, None, ["a2", "a3"], ["ubuntu22.04"], False)
    assert len(problems_of(lambda: resolve(matrix, both, options, _silent), 69)) == 2


# ---- files ---------------------------------------------------------------------------------------


def _target(matrix: Matrix, variant: Variant, found: FoundBase, options: Options) -> BuildTarget:
    return BuildTarget(matrix, variant, found, "vllm-ascend:x", None, options)


def test_a_stand_in_takes_no_sources(matrix: Matrix, variant: Variants, options: Options) -> None:
    found = _target(matrix, variant("a3"), STANDING_IN, options).contexts
    assert set(found) == {"", "stages", "locks", "entrypoints", "env"}
    assert found["locks"] == slices.LOCKS


def test_sources_are_those_of_the_release(
    matrix: Matrix, variant: Variants, options: Options
) -> None:
    found = _target(matrix, variant("a3"), PUBLISHED, options).contexts
    assert found["vllm-ascend-source"] == (
        "https://github.com/vllm-project/vllm-ascend.git#v0.13.0rc1"
    )
    assert found["mooncake-source"] == "https://github.com/kvcache-ai/Mooncake.git#v0.3.7.post2"
    assert found["yalantinglibs-source"] == "https://github.com/alibaba/yalantinglibs.git#0.5.5"


def test_sources_given_replace_them(
    matrix: Matrix, variant: Variants, options: Options, tmp_path: Path
) -> None:
    given = {
        "vllm-ascend": str(tmp_path),
        "mooncake": "https://git.example/M.git",
        "yalantinglibs": "https://git.example/y.git#main",
    }
    own = replace(options, sources=given)
    found = _target(matrix, variant("a3"), PUBLISHED, own).contexts
    assert found["vllm-ascend-source"] == tmp_path
    assert found["mooncake-source"] == "https://git.example/M.git#v0.3.7.post2"
    assert found["yalantinglibs-source"] == "https://git.example/y.git#main"


def _prints(matrix: Matrix, variant: Variant, found: FoundBase, options: Options) -> dict[str, str]:
    return _target(matrix, variant, found, options).dockerfile.fingerprints


def test_a_moved_base_makes_another_image_of_the_same_layers(
    matrix: Matrix, variant: Variants, options: Options
) -> None:
    before, after = (
        _prints(matrix, variant("a3"), replace(PUBLISHED, identity=identity), options)
        for identity in ("sha256:1", "sha256:2")
    )
    same = {name for name in before if before[name] == after[name]}
    assert {"tools", "layer-torch", "layer-libraries", "layer-dependencies"} <= same
    assert {"layer-vllm", "layer-venv", "layer-entrypoint"} <= same
    assert not {"image", "environment", "sdk", "layer-vllm-ascend"} & same


def test_two_architectures_are_made_from_both(
    matrix: Matrix, variant: Variants, options: Options
) -> None:
    arm, amd = (matrix.arch(name) for name in ("arm64", "amd64"))
    each = [
        _prints(matrix, variant("a3"), STANDING_IN, replace(options, arches=arches))
        for arches in ((arm,), (amd,), (arm, amd))
    ]
    assert each[2]["image"] == f"{each[0]['image']}-{each[1]['image']}"
    assert each[2]["tools"] == each[0]["tools"] == each[1]["tools"]


def test_installers_count_by_their_sums_and_are_not_read(
    matrix: Matrix, variant: Variants, options: Options, tmp_path: Path
) -> None:
    installers = {part: f"{part}.run" for part in ("toolkit", "kernels", "nnal")}
    given = replace(options, cann_packages=tmp_path)
    before, after = (
        _prints(
            matrix,
            variant("a3"),
            FoundBase(Base("packages", installers=installers), identity),
            given,
        )
        for identity in ("toolkit.run@sha256:1", "toolkit.run@sha256:2")
    )
    assert before["cann"] != after["cann"]
    assert before["layer-torch"] == after["layer-torch"]


def test_byte_code_beside_the_sources_builds_no_layer_again(
    matrix: Matrix, variant: Variants, options: Options, tmp_path: Path
) -> None:
    """Neither BuildKit nor a fingerprint takes it: a test run would spoil the cache."""
    places = _target(matrix, variant("a3"), STANDING_IN, options).contexts.values()
    directories = [one for one in places if isinstance(one, Path) and any(one.rglob("*.py"))]
    assert {one.name for one in directories} == {"entrypoints", "stages"}
    for one in directories:
        ignored = (one / ".dockerignore").read_text().splitlines()
        assert {"**/__pycache__", ".dockerignore"} <= {*ignored}
    names = ("a.py", ".dockerignore", "sub/__pycache__/a.pyc", "sub/b.py")
    prints = []
    for count in range(1, 5):
        for name in names[:count]:
            path = tmp_path / str(count) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        prints.append(graph._content(tmp_path / str(count), ""))
    assert prints[0] == prints[1] == prints[2] != prints[3]
