"""The lock: its files say one thing, and a lock that disagrees with the matrix is told apart."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.locking import checks, lock, slices
from images.locking.slices import LOCKS, Pinned
from images.matrix import Matrix, Release

HASH = "sha256:" + 64 * "a"
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]?[a-z0-9]){0,12}", fullmatch=True)
VERSIONS = st.from_regex(
    r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}((rc|\.post|\.dev)[0-9])?(\+cpu)?", fullmatch=True
)
HASHES = st.integers(0, 999).map(lambda n: f"sha256:{hashlib.sha256(b'%d' % n).hexdigest()}")
PINNED = st.builds(
    Pinned, NAMES, VERSIONS, st.lists(HASHES, min_size=1, max_size=3, unique=True).map(tuple)
)
LOCKED = sorted(path.parent.name for path in LOCKS.glob(f"*/{slices.RECORD}"))
SLICES = sorted(LOCKS.rglob("*.txt"))


@settings(max_examples=50)
@given(st.lists(PINNED, unique_by=lambda pinned: pinned.name, max_size=5))
def test_what_is_written_is_read_back(packages: list[Pinned]) -> None:
    text = slices.render(packages)
    assert list(slices.parse(text)) == sorted(packages, key=lambda pinned: pinned.name)
    assert slices.render(slices.parse(text)) == text


@given(st.permutations([Pinned(name, "1.0", (HASH,)) for name in ("a", "b", "c", "d")]))
def test_a_slice_does_not_depend_on_the_resolvers_order(packages: list[Pinned]) -> None:
    assert slices.render(packages) == slices.render(
        sorted(packages, key=lambda pinned: pinned.name)
    )


@pytest.mark.parametrize("path", SLICES, ids=lambda path: str(path.relative_to(LOCKS)))
def test_a_committed_slice_is_as_it_would_be_written(path: Path) -> None:
    assert slices.render(slices.parse(path.read_text())) == path.read_text()


def test_comments_empty_lines_and_other_spellings_of_a_name() -> None:
    text = f"# a comment\n\nTorch_NPU==2.8.0 \\\n    --hash={HASH}\n\nnumpy==1.26.4 --hash={HASH}\n"
    assert [(p.name, p.version) for p in slices.parse(text)] == [
        ("torch-npu", "2.8.0"),
        ("numpy", "1.26.4"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "torch==2.8.0",
        f"torch>=2.8.0 --hash={HASH}",
        f"torch --hash={HASH}",
        "torch==2.8.0 --hash=md5:00",
        f"torch==2.8.0 --hash={HASH} --pre",
        f"torch==2.8.0 ; python_version<'4' --hash={HASH}",
        f"torch @ file:///torch.whl --hash={HASH}",
        "-r other.txt",
        "--index-url https://index.example",
        pytest.param(
            "torch==2.8.0 --hash=sha256:",
        ),
        pytest.param(
            "torch==2.8.0 --hash=sha256:1234",
        ),
    ],
)
def test_an_entry_that_pins_nothing(line: str) -> None:
    with pytest.raises(ValueError, match="not 'name==version --hash=sha256"):
        list(slices.parse(line))


# ---- layers --------------------------------------------------------------------------------------


@given(NAMES)
def test_every_package_is_in_exactly_one_layer(matrix: Matrix, package: str) -> None:
    layer = slices.layer_of(matrix.layers, package)
    naming = [name for name, packages in matrix.layers.items() if package in packages]
    assert [layer] == (naming or ["dependencies"])


@pytest.mark.parametrize(
    ("package", "layer"),
    [
        ("torch", "torch"),
        ("torch-npu", "torch"),
        ("triton-ascend", "torch"),
        ("numpy", "libraries"),
        ("fastapi", "dependencies"),
        ("arctic-inference", "compiled"),
        ("dumb-init", "utilities"),
        ("vllm-router", "utilities"),
        ("mooncake-transfer-engine", "mooncake"),
        ("mooncake-transfer-engine-npu", "mooncake"),
        ("vllm", "vllm"),
        ("vllm-ascend", "vllm-ascend"),
    ],
)
def test_the_layers_hold_what_they_are_named_after(
    matrix: Matrix, package: str, layer: str
) -> None:
    assert slices.layer_of(matrix.layers, package) == layer


# ---- the committed locks -------------------------------------------------------------------------


def test_the_reference_is_locked() -> None:
    assert "v0.13.0rc1" in LOCKED


@pytest.mark.parametrize("name", LOCKED)
def test_a_committed_lock_agrees_with_the_matrix(matrix: Matrix, name: str) -> None:
    assert checks.check(matrix, matrix.releases[name]) == []


def test_the_builds_own_packages_are_locked(matrix: Matrix) -> None:
    assert not list(checks.check_tools(matrix))


@pytest.mark.parametrize("name", LOCKED)
@pytest.mark.parametrize("arch", ["arm64", "amd64"])
def test_a_lock_holds_every_package_once_with_hashes(matrix: Matrix, name: str, arch: str) -> None:
    found = slices.read(matrix, matrix.releases[name], arch)
    assert [*found] == [*matrix.layers]
    packages = [package for layer in matrix.layers for package in found[layer]]
    names = [package.name for package in packages]
    assert len(set(names)) == len(names) > 150
    for package in packages:
        assert package.hashes, package.name
        for value in package.hashes:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", value), package.name
    own = {"torch", "torch-npu", "triton-ascend", "vllm", "vllm-ascend"}
    assert own - matrix.releases[name].vendor.keys() <= set(names)
    # CANN's own tools import these from the image's interpreter
    assert set(matrix.cann_python) <= set(names)


@pytest.mark.parametrize("name", LOCKED)
@pytest.mark.parametrize("arch", ["arm64", "amd64"])
def test_a_lock_has_neither_triton_nor_nvidia(matrix: Matrix, name: str, arch: str) -> None:
    found = slices.read(matrix, matrix.releases[name], arch)
    for packages in found.values():
        for package in packages:
            assert package.name != "triton"
            assert not package.name.startswith(("nvidia-", "cuda-", "pytorch-triton"))


def test_the_utilities_are_the_same_in_every_release(matrix: Matrix) -> None:
    """So is their layer. What else the router needs is vLLM's already."""
    (text,) = {path.read_text() for path in LOCKS.glob("*/*/utilities.txt")}
    assert [str(pinned.name) for pinned in slices.parse(text)] == [*matrix.layers["utilities"]]


