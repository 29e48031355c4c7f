"""The Dockerfile: as committed in golden/, and with what must hold for every one of them."""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.build import graph, render
from images.build.render import DEBIAN, Base, Environment, dockerfile, preview
from images.matrix import CPU, STAND_IN, Matrix, Variant

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
CAPTURED = Environment.read(HERE / "samples" / "environment.json")
INSTALLERS = {
    "toolkit": "Ascend-cann-toolkit_8.3.RC2_linux-aarch64.run",
    "kernels": "Atlas-A3-cann-kernels_8.3.RC2_linux-aarch64.run",
    "nnal": "Ascend-cann-nnal_8.3.RC2_linux-aarch64.run",
}
Variants = Callable[..., Variant]


def _stand_in(matrix: Matrix, variant: Variant, environment: Environment | None = None) -> str:
    return preview(matrix, variant, STAND_IN, False, environment)


def _published(matrix: Matrix, variant: Variant, share: bool = False) -> str:
    return preview(matrix, variant, None, share, None)


def _packages(matrix: Matrix, variant: Variant, image: str = "") -> str:
    base = Base("packages", image=image, installers=INSTALLERS, os_image="docker.io/ubuntu:22.04")
    return dockerfile(matrix, variant, base, tools_image=None)


# ---- golden files --------------------------------------------------------------------------------

RENDERED: dict[str, Callable[[Matrix, Variants], str]] = {
    "a3": lambda m, v: _published(m, v("a3")),
    "a3-openeuler": lambda m, v: _published(m, v("a3", "openeuler24.03")),
    "a2-stand-in-captured": lambda m, v: _stand_in(m, v("a2"), CAPTURED),
    "v0.23.0.post1-a3": lambda m, v: _published(m, v("a3", release="v0.23.0.post1")),
    "310p": lambda m, v: _published(m, v("310p")),
    "a3-share-cann": lambda m, v: _published(m, v("a3"), share=True),
    "a3-cann-packages": lambda m, v: _packages(m, v("a3")),
    "cpu": lambda m, v: preview(m, m.variant(None, CPU, "", "0.32.0"), None, False, CAPTURED),
    "cpu-debian": lambda m, v: preview(m, m.variant(None, CPU, ""), DEBIAN, False, None),
}


@pytest.mark.parametrize("name", RENDERED)
def test_the_dockerfile_is_the_committed_one(matrix: Matrix, variant: Variants, name: str) -> None:
    path = GOLDEN / f"{name}.Dockerfile"
    text = RENDERED[name](matrix, variant) + "\n"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text)
    golden = path.read_text() if path.exists() else ""
    difference = "".join(
        difflib.unified_diff(
            golden.splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"golden/{path.name}",
            "rendered",
        )
    )
    assert not difference, (
        f"{difference}\nif it is meant: UPDATE_GOLDEN=1 pytest tests/images/build/test_render.py"
    )


def test_every_golden_file_has_its_test() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(RENDERED)


# ---- what holds for each -------------------------------------------------------------------------


def _all(matrix: Matrix) -> Iterator[tuple[Variant, str]]:
    """Every variant of the matrix on every kind of base that it can have."""
    for release in matrix.releases:
        pairs = product(matrix.releases[release].platforms, matrix.oses)
        for variant in (matrix.variant(release, *pair) for pair in pairs):
            yield variant, _published(matrix, variant)
            yield variant, _published(matrix, variant, share=True)
            yield variant, _packages(matrix, variant)
            yield variant, _packages(matrix, variant, "registry.example.com/os:1")
            yield variant, _stand_in(matrix, variant)


@pytest.fixture(scope="module")
def rendered(matrix: Matrix) -> list[tuple[Variant, str]]:
    return list(_all(matrix))


def test_every_variant_is_rendered_on_every_base(rendered: list[tuple[Variant, str]]) -> None:
    assert len(rendered) == 5 * 6 * 5 + 8 * 5


def test_nothing_of_the_templates_is_left(rendered: list[tuple[Variant, str]]) -> None:
    for variant, text in rendered:
        for leftover in ("{{", "}}", "{%", "{#", "None", "Undefined", "()"):
            assert leftover not in text, (variant.tag, leftover)


