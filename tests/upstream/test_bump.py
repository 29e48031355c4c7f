"""A bump: what it writes, what it leaves alone, what it says, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from common.errors import EX_DATAERR, EX_UNAVAILABLE, UserError, user_error
from images import matrix as matrices
from images.matrix import Matrix, Release
from tests.upstream.sample_releases import REQUIREMENTS, bump, sources, uploads
from upstream.bump import bump_release, bump_report, matrix_updates, pins_file, release_diff
from upstream.bump.bump_release import BumpResult, Project
from upstream.bump.pins_file import Pin
from upstream.bump.release_diff import Change
from upstream.bump.upload_dates import UploadDates

NEW = "v0.17.0rc1"  # of which nothing is there


def quiet(_: str) -> None:
    pass


def run(bump: Project, release: str = NEW, locking: bool = False, dry: bool = False) -> BumpResult:
    return bump_release.run(bump, release, locking, dry, quiet)


def outcomes(done: BumpResult) -> dict[str, str]:
    return {step.name: step.outcome for step in done.steps}


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """A project without the release, whose catalogue is made at once."""
    ours = bump(tmp_path, sources(NEW))

    def catalogue(release: Release) -> list[Path]:
        made = []
        names = {"flags": release.vllm, "variables": release.name, "keys": release.name}
        for folder, name in names.items():
            path = tmp_path / "env" / folder / f"{name}.json"
            path.write_text('{"options": {}, "vllm": [], "vllm_ascend": {}}')
            made.append(path)
        return made

    return dataclasses.replace(ours, catalogue=catalogue)


def test_a_new_release(fresh: Project, tmp_path: Path) -> None:
    done = run(fresh)
    assert done.previous == "v0.15.0rc1"
    assert outcomes(done) == {
        "pairs": "unchanged",
        "pins": "written",
        "dialect": "written",
        "flags": "written",
        "reference": "unchanged",
        "locks": "remains",
    }
    written = matrices.load(tmp_path / "images" / "matrix.yaml").releases[NEW]
    assert (written.vllm, written.torch_npu, written.cann) == ("0.18.0", "2.9.0.post1", "8.5.1")
    assert written.os_packages["dnf"] == ("git", "gcc", "jemalloc")
    assert yaml.safe_load((tmp_path / "env/releases" / f"{NEW}.yaml").read_text())["vllm"]


def test_the_figures_of_upstream_s_tests_are_written(fresh: Project, tmp_path: Path) -> None:
    given = sources(NEW)
    path = "tests/e2e/nightly/a.yaml"
    text = """\
