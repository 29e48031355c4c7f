"""Fingerprints change exactly when something that a stage is made from changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from images.build import graph
from images.build.render import preview
from images.matrix import STAND_IN, Matrix, Variant

CANN = "quay.io/ascend/cann:8.3.rc2-a3-ubuntu22.04-py3.11"
Files = dict[tuple[str, str], str]
Prints = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def published(matrix: Matrix) -> dict[str, graph.Stage]:
    return graph.parse(
        preview(matrix, matrix.variant(None, "a3", "ubuntu22.04"), None, False, None)
    )


@pytest.fixture(scope="module")
def stand_in(matrix: Matrix) -> dict[str, graph.Stage]:
    variant = matrix.variant(None, "a3", "ubuntu22.04")
    return graph.parse(preview(matrix, variant, STAND_IN, False, None))


# ---- parsing -------------------------------------------------------------------------------------


def test_stages_come_in_order_with_their_images(published: dict[str, graph.Stage]) -> None:
    assert list(published) == [
        "tools",
        "layer-torch",
        "layer-libraries",
        "layer-dependencies",
        "layer-utilities",
        "cann",
        "sdk",
        "base",
        "build-mooncake",
        "layer-mooncake",
        "capture",
        "environment",
        "layer-venv",
        "python",
        "wheel-vllm",
        "layer-vllm",
        "layer-proxy",
        "build-vllm-ascend",
        "layer-vllm-ascend",
        "layer-entrypoint",
        "image",
    ]
    images = {name: stage.image for name, stage in published.items() if stage.image}
    assert images == {"tools": "docker.io/library/python:3.11-slim-bookworm", "cann": CANN}


@pytest.mark.parametrize(
    ("stage", "parents", "files"),
    [
        ("tools", set(), {("stages", "mirrors.sh"), ("locks", "tools.txt")}),
        (
            "layer-torch",
            {"tools"},
            {
                ("stages", "layer.py"),
                ("stages", "mirrors.sh"),
                ("locks", "v0.13.0rc1/${TARGETARCH}/torch.txt"),
            },
        ),
        ("cann", set(), set()),
        ("sdk", {"cann"}, {("stages", "packages.sh"), ("stages", "mirrors.sh")}),
        ("environment", {"capture"}, set()),
        (
            "capture",
            {"cann", "layer-torch"},
            {("stages", "environment.py"), ("stages", "torch_abi")},
        ),
        (
            "layer-entrypoint",
            {"tools"},
            {("stages", "layer.py"), ("entrypoints", ""), ("env", "")},
        ),
        (
            "layer-proxy",
            {"tools"},
            {
                ("stages", "source.py"),
                ("stages", "layer.py"),
                ("stages", "no_device"),
                ("stages", "mirrors.sh"),
                ("locks", "v0.13.0rc1/${TARGETARCH}/vllm-ascend.txt"),
            },
        ),
        (
            "build-mooncake",
            {"sdk"},
            {
                ("stages", "packages.sh"),
                ("stages", "mirrors.sh"),
                ("stages", "compile_mooncake.sh"),
                ("mooncake-source", ""),
                ("yalantinglibs-source", ""),
            },
        ),
        (
            "image",
            {
                "base",
                *(
                    f"layer-{name}"
                    for name in (
                        "torch",
                        "libraries",
                        "dependencies",
                        "utilities",
                        "mooncake",
                        "vllm",
                        "proxy",
                        "vllm-ascend",
                        "venv",
                        "entrypoint",
                    )
                ),
            },
            set(),
        ),
    ],
)
def test_a_stage_takes_from_these(
    published: dict[str, graph.Stage],
    stage: str,
    parents: set[str],
    files: set[tuple[str, str]],
) -> None:
    assert set(published[stage].parents) == parents
    assert set(published[stage].files) == files


def test_a_root_file_system_is_a_file(stand_in: dict[str, graph.Stage]) -> None:
    assert stand_in["debian"].files == (("", "base-${TARGETARCH}.tar"),)
    assert stand_in["debian"].image == ""


def test_comments_are_no_part_of_a_stage() -> None:
    one = graph.parse("FROM scratch AS a\n# COPY --from=x\nCOPY --from=y /a /b\n")
    assert one["a"].files == (("y", ""),)
    assert "#" not in one["a"].text


def test_what_a_stage_is_made_from(published: dict[str, graph.Stage]) -> None:
    assert graph.used_by(published, "environment") == [
        "tools",
        "layer-torch",
        "cann",
        "capture",
        "environment",
    ]
    assert graph.used_by(published, "layer-vllm") == ["tools", "wheel-vllm", "layer-vllm"]
    assert "environment" not in graph.used_by(published, "image")


# ---- fingerprints --------------------------------------------------------------------------------


@pytest.fixture
def prints(tmp_path: Path) -> Prints:
    """The fingerprints of stages over files that say their own name, but for `changed`."""
    numbers = itertools.count()

    def make(
        stages: dict[str, graph.Stage],
        changed: Files | None = None,
        images: dict[str, str] | None = None,
        arch: str = "arm64",
        build_arch: str = "amd64",
    ) -> dict[str, str]:
        root = tmp_path / f"contexts-{next(numbers)}"
        contents: Files = {}
        for stage in stages.values():
            for context, path in stage.files:
                for one in ("arm64", "amd64"):
                    name = path.replace("${TARGETARCH}", one).replace("${BUILDARCH}", one)
                    contents[context, name if "." in name else f"{name}/file.py"] = f"{name}"
        for (context, path), text in {**contents, **(changed or {})}.items():
            file = root / (context or "main") / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        contexts = {context: root / (context or "main") for context, _ in contents}
        return graph.fingerprints(stages, contexts, images or {CANN: "sha256:1"}, arch, build_arch)

    return make


def _changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert list(before) == list(after)
    return {name for name in before if before[name] != after[name]}


EVERY_LAYER = {"build-vllm-ascend", "layer-vllm-ascend", "image"}
CAPTURE = {"capture", "environment"}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        (
            ("locks", "v0.13.0rc1/arm64/torch.txt"),
            {"layer-torch", "python", *CAPTURE, *EVERY_LAYER},
        ),
        (
            ("locks", "v0.13.0rc1/arm64/libraries.txt"),
            {"layer-libraries", "python", *EVERY_LAYER},
        ),
        (("locks", "v0.13.0rc1/arm64/utilities.txt"), {"layer-utilities", "image"}),
        (("locks", "v0.13.0rc1/arm64/vllm-ascend.txt"), {"layer-proxy", "image"}),
        (("locks", "v0.13.0rc1/arm64/vllm.txt"), {"layer-vllm", *EVERY_LAYER}),
        (("locks", "v0.13.0rc1/sources.txt"), {"wheel-vllm", "layer-vllm", *EVERY_LAYER}),
        (("locks", "v0.13.0rc1/amd64/torch.txt"), set()),
        (("entrypoints", "launch.py"), {"layer-entrypoint", "image"}),
        (("env", "recipes/new.yaml"), {"layer-entrypoint", "image"}),
        (("stages", "environment.py"), CAPTURE),
        (("stages", "torch_abi/torch/__init__.py"), CAPTURE),
        (("stages", "compile_vllm_ascend.sh"), EVERY_LAYER),
        (("vllm-ascend-source", "setup.py"), EVERY_LAYER),
        (("mooncake-source", "CMakeLists.txt"), {"build-mooncake", "layer-mooncake", "image"}),
        (
            ("stages", "packages.sh"),
            {"sdk", "base", "python", "build-mooncake", "layer-mooncake", *EVERY_LAYER},
        ),
        (("stages", "a_file_that_no_stage_takes.py"), set()),
    ],
    ids=lambda value: "/".join(value) if isinstance(value, tuple) else "",
)
def test_a_file_counts_where_it_is_taken_and_above(
    published: dict[str, graph.Stage],
    prints: Prints,
    file: tuple[str, str],
    stages: set[str],
) -> None:
    assert _changed(prints(published), prints(published, {file: "changed"})) == stages


def test_the_builds_tools_count_for_everything_made_on_them(
    published: dict[str, graph.Stage], prints: Prints
) -> None:
    changed = _changed(prints(published), prints(published, {("locks", "tools.txt"): "changed"}))
    assert changed == set(published) - {"cann", "sdk", "base", "build-mooncake"}


def test_a_new_base_leaves_the_python_layers(
    published: dict[str, graph.Stage], prints: Prints
) -> None:
    changed = _changed(prints(published), prints(published, images={CANN: "sha256:2"}))
    assert changed == {
        "cann",
        "sdk",
        "base",
        "python",
        "build-mooncake",
        "layer-mooncake",
        *CAPTURE,
        *EVERY_LAYER,
    }


def test_nothing_changed(published: dict[str, graph.Stage], prints: Prints) -> None:
    """The second set of files is in another directory: a checkout's place does not count."""
    assert prints(published) == prints(published)
    assert len(set(prints(published).values())) == len(published)