def test_every_stage_has_a_name_of_its_own(rendered: list[tuple[Variant, str]]) -> None:
    for variant, text in rendered:
        names = re.findall(r"^FROM .*?(?: AS (\S+))?$", text, re.MULTILINE)
        assert all(names), variant.tag
        assert len(set(names)) == len(names), variant.tag
        assert names[-1] == "image"


def test_every_source_is_an_earlier_stage_or_a_known_context(
    rendered: list[tuple[Variant, str]],
) -> None:
    known = {"stages", "locks", "entrypoints", "env", "cann-packages", "vendor"}
    known |= {"vllm-ascend-source", "mooncake-source", "yalantinglibs-source"}
    for variant, text in rendered:
        earlier: set[str] = set()
        for stage in re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]:
            code = "\n".join(line for line in stage.splitlines() if not line.startswith("#"))
            used = set(re.findall(r"from=([\w.-]+)", code))
            assert used <= earlier | known, variant.tag
            earlier.add(re.match(r"FROM .* AS (\S+)\n", stage)[1])  # type: ignore[index]


def test_no_stage_is_made_for_nothing(rendered: list[tuple[Variant, str]]) -> None:
    for variant, text in rendered:
        stages = graph.parse(text)
        used = {*graph.used_by(stages, "image"), *graph.used_by(stages, "environment")}
        unused = set(stages) - used
        if not variant.platform.mooncake:
            unused -= {"layer-mooncake"}  # has its own test, below
        assert not unused, variant.tag


@pytest.mark.parametrize(("release", "left_out"), [("v0.13.0rc1", None), ("v0.13.0", "left out")])
def test_a_stand_in_says_which_packages_it_lacks(
    matrix: Matrix, variant: Variants, release: str, left_out: str | None
) -> None:
    labels = render.labels(matrix, variant("a3", release=release), Base(STAND_IN))
    assert labels.get("ascend.fallback.arctic-inference") == left_out


def test_no_mooncake_where_there_is_none(matrix: Matrix, variant: Variants) -> None:
    stages = graph.parse(_published(matrix, variant("310p")))
    assert not [name for name in stages if "mooncake" in name]


@pytest.mark.parametrize("kind", ["image", STAND_IN])
def test_the_labels_name_no_mooncake_where_there_is_none(
    matrix: Matrix, variant: Variants, kind: str
) -> None:
    labels = render.labels(
        matrix, variant("310p"), Base(kind, image="x" if kind == "image" else "")
    )
    assert not [name for name in labels if "mooncake" in name]


def test_rendering_twice_gives_the_same(
    matrix: Matrix, rendered: list[tuple[Variant, str]]
) -> None:
    assert [text for _, text in _all(matrix)] == [text for _, text in rendered]


def _final(text: str) -> list[str]:
    return text.partition("FROM base AS image\n")[2].splitlines()


@pytest.mark.parametrize(
    ("platform", "mooncake"), [("a2", ["mooncake"]), ("a3", ["mooncake"]), ("310p", [])]
)
@pytest.mark.parametrize(
    ("base", "release", "compiled"),
    [
        ("published", "v0.13.0rc1", []),
        ("published", "v0.13.0", ["compiled"]),
        (STAND_IN, "v0.13.0rc1", []),
        (STAND_IN, "v0.13.0", []),
    ],
)
def test_the_layers_lie_large_and_stable_first(
    matrix: Matrix,
    variant: Variants,
    platform: str,
    mooncake: list[str],
    base: str,
    release: str,
    compiled: list[str],
) -> None:
    make = _published if base == "published" else _stand_in
    order = ["torch", "libraries", "dependencies", *compiled, "utilities", *mooncake]
    order += ["vllm", "proxy", "vllm-ascend", "entrypoint"]
    lines = _final(make(matrix, variant(platform, release=release)))
    made = [line for line in lines if line.startswith(("COPY", "ADD", "RUN", "WORKDIR"))]
    assert made == [
        "COPY --link --from=layer-venv /out/ /",
        "WORKDIR /workspace",  # a layer too, below those that must not move with it
        *(f"COPY --link --from=layer-{layer} /out/ /" for layer in order),
    ]


def test_the_label_names_the_layers_as_they_lie(rendered: list[tuple[Variant, str]]) -> None:
    for variant, text in rendered:
        made = [line for line in _final(text) if line.startswith(("COPY", "ADD", "RUN", "WORKDIR"))]
        names = [re.sub(r"^COPY .*--from=layer-(\S+) .*|WORKDIR .*", r"\1", one) for one in made]
        (label,) = re.findall(r'ascend\.layers="(.*?)"', text)
        assert label.split() == [name or "workdir" for name in names], variant.tag