test_name: one
deployment: [{server_cmd: vllm serve m}]
benchmarks: {acc: {case_type: accuracy, dataset_path: d, baseline: 95, threshold: 3}}
"""
    ours = dataclasses.replace(given.vllm_ascend, files={**given.vllm_ascend.files, path: text})
    there = dataclasses.replace(given, vllm_ascend=ours)
    done = run(dataclasses.replace(fresh, sources=lambda _: there))
    assert outcomes(done)["baselines"] == "written"
    (one,) = yaml.safe_load((tmp_path / "env/baselines" / f"{NEW}.yaml").read_text())
    assert (one["file"], one["commands"], one["figures"][0]["line"]) == (path, [2], 3)


def test_again_it_changes_nothing(fresh: Project, tmp_path: Path) -> None:
    run(fresh)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = run(fresh)
    assert {o for name, o in outcomes(done).items() if name != "locks"} == {"unchanged"}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_dry_it_writes_nothing(tmp_path: Path) -> None:
    ours = bump(tmp_path, sources(NEW))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = run(ours, dry=True)
    assert outcomes(done) == {
        "pairs": "unchanged",
        "pins": "would be written",
        "dialect": "would be written",
    }
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_pair_that_is_new_is_added_and_asked_for(tmp_path: Path) -> None:
    text = REQUIREMENTS.replace("2.9.0", "2.9.1")
    given = sources(NEW, requirements=text)
    docker = given.vllm_ascend.files["Dockerfile.a3"].replace("2.9.0.post1", "2.9.1")
    ours = bump(tmp_path, sources(NEW, requirements=text, dockerfile=docker))
    done = run(ours, dry=True)
    assert [one.key for one in done.decisions if one.key == "pairs"] == ["pairs"]
    assert outcomes(done)["pairs"] == "would be written"


def test_a_person_s_line_outlives_a_bump(fresh: Project, tmp_path: Path) -> None:
    run(fresh)
    path = tmp_path / "images" / "releases" / f"{NEW}.yaml"
    text = path.read_text()
    cann = next(
        line for line in text.splitlines() if line.startswith("torchaudio") or "cann" in line
    )
    path.write_text(text.replace(cann, "cann: 8.5.1  # by hand: tried on our machines"))
    done = run(fresh)
    assert outcomes(done)["pins"] == "unchanged"
    assert [(line.key, line.note) for line in done.kept] == [
        ("cann", "by hand: tried on our machines")
    ]


def test_what_upstream_does_not_name_is_taken_from_the_release_before(
    fresh: Project, tmp_path: Path
) -> None:
    lines = [line for line in REQUIREMENTS.splitlines() if "triton" not in line]
    given = sources(NEW, requirements="\n".join(lines))
    done = run(dataclasses.replace(fresh, sources=lambda _: given))
    (question,) = [one for one in done.decisions if one.key == "triton_ascend"]
    assert question.taken == "3.2.0"
    text = (tmp_path / "images" / "releases" / f"{NEW}.yaml").read_text()
    assert "triton_ascend: 3.2.0  # by hand: upstream names none; as in v0.15.0rc1\n" in text


def test_a_platform_that_the_matrix_lacks_is_asked_for_and_left_out(
    fresh: Project, tmp_path: Path
) -> None:
    given = sources(NEW)
    files = {**given.vllm_ascend.files, "Dockerfile.a7": given.vllm_ascend.files["Dockerfile.a3"]}
    tree = dataclasses.replace(given.vllm_ascend, files=files)
    done = run(
        dataclasses.replace(fresh, sources=lambda _: dataclasses.replace(given, vllm_ascend=tree))
    )
    assert "platforms.a7" in [one.key for one in done.decisions]
    written = matrices.load(tmp_path / "images" / "matrix.yaml").releases[NEW]
    assert written.platforms == ("a3", "310p")


def test_an_entry_that_the_matrix_refuses_is_not_written(fresh: Project, tmp_path: Path) -> None:
    given = sources(NEW)
    files = {k: v.replace("yum install", "zypper in") for k, v in given.vllm_ascend.files.items()}
    tree = dataclasses.replace(given.vllm_ascend, files=files)
    broken = dataclasses.replace(given, vllm_ascend=tree)
    with pytest.raises(UserError) as raised:
        run(dataclasses.replace(fresh, sources=lambda _: broken))
    assert raised.value.exit_code == EX_DATAERR
    assert "os_packages.dnf: is missing" in str(raised.value)
    assert not (tmp_path / "images" / "releases" / f"{NEW}.yaml").exists()


def test_wheels_that_the_index_lacks_remain(fresh: Project) -> None:
    def absent(version: str, pins: Mapping[str, str]) -> UploadDates:
        return dataclasses.replace(uploads(version, pins), absent={"torch-npu": "2.9.0.post1"})

    done = run(dataclasses.replace(fresh, uploads=absent), locking=True)
    (left,) = [step for step in done.steps if step.outcome == "remains"]
    assert "torch-npu 2.9.0.post1" in left.detail
    assert left.command == f"invoke bump {NEW} --wheels DIR"
    assert not done.failed
    assert left.command in bump_report.text(done)


def test_a_vllm_without_a_source_distribution_remains(fresh: Project) -> None:
    done = run(dataclasses.replace(fresh, buildable=lambda _: False), locking=True)
    assert outcomes(done)["locks"] == "remains"
    assert not done.failed


def test_a_lock_that_cannot_be_made_fails_and_the_rest_stands(
    fresh: Project, tmp_path: Path
) -> None:
    def refuse(matrix: Matrix, release: Release) -> Path:
        raise user_error("uv pip compile", "no solution", exit_code=EX_UNAVAILABLE)

    done = run(dataclasses.replace(fresh, lock=refuse), locking=True)
    assert done.failed
    assert outcomes(done)["pins"] == "written"
    assert "no solution" in bump_report.text(done)


def test_the_report_is_data_too(fresh: Project) -> None:
    done = run(fresh)
    said = json.loads(json.dumps(bump_report.data(done)))
    assert said["release"] == NEW
    assert {one["key"] for one in said["contradictions"]} >= {
        "torch_npu",
        "requirements.transformers",
    }
    text = bump_report.text(done)
    assert "torch_npu" in text
    assert "Dockerfile.a3:20" in text


def test_the_default_release_can_be_bumped_back(tmp_path: Path) -> None:
    ours = bump(tmp_path, sources("v0.13.0rc1"))
    ours.pins("v0.13.0rc1").unlink()
    assert outcomes(run(ours, "v0.13.0rc1"))["pins"] == "written"


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["0.18.0", "v0.18.0"])
def test_both_names_of_a_release(name: str) -> None:
    assert bump_release.resolve_release(name, lambda: ["0.18.0", "0.17.0rc1"]) == "v0.18.0"


def test_the_newest_is_no_candidate() -> None:
    known = ["0.9.0", "0.30.0rc2", "0.23.0.post1", "0.23.0", "0.24.0.dev1"]
    assert bump_release.resolve_release(bump_release.NEWEST, lambda: known) == "v0.23.0.post1"


def test_an_index_that_does_not_answer_refuses_no_name() -> None:
    assert bump_release.resolve_release("0.99.0", list) == "v0.99.0"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v0.18.1", "it has v0.17.0rc1, v0.18.0, v0.23.0"),
        ("latest", "is not a version"),
        ("", "is not a version"),
    ],
)
def test_a_release_that_is_not_there(name: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        bump_release.resolve_release(name, lambda: ["0.23.0", "0.18.0", "0.17.0rc1"])
    assert words in str(raised.value)
    assert raised.value.exit_code == 64


@pytest.mark.parametrize(
    ("release", "previous"),
    [
        ("v0.17.0rc1", "v0.15.0rc1"),
        ("v0.13.0", "v0.13.0rc1"),
        ("v0.9.0", "v0.11.0"),
        ("v0.18.0", "v0.15.0rc1"),
    ],
)
def test_the_release_to_compare_with(release: str, previous: str) -> None:
    known = ["v0.11.0", "v0.13.0", "v0.13.0rc1", "v0.15.0rc1", "v0.18.0"]
    assert bump_release.previous_release(release, known) == previous


# ---- the file of a release -----------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(matrices.RELEASES.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_committed_file_is_written_as_a_bump_writes_it(path: Path) -> None:
    """Its values and its people's lines survive; the other comments are its sources' to say."""
    read = pins_file.read(path)
    again = yaml.safe_load(pins_file.render(path.stem, read))
    assert again == yaml.safe_load(path.read_text())
    for key, line in read.items():
        if line.by_hand:
            written = f"{key.rpartition('.')[2]}: {pins_file._yaml_text(line.value)}"
            assert f"{written}  # {line.note}\n" in pins_file.render(path.stem, read)


def test_values_that_yaml_would_read_as_others_are_quoted() -> None:
    lines = {"python": Pin("python", "3.12"), "requirements": Pin("requirements", ["a>=1,<2"])}
    text = pins_file.render("v1", lines)
    assert yaml.safe_load(text) == {"python": "3.12", "requirements": ["a>=1,<2"]}
    assert 'python: "3.12"\n' in text


# ---- what changed --------------------------------------------------------------------------------


def test_new_gone_renamed_and_other_defaults() -> None:
    before = {
        "--swap-space": {"type": "int", "default": 4},
        "--guided-decoding-backend": {"type": "str"},
        "--max-len": {"type": "int", "default": 1},
        "--same": {"type": "int", "default": 1},
    }
    after = {
        "--guided-decoding-backends": {"type": "str"},
        "--max-len": {"type": "int", "default": 2},
        "--same": {"type": "int", "default": 1},
        "--grpc": {"type": "flag"},
    }
    alike = lambda one, other: one["type"] == other["type"]  # noqa: E731
    assert set(release_diff.named(before, after, alike)) == {
        Change("new", "--grpc"),
        Change("gone", "--swap-space"),
        Change("renamed", "--guided-decoding-backend", *list(before)[1:2], *list(after)[:1]),
        Change("changed", "--max-len", 1, 2),
    }


def test_an_alias_that_stayed_is_a_new_name() -> None:
    before = {"--old": {"type": "str"}}
    after = {"--quite-another": {"type": "str", "aliases": ["--old"]}}
    (one,) = release_diff.named(before, after, lambda *_: True)
    assert (one.how, one.before, one.after) == ("renamed", "--old", "--quite-another")


def test_pins_and_packages_that_changed() -> None:
    before = {
        "cann": Pin("cann", "8.5.0"),
        "requirements": Pin("requirements", ["numpy<2", "a==1"]),
        "os_packages.apt": Pin("os_packages.apt", ["git"]),
    }
    after = {
        "cann": Pin("cann", "8.5.1", "v1:Dockerfile:1"),
        "requirements": Pin("requirements", ["a==2", "b"]),
        "os_packages.apt": Pin("os_packages.apt", ["numactl"]),
    }
    assert {(one.how, one.name) for one in release_diff.pins(before, after)} == {
        ("changed", "cann"),
        ("gone", "numpy"),
        ("changed", "a"),
        ("new", "b"),
    }
    assert {(one.how, one.name) for one in release_diff.os_packages(before, after)} == {
        ("new", "apt: numactl"),
        ("gone", "apt: git"),
    }


# ---- pairs ---------------------------------------------------------------------------------------

PAIRS = """\
pairs:
  - {torch: 2.8.0, torch_npu: 2.8.0, cann: [8.3.rc2]}
  - {torch: 2.9.0, torch_npu: 2.9.0, cann: [8.5.0]}

next: 1
"""


@pytest.mark.parametrize(
    ("torch", "npu", "cann", "line"),
    [
        ("2.9.0", "2.9.0", "8.5.0", None),
        ("2.9.0", "2.9.0", "8.5.1", "{torch: 2.9.0, torch_npu: 2.9.0, cann: [8.5.0, 8.5.1]}"),
        ("2.9.0", "2.9.0.post2", "8.5.1", "{torch: 2.9.0, torch_npu: 2.9.0.post2, cann: [8.5.1]}"),
    ],
)
def test_a_pair(torch: str, npu: str, cann: str, line: str | None) -> None:
    lines = {
        key: Pin(key, value, "v1:Dockerfile:1")
        for key, value in (("torch", torch), ("torch_npu", npu), ("cann", cann))
    }
    text, decision = matrix_updates.add_pair(PAIRS, lines, "v1")
    assert (decision is None) == (line is None) == (text == PAIRS)
    assert line is None or f"  - {line}\n" in text
    assert matrix_updates.add_pair(text, lines, "v1") == (text, None)
    assert text.endswith("\n\nnext: 1\n")