def test_a_foreign_image_has_the_same_tools_and_other_layers(
    published: dict[str, graph.Stage], prints: Prints
) -> None:
    changed = _changed(prints(published, arch="arm64"), prints(published, arch="amd64"))
    same = {"tools", "wheel-vllm", "layer-venv", "layer-entrypoint"}
    assert changed == set(published) - same


def test_another_builder_makes_the_same(published: dict[str, graph.Stage], prints: Prints) -> None:
    """So that two builders, one for each architecture, can make one image."""
    assert prints(published, build_arch="amd64") == prints(published, build_arch="arm64")


def test_a_builders_own_root_file_system_counts(
    stand_in: dict[str, graph.Stage], prints: Prints
) -> None:
    changed = _changed(prints(stand_in, build_arch="amd64"), prints(stand_in, build_arch="arm64"))
    assert {"tools", "layer-torch", "image"} <= changed
    assert "debian" not in changed


def test_a_stand_ins_roots_count_by_architecture(
    stand_in: dict[str, graph.Stage], prints: Prints
) -> None:
    before = prints(stand_in)
    assert _changed(before, prints(stand_in, {("", "base-amd64.tar"): "changed"})) == set()
    changed = _changed(before, prints(stand_in, {("", "base-arm64.tar"): "changed"}))
    assert {"debian", "stand-in", "cann", "base", "image"} <= changed
    assert not {"layer-torch", "layer-vllm", "layer-vllm-ascend", "tools"} & changed