def test_nothing_is_compiled_or_stubbed_against_the_utilities(
    rendered: list[tuple[Variant, str]],
) -> None:
    """So that a new router makes its own layer anew and no other."""
    for variant, text in rendered:
        users = [s.name for s in graph.parse(text).values() if "layer-utilities" in s.parents]
        assert users == ["image"], variant.tag


def test_every_layer_is_copied_with_link(rendered: list[tuple[Variant, str]]) -> None:
    for variant, text in rendered:
        for line in text.splitlines():
            if line.startswith("COPY") and "--from=capture" not in line:
                assert line.startswith("COPY --link --from="), (variant.tag, line)


def test_the_image_ends_as_it_is_started(rendered: list[tuple[Variant, str]]) -> None:
    for _, text in rendered:
        assert [line for line in _final(text)[-4:] if not line.startswith("#")] == [
            "STOPSIGNAL SIGTERM",
            "HEALTHCHECK --interval=30s --start-interval=5s --timeout=10s "
            "--start-period=30m --retries=3 "
            'CMD ["/opt/vllm/bin/entrypoint", "health"]',
            'ENTRYPOINT ["/opt/vllm/bin/dumb-init", "--single-child", "--", '
            '"/opt/vllm/bin/entrypoint"]',
        ]


def test_a3_differs_from_a2_in_these_lines_alone(matrix: Matrix, variant: Variants) -> None:
    a2, a3 = (_published(matrix, variant(name)).splitlines() for name in ("a2", "a3"))
    cann = "quay.io/ascend/cann:8.3.rc2-{}-ubuntu22.04-py3.11"
    facts = {
        "a2": ("Atlas 800 A2", cann.format("910b"), "ascend910b1"),
        "a3": ("Atlas 800 A3", cann.format("a3"), "ascend910_9391"),
    }

    def own(name: str) -> list[str]:
        title, image, soc = facts[name]
        return [
            f"# v0.13.0rc1 for {title} ({name}), ubuntu22.04, on {image}.",
            f"FROM {image} AS cann",
            f"# ---- vllm-ascend for {soc} {'-' * 48}",
            f"    SOC_VERSION={soc} bash /stages/compile_vllm_ascend.sh 0.13.0rc1",
            f'ENV ASCEND_PLATFORM="{name}" \\',
            f'    SOC_VERSION="{soc}" \\',
            f'LABEL org.opencontainers.image.title="vLLM for {title}" \\',
            f'      org.opencontainers.image.base.name="{image}" \\',
            f'      ascend.platform="{name}" \\',
            f'      ascend.soc-version="{soc}" \\',
        ]

    assert len(a2) == len(a3)
    differing = [(old, new) for old, new in zip(a2, a3, strict=True) if old != new]
    assert differing == list(zip(own("a2"), own("a3"), strict=True))


PYTHON_STAGES = (
    *("layer-torch", "layer-libraries", "layer-dependencies", "layer-utilities"),
    *("wheel-vllm", "layer-vllm", "layer-proxy"),
)


@pytest.mark.parametrize(
    "release", ["v0.11.0", "v0.13.0rc1", "v0.13.0", "v0.18.0", "v0.23.0.post1"]
)
def test_a_python_layer_is_the_same_on_every_platform_os_and_base(
    matrix: Matrix, rendered: list[tuple[Variant, str]], release: str
) -> None:
    texts = [text for variant, text in rendered if variant.release.name == release]
    stages = [graph.parse(text) for text in texts]
    differ = {f"layer-{name}" for name in matrix.stand_in_layers(matrix.releases[release])}
    if release == "v0.23.0.post1":  # Debian has another Python
        differ |= {"layer-utilities", "layer-vllm"}
    for name in PYTHON_STAGES:
        found = {(one[name].text, one[name].parents, one[name].files) for one in stages}
        assert len(found) == (2 if name in differ else 1), name
    if release == "v0.23.0.post1":
        wheels = {one["layer-mooncake"].text for one in stages if "layer-mooncake" in one}
        assert len(wheels) == 2


