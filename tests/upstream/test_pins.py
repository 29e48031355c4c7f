"""The pins of a release: what each form of upstream's files says, and who says otherwise."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from images.locking.lock import compatible
from tests.upstream.sample_releases import LATER, REQUIREMENTS, WHEELS, sources, vllm_ascend
from upstream.bump import pins
from upstream.dockerfile import Dockerfile, dockerfiles
from upstream.facts import Derived, join_citations
from upstream.sources import Tree


def facts(derived: Derived) -> dict[str, object]:
    return {fact.key: fact.value for fact in derived.facts}


def cited(derived: Derived) -> dict[str, str]:
    return {fact.key: fact.source for fact in derived.facts}


def said(derived: Derived, key: str) -> list[tuple[object, str]]:
    return [one for found in derived.contradictions if found.key == key for one in found.claims]


def test_the_entry() -> None:
    assert facts(pins.derive(sources())) == {
        "python": "3.11",
        "cann": "8.5.1",
        "platforms": ["a3", "310p"],
        "vllm": "0.18.0",
        "vllm_ascend": "0.18.0",
        "torch": "2.9.0",
        "torch_npu": "2.9.0.post1",
        "triton_ascend": "3.2.0",
        "mooncake.version": "0.3.9",
        "mooncake.from": "source",
        "mooncake.yalantinglibs": "0.5.6",
        "requirements": [
            "transformers>=4.57.4,<5",
            "torchvision==0.24.0",
            "torchaudio==2.9.0",
            "opencv-python-headless<=4.11.0.86",
            "numpy<2.0.0",
        ],
        "compiled": ["arctic-inference"],
        "os_packages.apt": ["git", "gcc", "pciutils", "libjemalloc2"],
        "os_packages.dnf": ["git", "gcc", "jemalloc"],
    }


def test_each_pin_says_where_it_stands() -> None:
    found = cited(pins.derive(sources()))
    assert found["torch_npu"] == "vllm-ascend v0.18.0: Dockerfile.a3:20"
    assert found["torch"] == "vllm-ascend v0.18.0: requirements.txt:2"
    assert found["mooncake.version"] == "vllm-ascend v0.18.0: Dockerfile.310p:4"
    assert found["requirements"].startswith("vllm-ascend v0.18.0: requirements.txt:7, 4, 1; vllm")


def test_the_dockerfile_wins_and_the_others_are_told_with_their_lines() -> None:
    derived = pins.derive(sources())
    assert said(derived, "torch_npu") == [
        ("2.9.0.post1", "vllm-ascend v0.18.0: Dockerfile.a3:20"),
        ("2.9.0", "vllm-ascend v0.18.0: requirements.txt:5"),
        ("2.9.0", "vllm-ascend v0.18.0: pyproject.toml:4"),
    ]
    policy = "vllm-ascend v0.18.0: docs/source/community/versioning_policy.md:3"
    assert said(derived, "cann")[1:] == [("8.5.0", policy)]
    assert not said(derived, "vllm")


def test_requirements_before_pyproject_and_vllm_ascend_before_vllm() -> None:
    derived = pins.derive(sources())
    assert [value for value, _ in said(derived, "requirements.transformers")] == [
        ">=4.57.4",
        "<=4.57.1",
    ]
    assert [value for value, _ in said(derived, "requirements.opencv-python-headless")] == [
        "<=4.11.0.86",
        ">=4.13.0",
    ]
    assert not said(derived, "requirements.numpy")


def test_a_package_that_fewer_than_half_install_is_a_contradiction_and_no_pin() -> None:
    text = vllm_ascend().files["Dockerfile.a3"]
    given = sources(dockerfile=text.replace("libjemalloc2", "libjemalloc2 numactl"))
    files = {**given.vllm_ascend.files, "Dockerfile": text, "Dockerfile.a5": text}
    tree = Tree("vllm-ascend", "0.18.0", files)
    derived = pins.derive(dataclasses.replace(given, vllm_ascend=tree))
    assert facts(derived)["os_packages.apt"] == ["git", "gcc", "libjemalloc2"]
    verdicts = [one.taken for one in derived.contradictions if one.key == "os_packages.apt"]
    assert verdicts == ["with libjemalloc2", "without pciutils", "without numactl"]


def test_the_later_form() -> None:
    derived = pins.derive(sources("v0.26.0rc1", dockerfile=LATER))
    found = facts(derived)
    assert found["mooncake.from"] == "wheel"
    assert found["mooncake.version"] == "0.3.11.post1"
    assert "mooncake.yalantinglibs" not in found
    assert found["triton_ascend"] == "3.2.2"
    assert said(derived, "python")[0][0] == "3.11"
    assert ("3.12", "vllm-ascend v0.26.0rc1: Dockerfile.a3:4") in said(derived, "python")
    (question,) = [one.question for one in derived.decisions if one.key == "downloads"]
    assert "ops_${ARCH}.run (vllm-ascend v0.26.0rc1: Dockerfile.a3:14)" in question


def test_a_release_without_a_triton_has_none() -> None:
    lines = [line for line in REQUIREMENTS.splitlines() if "triton" not in line]
    found = facts(pins.derive(sources("v0.11.0", requirements="\n".join(lines))))
    assert "triton_ascend" not in found


def test_a_platform_on_one_os_alone_is_a_question() -> None:
    given = sources()
    files = {k: v for k, v in given.vllm_ascend.files.items() if k != "Dockerfile.a3.openEuler"}
    tree = Tree("vllm-ascend", "0.18.0", files)
    derived = pins.derive(dataclasses.replace(given, vllm_ascend=tree))
    assert [one.key for one in derived.decisions] == ["platforms.a3"]
    assert "openEuler" in derived.decisions[0].question


def test_what_the_matrix_says_of_platforms() -> None:
    given = sources()
    assert {f.key: f.value for f in pins.soc_versions(given)} == {
        "a3": "ascend910_9391",
        "310p": "ascend310p1",
    }
    assert {f.key: f.value for f in pins.cann_tags(given)} == {"a3": "a3", "310p": "310p"}


@pytest.mark.parametrize(
    ("torch", "torchvision"),
    [("2.7.1", "0.22.1"), ("2.8.0", "0.23.0"), ("2.9.0", "0.24.0"), ("2.10.0", "0.25.0")],
)
def test_torchvision_by_its_table(torch: str, torchvision: str) -> None:
    assert pins.COMPANIONS["torchvision"](torch) == torchvision


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("<=4.11.0.86", ">=4.13.0", False),
        ("<0.124.0", ">=0.115.0", True),
        ("<0.124.0", ">=0.133.0,<0.137.0", False),
        ("==5.5.3", ">=4.56.0,!=5.0.*,!=5.5.0", True),
        ("==5.5.3", ">=4.56.0,<5", False),
        ("<2.0.0", "", True),
    ],
)
def test_whether_two_bounds_can_agree(one: str, other: str, agree: bool) -> None:
    assert compatible(SpecifierSet(one), SpecifierSet(other)) is agree
    assert compatible(SpecifierSet(other), SpecifierSet(one)) is agree


# ---- Dockerfiles ---------------------------------------------------------------------------------


def test_the_commands_of_a_dockerfile() -> None:
    one = Dockerfile(Tree("p", "1", {"Dockerfile": LATER}), "Dockerfile")
    assert one.base == ("quay.io/ascend/cann:9.1.0-a3-ubuntu22.04-py3.12", 4)
    assert list(one.installed("apt")) == [("git", 10), ("clang-15", 10)]
    assert list(one.installed("dnf")) == []
    assert list(one.required()) == [
        ("mooncake-transfer-engine-npu==0.3.11.post1", 11),
        ("triton-ascend==3.2.2", 17),
        ("concurrent-log-handler", 18),
    ]


def test_a_comment_between_continued_lines() -> None:
    text = "RUN apt-get install -y a && \\\n# why\n    apt-get install -y b\nRUN yum install -y c\n"
    one = Dockerfile(Tree("p", "1", {"Dockerfile": text}), "Dockerfile")
    assert list(one.installed("apt")) == [("a", 1), ("b", 3)]
    assert list(one.installed("dnf")) == [("c", 4)]


@pytest.mark.parametrize(
    ("path", "platform", "packager"),
    [
        ("Dockerfile", "a2", "apt"),
        ("Dockerfile.openEuler", "a2", "dnf"),
        ("Dockerfile.a3", "a3", "apt"),
        ("Dockerfile.310p.openEuler", "310p", "dnf"),
    ],
)
def test_the_name_of_a_dockerfile(path: str, platform: str, packager: str) -> None:
    (one,) = dockerfiles(Tree("p", "1", {path: "", "docs/Dockerfile.x": "", "Makefile": ""}))
    assert (one.platform, one.packager) == (platform, packager)


@given(st.lists(st.sampled_from([*LATER.splitlines(), *WHEELS.splitlines(), "RUN 'x", "# RUN a"])))
def test_any_lines_are_read(lines: list[str]) -> None:
    one = Dockerfile(Tree("p", "1", {"Dockerfile": "\n".join(lines)}), "Dockerfile")
    for _, line in (*one.installed("apt"), *one.required(), *one.downloads()):
        assert 1 <= line <= len(lines)


def test_citations_in_one() -> None:
    places = ["vllm-ascend v1: a:1", "vllm-ascend v1: b:2", "vllm v2: c:3", "vllm-ascend v1: a:4"]
    joined = join_citations(places)
    assert joined == "vllm-ascend v1: a:1, 4, b:2; vllm v2: c:3"
    assert join_citations([joined]) == joined