@pytest.mark.parametrize("name", LOCKED)
def test_vllm_is_the_wheel_without_a_device(matrix: Matrix, name: str) -> None:
    release = matrix.releases[name]
    found = slices.read(matrix, release, "arm64")
    assert [package.version for package in found["vllm"]] == [f"{release.vllm}+empty"]
    source = slices.read_slice(LOCKS / name / f"{slices.vllm_source(release)}.txt")
    assert [package.version for package in source] == [release.vllm]


# ---- locks that disagree -------------------------------------------------------------------------

ReadyLock = tuple[Release, Path]


@pytest.fixture
def copied(matrix: Matrix, tmp_path: Path) -> ReadyLock:
    """The reference's release and a copy of its lock to spoil."""
    release = matrix.releases["v0.13.0rc1"]
    shutil.copytree(LOCKS / release.name, tmp_path / "locks" / release.name)
    return release, tmp_path / "locks"


def _change(path: Path, function: Callable[[list[Pinned]], list[Pinned]]) -> None:
    path.write_text(slices.render(function(list(slices.parse(path.read_text())))))


def _edit(path: Path, function: Callable[[str], str]) -> None:
    """Change the lines of a slice, and its digest with them."""
    path.write_text(slices.with_digest(function(path.read_text().partition("\n")[2])))


def _found(matrix: Matrix, copied: ReadyLock) -> list[str]:
    release, locks = copied
    return [str(problem) for problem in checks.check(matrix, release, locks)]


def test_a_copy_agrees(matrix: Matrix, copied: ReadyLock) -> None:
    assert _found(matrix, copied) == []


def test_a_changed_pin(matrix: Matrix, copied: ReadyLock) -> None:
    path = copied[1] / "v0.13.0rc1/arm64/torch.txt"
    _edit(path, lambda text: text.replace("torch-npu==2.8.0", "torch-npu==2.8.0.post2"))
    assert _found(matrix, copied) == [
        "locks/v0.13.0rc1/arm64: torch-npu is 2.8.0.post2, the matrix says ==2.8.0"
    ]