def test_only_what_needs_cann_is_compiled_on_it(rendered: list[tuple[Variant, str]]) -> None:
    """Any other stage runs on the builder, so that a foreign image needs no emulator."""
    on_target = {"debian", "cann", "sdk", "base", "capture", "environment", "image"}
    on_target |= {"python", "build-compiled", "build-mooncake", "build-vllm-ascend"}
    for variant, text in rendered:
        for line in text.splitlines():
            if line.startswith("FROM ") and line.split(" AS ")[1] not in on_target:
                assert line.startswith("FROM --platform=$BUILDPLATFORM "), (variant.tag, line)


def test_a_stand_in_runs_nothing_on_the_target(matrix: Matrix, variant: Variants) -> None:
    for stage in graph.parse(_stand_in(matrix, variant("a3"))).values():
        if "BUILDPLATFORM" not in stage.text:
            assert "\nRUN" not in stage.text, stage.name


def test_mooncake_is_compiled_until_it_has_a_wheel(
    rendered: list[tuple[Variant, str]],
) -> None:
    for variant, text in rendered:
        stand_in = "CANN_STANDIN" in text
        compiled = variant.release.mooncake.origin == "source" and variant.platform.mooncake
        assert ("AS build-mooncake" in text) == (compiled and not stand_in), variant.tag


def test_each_os_is_served_by_its_own_packager(rendered: list[tuple[Variant, str]]) -> None:
    for variant, text in rendered:
        used = set(re.findall(r"packages\.sh (apt|dnf) ", text))
        if "AS debian" in text:
            assert used <= {"apt"}
        else:
            assert used == {variant.os.packager}


def test_secrets_are_no_argument_of_a_stage(rendered: list[tuple[Variant, str]]) -> None:
    """Mirrors and credentials come as secrets: an ARG or ENV would be in a cache key or a layer."""
    for _, text in rendered:
        arguments = set(re.findall(r"^ARG (\S+)", text, re.MULTILINE))
        assert arguments <= {"TARGETARCH", "BUILDARCH", "MACHINE"}
        assert not re.search(r"(?i)index_url|(http|https|ftp|no|all)_proxy|_mirror|netrc=", text)


def test_a_shared_cann_lies_below_what_the_os_installs(matrix: Matrix, variant: Variants) -> None:
    base = graph.parse(_published(matrix, variant("a3"), share=True))["base"]
    assert base.image == matrix.images.os["ubuntu22.04"]
    assert re.findall(
        r"^COPY --link --from=cann-files /out/(\S+)/ /$|^(RUN) ", base.text, re.M
    ) == [
        ("python", ""),
        ("toolkit", ""),
        ("nnal", ""),
        ("kernels", ""),
        ("", "RUN"),
    ]


def test_installers_run_in_canns_order(matrix: Matrix, variant: Variants) -> None:
    order = " ".join(INSTALLERS[part] for part in ("toolkit", "kernels", "nnal"))
    assert f"bash /stages/install_cann.sh {order}\n" in _packages(matrix, variant("a3"))


def test_an_image_given_is_the_base(matrix: Matrix, variant: Variants) -> None:
    text = preview(matrix, variant("a3"), "registry.example.com/cann@sha256:1", False, None)
    assert "FROM registry.example.com/cann@sha256:1 AS cann\n" in text
    assert "quay.io" not in text


def test_a_stand_in_has_debians_python_and_the_indexs_versions(
    matrix: Matrix, variant: Variants
) -> None:
    text = _stand_in(matrix, variant("a3", release="v0.23.0.post1"))
    (labels,) = _pairs(text, "LABEL")
    fallbacks = {name: value for name, value in labels.items() if "fallback" in name}
    assert fallbacks == {
        "ascend.fallback.vllm-ascend": "without kernels",
        "ascend.fallback.triton-ascend": "3.2.0 of the package index, not 3.2.2",
        "ascend.fallback.python": "3.11 of Debian, not 3.12",
        "ascend.fallback.arctic-inference": "left out",
    }
    assert labels["ascend.pin.triton-ascend"] == "3.2.0"
    assert "3.12 " not in text.partition("LABEL")[0]
    assert "vendor" not in text


