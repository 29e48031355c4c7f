"""The catalogue's pages from images made by hand: what they say, and that they hold together."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import html5lib
import pytest

from entrypoints.plan import plan
from images.build.render import Base, labels
from images.catalogue import collect, commands, picture, write
from images.contents import cache
from images.inspect.model import Image, Package, Sbom
from images.matrix import CPU, Matrix
from tests.images import hand_made

TEMPLATES = write.TEMPLATES
A3 = "images/registry.example.com_team_vllm-ascend_v0.13.0rc1-a3-amd64.html"


class Page(HTMLParser):
    """The links and ids of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(given[name]) for name in ("href", "src") if name in given]
        self.ids += [str(given["id"])] if "id" in given else []

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def images() -> list[Image]:
    pairs = [(platform, arch) for platform in ("a2", "a3") for arch in ("amd64", "arm64")]
    return [
        *(hand_made.image(platform, arch) for platform, arch in pairs),
        hand_made.image(
            reference="registry.example.com/team/vllm-ascend:v0.11.0",
            manifest=hand_made.digest("old"),
            labels=hand_made.labels("a2", "v0.11.0"),
            environment=hand_made.environment("a2", "v0.11.0"),
        ),
    ]


@pytest.fixture
def files(matrix: Matrix, images: list[Image]) -> dict[str, str]:
    """The written pages as text."""
    return {name: content.decode() for name, content in write.rendered(matrix, images).items()}


# ---- pages ---------------------------------------------------------------------------------------


def test_every_page_is_good_html(files: dict[str, str]) -> None:
    for name in files:
        if name.endswith(".html"):
            html5lib.HTMLParser(strict=True).parse(files[name])


def test_links_lead_to_files_of_the_catalogue(files: dict[str, str]) -> None:
    for name, text in files.items():
        if name.endswith(".html"):
            page = Page(text)
            assert len(page.ids) == len(set(page.ids)), name
            for link in page.links:
                if link != "data:,":
                    assert str((Path("/") / name).parent / link) in _absolute(files), (name, link)


def _absolute(files: dict[str, str]) -> set[str]:
    """The files, and how a page below images/ reaches them."""
    return {f"/{name}" for name in files} | {f"/images/../{name}" for name in files}


def test_nothing_is_asked_of_another_server(files: dict[str, str]) -> None:
    for name, text in files.items():
        assert not re.search(r"(src|href|url\(|@import)[^>\n]*https?:", text), name


def test_the_same_images_give_the_same_bytes(matrix: Matrix, images: list[Image]) -> None:
    assert write.rendered(matrix, images) == write.rendered(matrix, list(reversed(images)))


def test_the_index(files: dict[str, str]) -> None:
    page = Page(files["index.html"])
    assert "5 images of 2 releases." in page.text
    # The newest release first, platforms as the matrix has them.
    assert re.findall(r"<h2>(.*?)</h2>", files["index.html"])[1:] == ["v0.13.0rc1", "v0.11.0"]
    tags = re.findall(r'<th scope="row"><a href="[^"]*">(.*?)</a>', files["index.html"])
    assert tags == [
        *("vllm-ascend:v0.13.0rc1", "vllm-ascend:v0.13.0rc1"),
        *("vllm-ascend:v0.13.0rc1-a3", "vllm-ascend:v0.13.0rc1-a3"),
        "vllm-ascend:v0.11.0",
    ]
    assert "Release Atlas 800 A2 Atlas 800 A3 v0.13.0rc1" in page.text
    assert "857.9 MB 2,573.8 MB" in page.text


def test_an_image_without_npus_takes_none_from_its_host(matrix: Matrix) -> None:
    variant = matrix.variant(None, CPU, "", "0.13.0")
    image = hand_made.image(
        labels=labels(matrix, variant, Base("debian")),
        environment={"ASCEND_PLATFORM": CPU, "VLLM_ASCEND_RELEASE": variant.facts},
    )
    found = {name: text.decode() for name, text in write.rendered(matrix, [image]).items()}
    assert "Release CPU v0.13.0rc1" in Page(found["index.html"]).text
    (path,) = (path for path in found if path.startswith("images/"))
    text = Page(found[path]).text
    assert "docker run" in text
    assert "davinci" not in text
    assert "/usr/local/Ascend" not in text


