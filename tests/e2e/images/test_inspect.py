"""invoke inspect and invoke site: of a real registry, a real engine, and in a real browser."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request

from images.build import engine
from images.inspect.stores import LayoutStore
from images.registry import oci
from tests.e2e.conftest import NATIVE, Image, docker, invoke, listing, remove
from tests.e2e.images import test_push
from tests.e2e.images.artifacts import attach, push
from tests.images import hand_made

registry = test_push.registry
NAME = "test.invalid/inspect/vllm-ascend"
TAGS = {"a2": "v0.13.0rc1", "a3": "v0.13.0rc1-a3"}
SPDX = "application/spdx+json"
SBOM = b'{"spdxVersion": "SPDX-2.3", "name": "by hand"}'
SMALL, LARGE = 360, 1280


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> hand_made.Layout:
    """A2 and A3 for both architectures."""
    layout = hand_made.Layout(tmp_path_factory.mktemp("layout"))
    for platform, tag in TAGS.items():
        parts = [
            layout.image(hand_made.layers(platform), arch=arch, **hand_made.config(platform))
            for arch in ("amd64", "arm64")
        ]
        layout.tag(tag, layout.index(parts))
    return layout


@pytest.fixture(scope="module")
def repository(registry: str, layout: hand_made.Layout) -> str:
    """The same in a registry; an SBOM is attached to one, which the registry lists as a tag."""
    name = f"{registry}/team/vllm-ascend"
    store = LayoutStore(oci.Layout(layout.directory))
    for tag in TAGS.values():
        root = store.manifest(tag)
        assert root
        push(layout.directory, root.digest, f"{name}:{tag}")
        if tag == TAGS["a3"]:
            attach(name, root.arches["amd64"], SPDX, SBOM)
    return name


@pytest.fixture(scope="module")
def in_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Platform → an image in the engine, gone with the tests."""
    layout = hand_made.Layout(tmp_path_factory.mktemp("engine"))
    names = {platform: f"{NAME}:{tag}" for platform, tag in TAGS.items()}
    for platform, name in names.items():
        vllm = "0.13.0" if platform == "a2" else "0.13.1"
        made = layout.image(hand_made.layers(platform, vllm), **hand_made.config(platform))
        layout.tag(name, made)
    tar = layout.directory / "layout.tar"
    parts = ["oci-layout", "index.json", "blobs"]
    subprocess.run(["tar", "-cf", str(tar), "-C", str(layout.directory), *parts], check=True)
    docker("load", "--input", str(tar))
    yield names
    remove(*names.values())


def inspect(*arguments: str) -> list[dict[str, Any]]:
    answer = invoke("inspect", "--format", "json", *arguments)
    assert answer.returncode == 0, answer.stderr
    return list(json.loads(answer.stdout))


# ---- inspect -------------------------------------------------------------------------------------


def test_a_tag_of_a_registry(repository: str, layout: hand_made.Layout) -> None:
    found = inspect(f"{repository}:v0.13.0rc1-a3", "--with", f"{repository}:v0.13.0rc1")
    assert [one["platform"] for one in found] == ["linux/amd64", "linux/arm64"]
    one = found[0]
    assert one["found_in"] == "registry"
    assert one["pins"] == {"torch": "2.8.0", "vllm": "0.13.0"}
    assert one["recipes"] == sorted(hand_made.recipes())
    assert one["sboms"][0]["kind"] == "SPDX"
    alone = [
        layer["name"]
        for layer in one["layers"]
        if not any(f"{repository}:v0.13.0rc1 (" in other for other in layer["shared"])
    ]
    assert alone == ["vllm-ascend"]
    local = inspect(f"{layout.directory}:v0.13.0rc1-a3", "--arch", "amd64")
    assert [layer["digest"] for layer in local[0]["layers"]] == [
        layer["digest"] for layer in one["layers"]
    ]


def test_an_image_of_the_engine(in_engine: dict[str, str]) -> None:
    (one,) = inspect(in_engine["a3"])
    assert one["found_in"] == "engine"
    assert {"name": "vllm", "version": "0.13.1", "layer": "vllm"} in one["python_packages"]
    assert one["unpacked"] > one["size"] > 0
    assert one["stop_signal"] == "SIGTERM"


def test_the_difference_of_two(in_engine: dict[str, str]) -> None:
    answer = invoke("inspect", "--diff", in_engine["a2"], in_engine["a3"])
    assert answer.returncode == 0, answer.stderr
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert ["ASCEND_PLATFORM", "a2", "a3"] in lines
    assert ["vllm", "0.13.0", "0.13.1"] in lines
    assert {line[0] for line in lines if line} >= {"vllm-ascend", "SOC_VERSION"}
    assert ["torch", "2.8.0", "2.8.0"] not in lines


def test_a_budget_is_kept(in_engine: dict[str, str]) -> None:
    answer = invoke("inspect", in_engine["a3"], "--budget")
    assert (answer.returncode, answer.stdout.count("torch")) == (0, 1), answer.stderr