def test_the_vendors_packages_are_in_the_torch_layer(matrix: Matrix, variant: Variants) -> None:
    stages = graph.parse(_published(matrix, variant("a3", release="v0.18.0")))
    files = stages["layer-torch"].files
    assert ("locks", "v0.18.0/${TARGETARCH}/vendor.txt") in files
    assert ("vendor", "") in files
    assert "install /slice.txt /vendor.txt " in stages["layer-torch"].text
    others = [stage for name, stage in stages.items() if name != "layer-torch"]
    assert not any("vendor" in stage.text for stage in others)


def test_a_stand_in_of_a_cann_that_is_not_known(
    matrix: Matrix, variant: Variants, problems_of: Callable[..., list[str]]
) -> None:
    chosen = variant("a3")
    chosen = replace(chosen, release=replace(chosen.release, cann="7.0.0"))
    (problem,) = problems_of(lambda: _stand_in(matrix, chosen), 64)
    assert "no stand-in for CANN '7.0.0'" in problem


# ---- ENV and LABEL -------------------------------------------------------------------------------


def _pairs(text: str, instruction: str) -> list[dict[str, str]]:
    """Name → value of each ENV or LABEL of the final stage, read as BuildKit reads them."""
    final = text.partition("FROM base AS image\n")[2].replace("\\\n", "")
    pairs = []
    for line in final.split("\n"):
        if line.startswith(f"{instruction} "):
            body = line.removeprefix(f"{instruction} ")
            found = re.findall(r'([\w.-]+)="((?:\\.|[^"\\])*)"(?: +|$)', body, re.DOTALL)
            assert "".join(f'{name}="{value}"' for name, value in found) == re.sub(
                r'(?<=") +(?=[\w.-]+=")', "", body
            )
            assert not any(re.search(r"(?<!\\)(\\\\)*\$", value) for _, value in found), body
            pairs.append({name: re.sub(r'\\(["$\\])', r"\1", value) for name, value in found})
    return pairs


VALUES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=20)


@given(value=VALUES)
@pytest.mark.parametrize("where", ["ENV", "LABEL"])
def test_any_value_survives_its_quoting(
    matrix: Matrix, variant: Variants, where: str, value: str
) -> None:
    chosen = variant("a3")
    if where == "ENV":
        environment = replace(CAPTURED, changed={**CAPTURED.changed, "ODD": value})
        text = _stand_in(matrix, chosen, environment)
        assert any(pairs.get("ODD") == value for pairs in _pairs(text, "ENV"))
    else:
        titled = replace(chosen, platform=replace(chosen.platform, title=value))
        (pairs,) = _pairs(_published(matrix, titled), "LABEL")
        assert pairs["org.opencontainers.image.title"] == f"vLLM for {value}"


@pytest.mark.parametrize("value", ['"', "\\", "$HOME", "${PATH}", '\\"', "a\\", "'$'", "$(x) `y`"])
def test_quotes_dollars_and_backslashes_survive(
    matrix: Matrix, variant: Variants, value: str
) -> None:
    environment = replace(CAPTURED, changed={**CAPTURED.changed, "ODD": value})
    text = _stand_in(matrix, variant("a3"), environment)
    assert any(pairs.get("ODD") == value for pairs in _pairs(text, "ENV"))


def test_a_value_with_a_line_break_is_refused(
    matrix: Matrix, variant: Variants, problems_of: Callable[..., list[str]]
) -> None:
    environment = replace(CAPTURED, changed={**CAPTURED.changed, "ODD": "a\nRUN echo b"})
    (problem,) = problems_of(lambda: _stand_in(matrix, variant("a3"), environment), 65)
    assert "ODD" in problem


def _baked(matrix: Matrix, variant: Variant, share: bool) -> dict[str, str]:
    first, *_ = _pairs(preview(matrix, variant, None, share, CAPTURED), "ENV")
    return first


def test_the_captured_environment_is_baked_in(matrix: Matrix, variant: Variants) -> None:
    latest, atb = "/usr/local/Ascend/ascend-toolkit/latest", "/usr/local/Ascend/nnal/atb/latest/atb"
    assert _baked(matrix, variant("a3"), share=False) == {
        "ATB_HOME_PATH": f"{atb}/cxx_abi_1",
        "LD_LIBRARY_PATH": f"{atb}/cxx_abi_1/lib:{latest}/lib64:{atb}/cxx_abi_0/lib:"
        "/usr/local/Ascend/driver/lib64/driver:/usr/local/lib",
        "PATH": f"/opt/vllm/bin:{latest}/bin:/usr/local/python3.11.13/bin:"
        "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{latest}/python/site-packages",
    }