def test_the_page_of_an_image(files: dict[str, str], images: list[Image]) -> None:
    text = Page(files[A3]).text
    image = images[2]
    for words in (
        image.reference,
        image.digest,
        image.manifest,
        "torch 2.8.0",
        "857.9 MB to download, 2,573.8 MB on disk",
        "Entrypoint /opt/vllm/bin/entrypoint",
        "Health check /opt/vllm/bin/entrypoint health , every 30 s, 3 failures count after 1800 s",
        "SOC_VERSION ascend910_9391",
        "2 packages Package Version Layer torch 2.8.0 torch vllm 0.13.0 vllm",
        "libc6 2.36 base 1",
    ):
        assert words in text, words


def test_what_images_say_is_text(matrix: Matrix) -> None:
    evil = '<script>alert("x")</script>'
    image = hand_made.image(
        labels={**hand_made.labels(), "ascend.pin.evil": evil, "ascend.stand-in": evil},
        environment={**hand_made.environment(), "EVIL": evil},
        python_packages=(Package(evil, evil, "x"),),
        recipes={"evil": f"model: x\ndescription: {evil!r}\nroles: {{single: {{}}}}\n"},
    )
    content = write.rendered(matrix, [image])[A3].decode()
    assert "<script>alert" not in content
    assert content.count("&lt;script&gt;alert") == 6
    html5lib.HTMLParser(strict=True).parse(content)


def test_layers_that_were_not_read(matrix: Matrix) -> None:
    bare = hand_made.image(
        layers=tuple(replace(layer, unpacked=None) for layer in hand_made.image().layers),
        python_packages=None,
        os_packages=None,
        roles=None,
        recipes=None,
    )
    content = write.rendered(matrix, [bare])[A3].decode()
    html5lib.HTMLParser(strict=True).parse(content)
    assert Page(content).text.count("The layers were not read.") == 3


def test_the_same_image_under_two_tags_has_one_page(matrix: Matrix) -> None:
    image = hand_made.image()
    mirror = replace(image, reference="mirror.example.com/vllm-ascend:latest")
    files = write.rendered(matrix, [image, mirror])
    pages = [name for name in files if name.startswith("images/")]
    assert pages == ["images/mirror.example.com_vllm-ascend_latest-amd64.html"]
    text = Page(files[pages[0]].decode()).text
    assert f"{mirror.reference} , {image.reference}" in text


def test_two_images_whose_names_would_be_equal(matrix: Matrix) -> None:
    names = ("r.example.com/a/b:1", "r.example.com/a_b:1")
    made = [hand_made.image(reference=one, manifest=hand_made.digest(one)) for one in names]
    pages = [name for name in write.rendered(matrix, made) if name.startswith("images/")]
    assert len(set(pages)) == 2


def test_a_list_of_contents_is_part_of_the_catalogue(matrix: Matrix) -> None:
    image = hand_made.image(sboms=(Sbom("SPDX", "sha256:1", b'{"spdxVersion": 1}'),))
    files = write.rendered(matrix, [image])
    (name,) = [name for name in files if name.startswith("sbom/")]
    assert files[name] == b'{"spdxVersion": 1}'
    assert f'<a href="../{name}">SPDX</a>' in files[A3].decode()


def test_an_image_that_the_matrix_does_not_know(matrix: Matrix) -> None:
    image = hand_made.image(labels={"ascend.platform": "a9"}, environment={})
    files = write.rendered(matrix, [image])
    assert "a9" in Page(files["index.html"].decode()).text
    assert "is not known here" in Page(files[A3].decode()).text


# ---- the picture ---------------------------------------------------------------------------------


def test_shared_layers_have_one_colour_and_others_none(images: list[Image]) -> None:
    bars = picture.bars(images[:4])
    colours: dict[str, set[int | None]] = {}
    for bar in bars:
        for block in bar.blocks:
            colours.setdefault(block.digest, set()).add(block.colour)
    assert all(len(several) == 1 for several in colours.values())
    # base and torch differ by architecture, entrypoint by platform, vllm is everywhere
    assert [block.colour for block in bars[0].blocks] == [0, 1, 2, 3]
    assert [block.colour for block in picture.bars(images[:1])[0].blocks] == [None] * 4


