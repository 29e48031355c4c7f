"""What upstream's images have besides the pins, from excerpts of its Dockerfiles and scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from upstream import shell, shipped
from upstream.dockerfile import Dockerfile, dockerfiles
from upstream.sources import Tree

EXCERPTS = Path(__file__).parent / "excerpts"
SCRIPT = ".github/workflows/scripts/install_daily_deps.sh"


def tree(**files: str) -> Tree:
    return Tree("vllm-ascend", "0.30.0rc2", files)


@pytest.fixture(scope="module")
def whole() -> Tree:
    return tree(
        **{
            "Dockerfile.a3": (EXCERPTS / "Dockerfile.a3").read_text(),
            SCRIPT: (EXCERPTS / "install_daily_deps.sh").read_text(),
        }
    )


@pytest.fixture(scope="module")
def dockerfile(whole: Tree) -> Dockerfile:
    (found,) = dockerfiles(whole)
    return found


def line_of(dockerfile: Dockerfile, text: str) -> int:
    lines = dockerfile.tree.text(dockerfile.path).splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize(
    ("text", "image", "line"),
    [
        ("FROM quay.io/a/cann:9.1.0-beta.1-310p", "quay.io/a/cann:9.1.0-beta.1-310p", 1),
        ("FROM --platform=$BUILDPLATFORM x:1", "x:1", 1),
        ("ARG V=1 W=2\nFROM x:$V-${W}", "x:1-2", 2),
        ("FROM x:1 AS base\nRUN true\nFROM base", "x:1", 1),
        ("FROM x:1 AS Base\nFROM y:2\nFROM base as last", "x:1", 1),
        ("from x:1", "x:1", 1),
        ("FROM x:${TAG:-latest}", "x:${TAG:-latest}", 1),
    ],
)
def test_every_form_of_from(text: str, image: str, line: int) -> None:
    assert Dockerfile(tree(Dockerfile=text), "Dockerfile").base == (image, line)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ENV A=1", [("A", "1", 1)]),
        ("ENV A=1 B='2 3'", [("A", "1", 1), ("B", "2 3", 1)]),
        ("ENV A one two", [("A", "one two", 1)]),
        ("ENV A=1 \\\n    B=2\n", [("A", "1", 1), ("B", "2", 2)]),
        ("ARG X=7\nENV A=$X B=${Y}", [("A", "7", 2), ("B", "${Y}", 2)]),
        ("# ENV A=1\nRUN echo ENV=1", []),
    ],
)
def test_every_form_of_env(text: str, found: list[tuple[str, str, int]]) -> None:
    given = Dockerfile(tree(Dockerfile=text), "Dockerfile").environment
    assert [(one.name, one.value, one.line) for one in given] == found


def test_the_base_and_the_indexes_come_from_arguments(whole: Tree, dockerfile: Dockerfile) -> None:
    assert dockerfile.base == (
        "swr.cn-north-12.myhuaweicloud.com/atlas_inference/cann"
        ":9.2.0_20260930220649-a3-ubuntu22.04-py3.12",
        line_of(dockerfile, "FROM"),
    )
    assert list(shipped.bases(whole)) == ["swr.cn-north-12.myhuaweicloud.com/atlas_inference/cann"]
    assert list(shipped.indexes(whole)) == [
        "https://download.pytorch.org/whl/cpu",
        "https://mirrors.huaweicloud.com/ascend/repos/pypi",
    ]


def test_what_an_image_and_its_build_have_set(whole: Tree, dockerfile: Dockerfile) -> None:
    found = shipped.taken(whole, shipped.environment(whole))
    assert {name: one.value for name, one in found.items()} == {
        "TASK_QUEUE_ENABLE": "1",
        "OMP_NUM_THREADS": "1",
    }
    assert found["OMP_NUM_THREADS"].source == dockerfile.cite(line_of(dockerfile, "OMP_NUM"))
    built = shipped.taken(whole, shipped.build_environment(whole))
    assert {name: one.value for name, one in built.items()} == {"VLLM_BATCH_INVARIANT": "1"}


def test_a_variable_of_few_dockerfiles_is_not_taken() -> None:
    files = {f"Dockerfile.{name}": "FROM x:1\nENV A=1" for name in ("a3", "a5", "310p")}
    more = tree(**{**files, "Dockerfile.a5": "FROM x:1\nENV A=2 B=3"})
    claims = shipped.environment(more)
    assert [one.value for one in claims["A"]] == ["1", "1", "2"]
    assert list(shipped.taken(more, claims)) == ["A"]


def test_a_script_replaces_packages(whole: Tree, dockerfile: Dockerfile) -> None:
    found = shipped.snapshots(whole)
    assert [(one.package, one.version, one.address.rpartition("/")[2]) for one in found] == [
        (
            "memcache-hybrid",
            "1.3.0",
            "memcache_hybrid-1.3.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        ),
        (
            "triton-ascend",
            "3.6.0+dev20260923230212",
            "triton_ascend-3.6.0%2Bdev20260923230212-cp312-cp312-manylinux_2_28_${ARCH}.whl",
        ),
        ("torch-npu", "2.10.0*", "pytorch_v2.10.0-26.2.0_py312.tar.gz"),
    ]
    assert {one.run_by for one in found} == {
        dockerfile.cite(line_of(dockerfile, '"$BUILD_TYPE" = "daily"'))
    }
    assert found[0].source == f"vllm-ascend v0.30.0rc2: {SCRIPT}:12"


def test_a_script_that_ends_at_once_replaces_nothing(whole: Tree) -> None:
    """As in vllm-ascend 0.27.1rc1, whose release builds do not set BUILD_TYPE=daily."""
    text = whole.files["Dockerfile.a3"].replace("BUILD_TYPE=daily bash", "bash")
    files = {**whole.files, "Dockerfile.a3": text}
    assert shipped.snapshots(tree(**files)) == ()
    unset = text.replace('ARG BUILD_TYPE="release"\n', "")
    assert len(shipped.snapshots(tree(**{**files, "Dockerfile.a3": unset}))) == 3


def test_a_download_whose_name_is_put_together(dockerfile: Dockerfile) -> None:
    ((address, _),) = dockerfile.downloads()
    assert address.endswith(
        "/v26.9.1-beta2/flash_linear_attention_npu_a3-26.9.1+deva4a7958"
        "-py3-none-manylinux_2_34_aarch64.whl"
    )


def test_only_scripts_of_the_release_are_read(dockerfile: Dockerfile) -> None:
    assert [one.path for one in dockerfile.scripts] == [SCRIPT]  # build_rust.sh is vLLM's


def test_a_value_that_names_itself_ends() -> None:
    assert "$A" in shell.expand("$A", {"A": "x$A"})