def test_a_base_that_is_not_inherited_is_baked_in_whole(matrix: Matrix, variant: Variants) -> None:
    shared = _baked(matrix, variant("a3"), share=True)
    own = _baked(matrix, variant("a3"), share=False)
    assert shared == {
        "ASCEND_HOME_PATH": "/usr/local/Ascend/ascend-toolkit/latest",
        "LCCL_PARALLEL": "0",
        **own,
    }


PATHS = st.lists(st.sampled_from(["/a", "/b", "/b/", "/c/d", "", "/e"]), max_size=8).map(":".join)


@given(path=PATHS, library=PATHS, modules=PATHS)
def test_search_paths_keep_their_order_and_name_nothing_twice(
    matrix: Matrix, variant: Variants, path: str, library: str, modules: str
) -> None:
    changed = {"PATH": path, "LD_LIBRARY_PATH": library, "PYTHONPATH": modules}
    environment = Environment("/usr/bin/python3", {}, changed)
    text = preview(matrix, variant("a3"), None, False, environment)
    baked, *_ = _pairs(text, "ENV")
    assert baked["PATH"].split(":")[0] == "/opt/vllm/bin"
    assert baked["LD_LIBRARY_PATH"].split(":")[-1] == "/usr/local/lib"
    for name, given_path in changed.items():
        entries = baked[name].split(":") if baked[name] else []
        assert "" not in entries  # it would be the working directory
        assert len(set(entries)) == len(entries)
        wanted = [entry.rstrip("/") for entry in given_path.split(":") if entry]
        assert [entry for entry in entries if entry in wanted] == list(dict.fromkeys(wanted))


def test_the_interpreter_is_the_captured_one(matrix: Matrix, variant: Variants) -> None:
    text = preview(matrix, variant("a3"), None, False, CAPTURED)
    assert "layer.py venv /usr/local/python3.11.13/bin/python3.11 --python 3.11" in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"python": "/p", "base": {}}',
        "null",
        *(
            pytest.param(
                json.dumps(one),
            )
            for one in (
                {"python": "/p", "base": {}, "changed": "x"},
                {"python": "/p", "base": [], "changed": {}},
                {"python": 3, "base": {}, "changed": {}},
                {"python": "/p", "base": {}, "changed": {"A": 1}},
            )
        ),
    ],
)
def test_a_file_that_is_no_captured_environment(
    tmp_path: Path, problems_of: Callable[..., list[str]], text: str
) -> None:
    path = tmp_path / "environment.json"
    path.write_text(text)
    (problem,) = problems_of(lambda: Environment.read(path), 65)
    assert "environment.json: is not a captured environment" in problem


def test_the_labels_say_what_is_in_the_image(matrix: Matrix, variant: Variants) -> None:
    (labels,) = _pairs(_published(matrix, variant("a3")), "LABEL")
    assert labels["org.opencontainers.image.version"] == "v0.13.0rc1"
    assert {name: value for name, value in labels.items() if name.startswith("ascend.pin.")} == {
        "ascend.pin.cann": "8.3.rc2",
        "ascend.pin.torch": "2.8.0",
        "ascend.pin.torch-npu": "2.8.0",
        "ascend.pin.triton-ascend": "3.2.0",
        "ascend.pin.mooncake": "0.3.7.post2",
        "ascend.pin.vllm": "0.13.0",
        "ascend.pin.vllm-ascend": "0.13.0rc1",
    }
    assert not [name for name in labels if "fallback" in name or "stand-in" in name]


def test_a_stand_in_says_that_it_is_one(matrix: Matrix, variant: Variants) -> None:
    text = _stand_in(matrix, variant("a3"))
    (labels,) = _pairs(text, "LABEL")
    assert labels["ascend.base"] == "stand-in"
    assert "cannot serve" in labels["ascend.stand-in"]
    assert labels["ascend.fallback.vllm-ascend"] == "without kernels"
    assert "without ascend_direct" in labels["ascend.fallback.mooncake"]
    own = list(itertools.chain.from_iterable(pairs.items() for pairs in _pairs(text, "ENV")))
    assert ("CANN_STANDIN", "1") in own
    assert ("SOC_VERSION", "ascend910_9391") in own