def test_widths_are_by_size(images: list[Image]) -> None:
    small = hand_made.image("a2", layers=(hand_made.layer("torch", 428_970_841),))
    whole, half = picture.bars([images[2], small])
    assert sum(block.width for block in whole.blocks) == pytest.approx(100, abs=0.01)
    assert half.blocks[0].width == pytest.approx(50, abs=0.01)
    base, torch, _, entrypoint = whole.blocks
    assert torch.width / base.width == pytest.approx(793_051_628 / 55_567_546, rel=0.01)
    assert torch.left == pytest.approx(base.width, abs=0.002)
    assert entrypoint.width > 0.25  # too small to be seen, and drawn still
    assert [block.label for block in whole.blocks] == ["", "torch", "", ""]


def test_an_empty_image_has_a_bar() -> None:
    assert picture.bars([hand_made.image(layers=())])[0].blocks == ()
    assert picture.bars([hand_made.image(layers=(hand_made.layer("x", 0),))])[0].blocks


# ---- commands ------------------------------------------------------------------------------------


def variables(command: str) -> dict[str, str]:
    words = shlex.split(command.replace("\\\n", " "))
    given = [words[n + 1] for n, word in enumerate(words) if word == "-e"]
    return dict(one.split("=", 1) for one in given)


@pytest.mark.parametrize("platform", ["a2", "a3"])
def test_every_recipe_of_the_platform_can_be_started_as_shown(platform: str) -> None:
    image = hand_made.image(platform)
    found = commands.deployments(image)
    assert found
    roles = set()
    for deployment in found:
        assert not deployment.problems
        for node in deployment.nodes:
            assert not node.problems, node.problems
            given = variables(node.command)
            address = {"LOCAL_IP": node.where} if "NIC" in given else {}
            launch = plan({**image.environment, **given, **address})
            assert launch.role == node.role
            roles.add(node.role)
            assert node.command.endswith(image.reference)
    assert {"single", "leader", "headless", "ray-head", "ray-worker"} <= roles
    assert ("prefill" in roles) == ("proxy" in roles) == (platform == "a3")


def test_the_nodes_of_prefill_and_decode_know_each_other() -> None:
    (found,) = [
        one for one in commands.deployments(hand_made.image()) if one.recipe.endswith("pd-3node-a3")
    ]
    prefill, decode, headless, proxy = found.nodes
    assert variables(headless.command)["LEADER_IP"] == decode.where
    assert variables(headless.command)["GROUP"] == "decode"
    endpoints = variables(proxy.command)
    assert endpoints["PREFILL_ENDPOINTS"] == f"{prefill.where}:{prefill.ports['api']}"
    assert endpoints["DECODE_ENDPOINTS"] == f"{decode.where}:{decode.ports['api']}"


def test_the_function_gives_a_container_its_devices() -> None:
    text = commands.function(hand_made.image())
    words = shlex.split(text.replace("\\\n", " ").partition("{")[2].rpartition("}")[0])
    assert words[:2] == ["docker", "run"]
    assert words[-1] == "$@"
    devices = [words[n + 1] for n, word in enumerate(words) if word == "--device"]
    assert devices[:16] == [f"/dev/davinci{n}" for n in range(16)]
    assert "/dev/davinci_manager" in devices
    assert "/etc/hccn.conf:/etc/hccn.conf:ro" in words
    assert len(commands.function(hand_made.image("a2")).split("/dev/davinci")) == 8 + 1 + 1


def test_a_recipe_that_cannot_be_planned_says_why() -> None:
    wrong = {
        "unread": "model: x\n",
        "refused": "model: x\nargs: {no-such-flag: 1}\nroles: {single: {}}\n",
    }
    unread, refused = commands.deployments(hand_made.image(recipes=wrong))
    assert not unread.nodes
    assert unread.problems[0].startswith("unread: roles: is missing")
    (node,) = refused.nodes
    assert "no-such-flag" in node.problems[0]
    assert "/tmp" not in node.problems[0]