def test_a_package_outside_the_matrixs_bounds(matrix: Matrix, copied: ReadyLock) -> None:
    path = copied[1] / "v0.13.0rc1/amd64/libraries.txt"
    _edit(path, lambda text: re.sub(r"^ray==\S+", "ray==2.49.0", text, flags=re.MULTILINE))
    (problem,) = _found(matrix, copied)
    assert problem.startswith("locks/v0.13.0rc1/amd64: ray is 2.49.0, the matrix says ")


def test_a_package_in_the_wrong_slice(matrix: Matrix, copied: ReadyLock) -> None:
    folder = copied[1] / "v0.13.0rc1/arm64"
    moved = next(
        p for p in slices.parse((folder / "torch.txt").read_text()) if p.name == "torch-npu"
    )
    _change(folder / "torch.txt", lambda packages: [p for p in packages if p != moved])
    _change(folder / "dependencies.txt", lambda packages: [*packages, moved])
    assert _found(matrix, copied) == [
        "locks/v0.13.0rc1/arm64/dependencies.txt: torch-npu belongs to torch.txt"
    ]


def test_a_package_in_two_slices(matrix: Matrix, copied: ReadyLock) -> None:
    folder = copied[1] / "v0.13.0rc1/arm64"
    numpy = next(
        p for p in slices.parse((folder / "libraries.txt").read_text()) if p.name == "numpy"
    )
    _change(folder / "vllm.txt", lambda packages: [*packages, numpy])
    assert _found(matrix, copied) == [
        "locks/v0.13.0rc1/arm64/vllm.txt: numpy is also in libraries.txt"
    ]


def test_a_package_twice_in_one_slice(matrix: Matrix, copied: ReadyLock) -> None:
    path = copied[1] / "v0.13.0rc1/arm64/vllm.txt"
    _edit(path, lambda text: 2 * text)
    assert _found(matrix, copied) == ["locks/v0.13.0rc1/arm64/vllm.txt: vllm is also in vllm.txt"]


def test_a_missing_hash(matrix: Matrix, copied: ReadyLock) -> None:
    path = copied[1] / "v0.13.0rc1/amd64/vllm.txt"
    path.write_text("vllm==0.13.0+empty\n")
    (problem,) = _found(matrix, copied)
    assert "vllm.txt: not 'name==version --hash=sha256:…': vllm==0.13.0+empty" in problem


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("sha256:e", "sha256:f", 1),
        lambda text: re.sub(r"(?m)^numba==.*\n(    .*\n)*", "", text),
        lambda text: text.partition("\n")[2],
    ],
    ids=["a changed hash", "a dropped package", "no digest"],
)
def test_a_slice_changed_by_hand(
    matrix: Matrix, copied: ReadyLock, change: Callable[[str], str]
) -> None:
    path = copied[1] / "v0.13.0rc1/arm64/libraries.txt"
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    (problem,) = _found(matrix, copied)
    assert problem.startswith("locks/v0.13.0rc1/arm64/libraries.txt: was changed by hand")


def test_missing_slices(matrix: Matrix, copied: ReadyLock) -> None:
    (copied[1] / "v0.13.0rc1/amd64/vllm.txt").unlink()
    (copied[1] / "v0.13.0rc1/arm64/torch.txt").unlink()
    assert _found(matrix, copied) == [
        "locks/v0.13.0rc1/arm64/torch.txt: is missing (invoke lock --release v0.13.0rc1)",
        "locks/v0.13.0rc1/amd64/vllm.txt: is missing (invoke lock --release v0.13.0rc1)",
    ]


def test_missing_sources_are_told_once(matrix: Matrix, copied: ReadyLock) -> None:
    (copied[1] / "v0.13.0rc1/sources.txt").unlink()
    assert _found(matrix, copied) == [
        "locks/v0.13.0rc1/sources.txt: is missing (invoke lock --release v0.13.0rc1)"
    ]


@pytest.mark.parametrize("text", ["", f"vllm==0.11.0 --hash={HASH}\n"])
def test_sources_of_another_vllm(matrix: Matrix, copied: ReadyLock, text: str) -> None:
    (copied[1] / "v0.13.0rc1/sources.txt").write_text(slices.with_digest(text))
    (problem,) = _found(matrix, copied)
    assert problem.startswith("locks/v0.13.0rc1/sources.txt: ")