def test_what_is_nowhere(registry: str, repository: str) -> None:
    cases = {
        f"{repository}:v0.13.0rc1-a2": "is not in the registry (did you mean v0.13.0rc1-a3 or",
        "localhost:1/x:1": "does not answer: connection refused",
        "nothing-like-it": "is neither in the engine nor a layout",
    }
    for reference, words in cases.items():
        answer = invoke("inspect", reference)
        assert answer.returncode == 69
        assert words in answer.stderr
        assert "Traceback" not in answer.stderr
        assert answer.stdout == ""


def test_the_image_that_is_built(a3: Image) -> None:
    """Its layers have the names that the build gave them, and it keeps its budget."""
    (one,) = inspect(a3.tag)
    assert [layer["name"] for layer in one["layers"]] == list(a3.layers)
    assert "single" in one["roles"]
    assert one["recipes"]
    assert invoke("inspect", a3.tag, "--budget").returncode == 0


def test_the_engine_gives_an_images_manifest_and_no_layer(a3: Image) -> None:
    began = time.monotonic()
    found = engine.manifests(a3.tag, a3.digest, NATIVE)
    assert time.monotonic() - began < 5
    assert {arch: one.digest for arch, one in found.items()} == {NATIVE: a3.digest}
    assert len(found[NATIVE].document["layers"]) == len(a3.layers)
    assert "127.0.0.1" not in docker("image", "ls", "--format", "{{.Repository}}").stdout


# ---- the catalogue -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(
    repository: str, in_engine: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("catalogue") / "site"
    answer = invoke("site", "--registry", repository, "--out", str(out))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"{out}/index.html\n"
    return out


def test_the_catalogue_of_a_registry(site: Path) -> None:
    assert len(list((site / "images").iterdir())) == 4
    (sbom,) = (site / "sbom").iterdir()
    assert sbom.read_bytes() == SBOM


def test_made_again_it_is_the_same(site: Path, repository: str, tmp_path: Path) -> None:
    answer = invoke("site", "--registry", repository, "--out", str(tmp_path / "again"))
    assert answer.returncode == 0, answer.stderr
    for path in site.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(site)).read_bytes()


def test_the_catalogue_of_the_engine(in_engine: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "site"
    with listing():
        answer = invoke("site", "--engine", "--brief", "--out", str(out))
    assert answer.returncode == 0, answer.stderr
    index = (out / "index.html").read_text()
    assert all(name.rpartition("/")[2] in index for name in in_engine.values())


def errors_of(page: Page) -> list[str]:
    """What the page logs, what it fails to load, and what it loads from elsewhere."""
    errors: list[str] = []

    def requested(request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            errors.append(request.url)

    page.on("console", lambda message: errors.append(message.text))
    page.on("requestfailed", lambda request: errors.append(request.url))
    page.on("request", requested)
    return errors


@pytest.mark.parametrize("width", [SMALL, LARGE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_in_a_browser_without_javascript(
    site: Path, browser: Browser, width: int, scheme: Any
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, java_script_enabled=False, color_scheme=scheme
    )
    grounds = set()
    for path in site.rglob("*.html"):
        page = context.new_page()
        wrong = errors_of(page)
        page.goto(path.as_uri())
        assert wrong == []
        across = page.evaluate("document.documentElement.scrollWidth")
        assert across <= width, f"{path.name} is {across} wide"
        assert page.locator("svg rect").count() > 0
        for box in page.locator("svg[role=img]").all():
            assert 0 < box.bounding_box()["width"] <= width  # type: ignore[index]
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert grounds == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 28)"}
    context.close()


def test_links_can_be_followed(site: Path, browser: Browser) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((site / "index.html").as_uri())
    page.get_by_role("link", name="vllm-ascend:v0.13.0rc1-a3").first.click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("vllm-ascend:v0.13.0rc1-a3")
    assert "linux/arm64" in page.get_by_role("heading", level=1).inner_text()
    page.get_by_role("link", name="linux/amd64").click()
    assert "linux/amd64" in page.get_by_role("heading", level=1).inner_text()
    page.get_by_role("link", name="SPDX").click()
    assert "SPDX-2.3" in page.content()
    page.go_back()
    page.get_by_role("link", name="All images").click()
    assert page.url.endswith("/index.html")


def test_with_javascript_packages_can_be_searched(site: Path, browser: Browser) -> None:
    page = browser.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(next((site / "images").iterdir()).as_uri())
    rows = page.get_by_role("row").filter(has_text="2.8.0").filter(has_text="torch")
    other = page.get_by_role("row").filter(has_text="fastapi")
    assert (rows.count(), other.count()) == (1, 1)
    page.get_by_label("Search Python packages").fill("Torch")
    assert rows.is_visible()
    assert not other.is_visible()
    page.get_by_label("Search Python packages").fill("")
    assert other.is_visible()
    assert wrong == []
    page.close()