# ---- colours -------------------------------------------------------------------------------------


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_text_can_be_read_in_light_and_dark() -> None:
    css = (TEMPLATES / "style.css").read_text()
    light = dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", css.partition("@media")[0]))
    dark = {**light, **dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", css.split("@media")[1]))}
    assert dark["page"] != light["page"]
    for scheme in (light, dark):
        for text in ("text", "quiet", "link", "warn"):
            for ground in ("page", "panel"):
                assert _contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
        for n in range(picture.COLOURS):
            assert _contrast(scheme["ink"], scheme[f"c{n}"]) >= 4.5, n
        assert _contrast(scheme["ink"], scheme["alone"]) >= 4.5
    assert f"c{picture.COLOURS}" not in light


# ---- files ---------------------------------------------------------------------------------------


def test_a_catalogue_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "site"
    assert write.write({"index.html": b"1", "images/old.html": b"1"}, out) == out / "index.html"
    write.write({"index.html": b"2"}, out)
    assert [path.name for path in out.iterdir() if path.name != write.MARK] == ["index.html"]
    assert (out / "index.html").read_bytes() == b"2"
    assert [path.name for path in out.parent.iterdir()] == ["site"]


def test_what_is_no_catalogue_stays(tmp_path: Path, problems_of: Callable[..., list[str]]) -> None:
    (tmp_path / "mine").write_text("x")
    assert problems_of(lambda: write.write({"index.html": b""}, tmp_path), 64) == [
        f"--out: {tmp_path} exists and is not a catalogue (choose another directory, or remove it)"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_written(tmp_path: Path, problems_of: Callable[..., list[str]]) -> None:
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "site"
    (problem,) = problems_of(lambda: write.write({"index.html": b""}, out), 69)
    assert problem.startswith(f"{out}: cannot be written")


# ---- what is collected ---------------------------------------------------------------------------


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hand_made.Layout:
    monkeypatch.setattr(cache, "CACHE", tmp_path / "kept")
    return hand_made.Layout(tmp_path / "layout")


def test_the_images_of_a_layout(layout: hand_made.Layout) -> None:
    image = layout.image(hand_made.layers(), **hand_made.config())
    layout.tag("v1-a3", image)
    layout.tag("other/name:v1", image)
    layout.tag("base", layout.image([{"etc/x": "1"}]))
    layout.attach(image, b"{}", "application/spdx+json")
    config = layout.blob(b"{}", "application/vnd.oci.image.config.v1+json")
    signature = layout.artifact(
        b"{}", "application/vnd.dev.cosign.simplesigning.v1+json", config=config
    )
    layout.tag(image["digest"].replace(":", "-") + ".sig", signature)
    said: list[str] = []
    where = str(layout.directory)
    found = collect.images([], [where], False, False, "", said.append)
    assert [one.reference for one in found] == ["other/name:v1", "vllm-ascend:v1-a3"]
    assert said[-1] == f"left out {where}:base: it has no label ascend.platform"
    assert found[0].sboms


@pytest.mark.parametrize(
    ("tags", "code", "problem"),
    [
        (None, 64, "invoke site: no source of images is given (--registry REGISTRY/NAME, "
                   "--layout DIR or --engine)"),
        ([], 69, "{where}: has no image of this project (invoke publish)"),
        (["base"], 69, "{where}: has no image of this project (invoke publish)"),
    ],
)  # fmt: skip
def test_nothing_to_show(
    layout: hand_made.Layout,
    problems_of: Callable[..., list[str]],
    tags: list[str] | None,
    code: int,
    problem: str,
) -> None:
    layout.attach(layout.image([]), b"", "application/x")
    for tag in tags or []:
        layout.tag(tag, layout.image([{"etc/x": "1"}]))
    where = [] if tags is None else [str(layout.directory)]
    call = lambda: collect.images([], where, False, False, "", print)  # noqa: E731
    assert problems_of(call, code) == [problem.format(where=layout.directory)]


def test_a_layout_that_is_not_there(tmp_path: Path, problems_of: Callable[..., list[str]]) -> None:
    where = str(tmp_path / "none")
    call = lambda: collect.images([], [where], False, False, "", print)  # noqa: E731
    assert problems_of(call, 65) == [
        f"{where}/index.json: cannot be read: No such file or directory "
        "(a directory with an OCI layout)"
    ]