@pytest.mark.parametrize("name", ["v0.13.0rc1", "v0.13.0"])
def test_a_release_names_what_its_lock_has_to_compile(
    matrix: Matrix, tmp_path: Path, name: str
) -> None:
    """One that the lock has and the release does not name would be in no layer; the other way
    round, the layer would be made of nothing."""
    release = matrix.releases[name]
    shutil.copytree(LOCKS / name, tmp_path / name)
    pinned = [] if release.compiled else [Pinned("arctic-inference", "0.1.1", (HASH,))]
    for arch in matrix.arches:
        (tmp_path / name / arch / "compiled.txt").write_text(slices.render(pinned))
    problems = [str(problem) for problem in checks.check(matrix, release, tmp_path)]
    assert any("arctic-inference" in problem for problem in problems)


def test_no_lock_at_all(matrix: Matrix, copied: ReadyLock) -> None:
    release, locks = copied
    shutil.rmtree(locks / release.name)
    assert _found(matrix, copied) == [
        "locks/v0.13.0rc1: this release has no lock (invoke lock --release v0.13.0rc1)"
    ]


@pytest.mark.parametrize("name", ["triton", "nvidia-cublas-cu12", "pytorch-triton", "cuda-python"])
def test_a_package_that_must_not_be_in_an_image(
    matrix: Matrix, copied: ReadyLock, name: str
) -> None:
    _change(
        copied[1] / "v0.13.0rc1/amd64/dependencies.txt",
        lambda packages: [*packages, Pinned(name, "3.4.0", (HASH,))],
    )
    assert _found(matrix, copied) == [
        f"locks/v0.13.0rc1/amd64/dependencies.txt: {name} must not be in an image"
    ]


def test_a_required_package_that_is_gone(matrix: Matrix, copied: ReadyLock) -> None:
    _change(
        copied[1] / "v0.13.0rc1/arm64/dependencies.txt",
        lambda packages: [p for p in packages if p.name != "modelscope"],
    )
    assert _found(matrix, copied) == ["locks/v0.13.0rc1/arm64: no slice has modelscope"]


def test_the_matrix_has_moved_on(matrix: Matrix, copied: ReadyLock) -> None:
    release, locks = copied
    requirements = tuple(
        "torchvision==0.24.0" if one.startswith("torchvision") else one
        for one in release.requirements
    )
    moved = dataclasses.replace(release, requirements=requirements)
    assert [str(problem) for problem in checks.check(matrix, moved, locks)] == [
        "locks/v0.13.0rc1/lock.json: requirements: the matrix says torchvision==0.24.0; "
        "the lock torchvision==0.23.0 (invoke lock --release v0.13.0rc1)",
        "locks/v0.13.0rc1/arm64: torchvision is 0.23.0, the matrix says ==0.24.0",
        "locks/v0.13.0rc1/amd64: torchvision is 0.23.0, the matrix says ==0.24.0",
    ]