def test_the_text_of_a_stage_counts(matrix: Matrix, prints: Prints) -> None:
    def of(platform: str) -> dict[str, str]:
        variant: Variant = matrix.variant(None, platform, "ubuntu22.04")
        text = preview(matrix, variant, "registry.example.com/cann:1", False, None)
        return prints(graph.parse(text), images={})

    assert _changed(of("a2"), of("a3")) == EVERY_LAYER


# ---- content -------------------------------------------------------------------------------------


def _digest(context: Path | str, path: str = "") -> str:
    stages = graph.parse(
        f"FROM scratch AS a\nRUN --mount=from=c,source={path or '/'},target=/x y\n"
    )
    return graph.fingerprints(stages, {"c": context}, {}, "arm64", "amd64")["a"]


def _make(root: Path, **files: str) -> Path:
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_a_directory_counts_by_names_contents_and_modes(tmp_path: Path) -> None:
    trees = [
        _make(tmp_path / "0", a__b="x", c="y"),
        _make(tmp_path / "1", a__c="x", c="y"),
        _make(tmp_path / "2", a__b="x", c="z"),
        _make(tmp_path / "3", a__b="x", c="y", d=""),
        _make(tmp_path / "4", a__b="x", c="y"),
    ]
    (trees[4] / "c").chmod(0o755)
    digests = [_digest(tree, ".") for tree in trees]
    assert len(set(digests)) == len(digests)
    assert _digest(_make(tmp_path / "5", a__b="x", c="y"), ".") == digests[0]


def test_byte_code_does_not_count(tmp_path: Path) -> None:
    one, two = _make(tmp_path / "1", a="x"), _make(tmp_path / "2", a="x", __pycache__="")
    (two / "__pycache__").unlink(missing_ok=True)
    _make(two / "__pycache__", **{"a.pyc": "code"})
    assert (two / "__pycache__" / "a.pyc").exists()
    assert _digest(one, ".") == _digest(two, ".")


def test_an_address_stands_for_its_content() -> None:
    one, two = (f"https://git.example/x.git#v{n}" for n in (1, 2))
    assert _digest(one) == _digest(one)
    assert _digest(one) != _digest(two)


def test_a_root_file_system_counts_by_its_stamp(tmp_path: Path) -> None:
    def digest(name: str, stamp: str | None) -> str:
        root = _make(tmp_path / name, **{"r.tar": f"gigabytes {name}"})
        if stamp is not None:
            (root / "r.sha256").write_text(stamp)
        return _digest(root, "r.tar")

    assert digest("1", "same") == digest("2", "same")
    assert digest("3", "other") != digest("4", "same")
    assert digest("5", None) != digest("6", None)