def test_the_matrix_asks_for_another_day(matrix: Matrix, copied: ReadyLock) -> None:
    release, locks = copied
    moved = dataclasses.replace(release, published=release.published.replace(day=29))
    assert [str(problem) for problem in checks.check(matrix, moved, locks)] == [
        "locks/v0.13.0rc1/lock.json: published: the matrix says 2025-12-29, the lock 2025-12-28 "
        "(invoke lock --release v0.13.0rc1)"
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_a_record_that_cannot_be_read(matrix: Matrix, copied: ReadyLock, text: str) -> None:
    (copied[1] / "v0.13.0rc1" / slices.RECORD).write_text(text)
    assert any("locks/v0.13.0rc1/lock.json" in problem for problem in _found(matrix, copied))


def test_a_record_of_an_older_form(matrix: Matrix, copied: ReadyLock) -> None:
    path = copied[1] / "v0.13.0rc1" / slices.RECORD
    record = json.loads(path.read_text())
    del record["later"]
    path.write_text(json.dumps({**record, "index": "x"}))
    keys = [problem.split(": ")[1] for problem in _found(matrix, copied)]
    assert keys == ["index", "later"]


def test_read_refuses_what_check_finds(
    matrix: Matrix, copied: ReadyLock, problems_of: Callable[..., list[str]]
) -> None:
    release, locks = copied
    (locks / "v0.13.0rc1/arm64/torch.txt").write_text("torch\n")
    (locks / "v0.13.0rc1/arm64/vllm.txt").unlink()
    found = problems_of(lambda: slices.read(matrix, release, "arm64", locks), 65)
    assert [problem.split(": ")[0] for problem in found] == [
        "locks/v0.13.0rc1/arm64/torch.txt",
        "locks/v0.13.0rc1/arm64/vllm.txt",
    ]


def test_only_releases_with_a_lock_are_checked(matrix: Matrix, copied: ReadyLock) -> None:
    _, locks = copied
    assert [one.name for one in checks.checked(matrix, None, locks)] == ["v0.13.0rc1"]
    assert [one.name for one in checks.checked(matrix, "v0.23.0.post1", locks)] == ["v0.23.0.post1"]


def test_the_builds_own_packages_are_missing(matrix: Matrix, tmp_path: Path) -> None:
    shutil.copy(LOCKS / "tools.txt", tmp_path)
    path = tmp_path / "tools.txt"
    _edit(path, lambda text: re.sub(r"^uv==\S+", "uv==0.1.0", text, flags=re.MULTILINE))
    assert [str(problem) for problem in checks.check_tools(matrix, tmp_path)] == [
        "locks/tools.txt: lacks uv==0.13.9 (invoke lock --tools)",
        "locks/stand-in.txt: lacks pyelftools==0.33 (invoke lock --tools)",
        "locks/stand-in.txt: lacks ziglang==0.17.1 (invoke lock --tools)",
    ]


def test_the_builds_own_packages_cannot_be_read(matrix: Matrix, tmp_path: Path) -> None:
    shutil.copy(LOCKS / "stand-in.txt", tmp_path)
    (tmp_path / "tools.txt").write_text("<<<<<<< ours\n")
    assert any("locks/tools.txt" in str(one) for one in checks.check_tools(matrix, tmp_path))


# ---- replacing -----------------------------------------------------------------------------------


def _tree(path: Path) -> dict[str, str]:
    return {str(one.relative_to(path)): one.read_text() for one in path.rglob("*") if one.is_file()}


@pytest.fixture
def made_and_target(tmp_path: Path) -> tuple[Path, Path]:
    """A finished lock of two files, and the place of an older one with another file."""
    made, target = tmp_path / "made", tmp_path / "locks" / "v1"
    for path, text in ((made / "arm64/a.txt", "new"), (made / "lock.json", "new")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    target.mkdir(parents=True)
    (target / "stale.txt").write_text("old")
    return made, target


def test_a_new_lock_takes_the_place_of_the_old(made_and_target: tuple[Path, Path]) -> None:
    made, target = made_and_target
    lock.replace(made, target)
    assert _tree(target) == {"arm64/a.txt": "new", "lock.json": "new"}
    assert [path.name for path in target.parent.iterdir()] == ["v1"]


def test_a_first_lock_needs_no_old_one(made_and_target: tuple[Path, Path]) -> None:
    made, target = made_and_target
    shutil.rmtree(target.parent)
    lock.replace(made, target)
    assert _tree(target) == _tree(made)


def test_leftovers_of_a_broken_run_are_not_mixed_in(made_and_target: tuple[Path, Path]) -> None:
    made, target = made_and_target
    leftover = target.with_name(".v1.new")
    leftover.mkdir()
    (leftover / "half.txt").write_text("half")
    lock.replace(made, target)
    assert _tree(target) == _tree(made)


def test_a_copy_that_fails_leaves_the_old_lock(
    made_and_target: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target = made_and_target

    def half(source: Path, place: Path) -> None:
        place.mkdir()
        (place / "lock.json").write_text("new")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", half)
    with pytest.raises(OSError, match="No space left"):
        lock.replace(made, target)
    assert _tree(target) == {"stale.txt": "old"}


def test_a_rename_that_fails_leaves_the_old_lock(
    made_and_target: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, target = made_and_target
    rename = Path.rename

    def failing(self: Path, place: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(self, place)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        lock.replace(made, target)
    assert _tree(target) == {"stale.txt": "old"}


def test_vllm_ascend_holds_against_vllm_where_no_version_fits_both(matrix: Matrix) -> None:
    vllm = [
        "opencv-python-headless>=4.13.0",
        "fastapi[standard]<0.137.0,>=0.133.0",
        "transformers<5,>=4.56.0",
        "numpy",
    ]
    assert lock.overrides(matrix.releases["v0.18.0"], vllm) == [
        'torch-npu ; sys_platform == "win32"',
        'triton-ascend ; sys_platform == "win32"',
        "opencv-python-headless<=4.11.0.86",
        "fastapi[standard]<0.124.0",
    ]
