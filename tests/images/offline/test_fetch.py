"""A bundle: what goes into it, how it is completed, and what is refused of one."""

from __future__ import annotations

import http.server
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.terminal import Say
from images.build import bundle as offline
from images.build import graph, rootfs
from images.build.base import FoundBase
from images.build.bundle import Bundle, File, Image, Package
from images.build.options import Options, native_arch
from images.build.render import DEBIAN, Base
from images.build.targets import BuildTarget
from images.locking import slices
from images.matrix import CPU, STAND_IN, Arch, Debian, Matrix, Variant
from images.mirrors import Mirrors
from images.offline import fetch, needs
from images.offline.fetch import Remote
from images.offline.needs import Slice

Problems = Callable[..., list[str]]
Variants = Callable[..., Variant]


def _silent(_: str) -> None:
    pass


def _content(name: str) -> bytes:
    return f"the content of {name}".encode()


def _sha256(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return File.of(path).sha256


@pytest.fixture
def small_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of the real names, with one package each whose file has `_content`."""
    copy = tmp_path / "locks"
    for path in slices.LOCKS.rglob("*.txt"):
        target = copy / path.relative_to(slices.LOCKS)
        target.parent.mkdir(parents=True, exist_ok=True)
        sha256 = _sha256(tmp_path / "scratch", _content(f"{path.stem}-1.whl"))
        target.write_text(f"{path.stem}==1 --hash=sha256:{sha256}\n")
    monkeypatch.setattr(slices, "LOCKS", copy)
    return copy


@pytest.fixture
def roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root file systems without a package mirror."""
    monkeypatch.setattr(fetch, "WORK", tmp_path / "work")

    def provide(
        debian: Debian, arch: Arch, name: str, directory: Path, say: Say, mirror: str
    ) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        made = directory / f"{name}-{arch.name}.tar"
        made.write_text(f"root of {debian.packages}")
        made.with_suffix(".sha256").write_text(rootfs.fingerprint(debian, arch))
        return made

    monkeypatch.setattr(rootfs, "provide", provide)


@pytest.fixture
def target(matrix: Matrix, variant: Variants, options: Options) -> BuildTarget:
    found = FoundBase(Base(STAND_IN), "stand-in")
    return BuildTarget(matrix, variant(), found, "vllm-ascend:x-standin", None, options)


@pytest.fixture
def options(matrix: Matrix) -> Options:
    return Options(arches=(matrix.arch("arm64"),))


class Index:
    """A package index: one file a package; it fails after `limit` downloads."""

    def __init__(self, limit: int = 1000) -> None:
        self.limit = limit
        self.downloads: list[str] = []
        self.spoiled: set[str] = set()

    def resolve(self, one: Slice) -> dict[str, list[Remote]]:
        (pin,) = one.pinned()
        (hashed,) = pin.hashes
        name = f"{pin.name}-1.whl"
        remote = Remote(name, f"https://index.invalid/{name}", hashed.removeprefix("sha256:"))
        return {pin.name: [remote]}

    def download(self, remote: Remote, path: Path, stop: threading.Event) -> None:
        if len(self.downloads) >= self.limit:
            raise requests.ConnectionError("cut off")
        self.downloads.append(remote.name)
        path.write_bytes(b"x" if remote.name in self.spoiled else _content(remote.name))


@pytest.fixture
def fetched(
    small_locks: Path,
    roots: None,
    matrix: Matrix,
    target: BuildTarget,
    options: Options,
    tmp_path: Path,
) -> Callable[[Index], fetch.Fetched]:
    def run(index: Index) -> fetch.Fetched:
        return fetch.fetch(
            *([target], tmp_path / "bundle", _silent),
            *(index.resolve, index.download),
        )

    return run


# ---- what is needed ------------------------------------------------------------------------------


def test_a_stand_in_needs_slices_roots_and_nothing_else(
    matrix: Matrix, target: BuildTarget, options: Options
) -> None:
    found = needs.collect([target])
    builder = native_arch(matrix).name
    release = target.variant.release.name
    assert [one.path for one in found.slices] == [
        "stand-in.txt",
        "tools.txt",
        *(
            f"{release}/arm64/{name}.txt"
            for name in ("dependencies", "libraries", "mooncake", "torch", "utilities")
        ),
        f"{release}/arm64/vllm-ascend.txt",
        f"{release}/sources.txt",
    ]
    assert set(found.roots) == {"base-arm64.tar", f"tools-{builder}.tar"}
    assert (found.stages, found.sources) == ({}, {})


def test_a_cann_image_needs_its_stages_and_sources(
    matrix: Matrix, variant: Variants, options: Options
) -> None:
    found = FoundBase(Base("image", image="r.example.com/cann:1", os_image="u"), "sha256:1")
    target = BuildTarget(
        *(matrix, variant(release="v0.13.0"), found, "vllm-ascend:x", "python:3.11", options)
    )
    wanted = needs.collect([target])
    (stages,) = wanted.stages.values()
    assert set(stages) == {"tools", "cann", "sdk", "layer-mooncake", "layer-compiled"}
    # Mooncake's repositories and the packages' own sources are in the layers that are kept.
    assert wanted.sources == {
        "vllm-ascend": "https://github.com/vllm-project/vllm-ascend.git#v0.13.0"
    }
    names = {Path(one.path).name for one in wanted.slices}
    assert names.isdisjoint({"tools.txt", "compiled.txt", "stand-in.txt"})


def test_an_image_without_npus_needs_its_own_lock(matrix: Matrix, options: Options) -> None:
    variant = matrix.variant(None, CPU, "", "0.13.0")
    target = BuildTarget(
        *(matrix, variant, FoundBase(Base(DEBIAN), "packages"), "vllm-ascend:x-cpu", None, options)
    )
    found = needs.collect([target])
    builder = native_arch(matrix).name
    assert [one.path for one in found.slices] == [
        *(f"cpu-0.13.0/arm64/{name}.txt" for name in sorted(matrix.cpu.layers)),
        "stand-in.txt",
        "tools.txt",
        f"{variant.release.name}/arm64/vllm-ascend.txt",  # its example proxies
    ]
    assert set(found.roots) == {"cpu-arm64.tar", f"tools-{builder}.tar"}
    assert (found.stages, found.sources) == ({}, {})


def test_a_wheel_beside_the_index_goes_into_the_bundle(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    name = "small-1.0+cpu-py3-none-any.whl"
    with zipfile.ZipFile(wheels / name, "w") as wheel:
        info = "small-1.0+cpu.dist-info"
        about = "Metadata-Version: 2.1\nName: small\nVersion: 1.0+cpu\n"
        wheel.writestr(f"{info}/METADATA", about)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    sha256 = File.of(wheels / name).sha256
    (tmp_path / "torch.txt").write_text(f"small==1.0+cpu --hash=sha256:{sha256}\n")
    monkeypatch.setattr(slices, "LOCKS", tmp_path)
    one = Slice("torch.txt", "x86_64", "3.11")
    found = fetch.resolve(one, Mirrors(wheels="/no/index"), wheels)  # of no index: uv is offline
    assert found == {"small": [Remote(name, f"file://{wheels / name}", sha256)]}


# ---- fetching ------------------------------------------------------------------------------------


def test_a_bundle_names_every_file(fetched: Callable[[Index], fetch.Fetched]) -> None:
    bundle = fetched(Index()).bundle
    there = {str(p.relative_to(bundle.directory)) for p in bundle.directory.rglob("*.*")}
    assert there == {*bundle.files, "bundle.json"}
    assert offline.read(bundle.directory) == bundle
    assert bundle.damage() == []


def test_cut_off_and_run_again_it_completes(
    fetched: Callable[[Index], fetch.Fetched], problems_of: Problems, tmp_path: Path
) -> None:
    first = Index(limit=4)
    problems = problems_of(lambda: fetched(first), 69)
    assert len(problems) == 5
    assert all("cut off" in problem for problem in problems)
    assert not (tmp_path / "bundle" / "bundle.json").exists()
    second = Index()
    result = fetched(second)
    assert sorted([*first.downloads, *second.downloads]) == sorted(
        {*first.downloads, *second.downloads}
    )
    assert len(second.downloads) == 5
    assert result.bundle.damage() == []
    third = Index()
    assert fetched(third).kept == len(result.bundle.files)
    assert third.downloads == []


def test_a_file_that_broke_is_fetched_again(fetched: Callable[[Index], fetch.Fetched]) -> None:
    bundle = fetched(Index()).bundle
    (bundle.directory / "wheels" / "torch-1.whl").write_text("something else")
    again = Index()
    fetched(again)
    assert again.downloads == ["torch-1.whl"]


def test_a_file_that_the_lock_does_not_know_is_refused(
    fetched: Callable[[Index], fetch.Fetched], problems_of: Problems, tmp_path: Path
) -> None:
    index = Index()
    index.spoiled = {"torch-1.whl", "tools-1.whl"}
    problems = problems_of(lambda: fetched(index), 65)
    assert [problem.partition(":")[0] for problem in problems] == ["tools-1.whl", "torch-1.whl"]
    assert not list((tmp_path / "bundle" / "wheels").glob("*torch*"))


def test_another_file_of_the_same_version_is_not_taken(
    fetched: Callable[[Index], fetch.Fetched], problems_of: Problems
) -> None:
    class Other(Index):
        def resolve(self, one: Slice) -> dict[str, list[Remote]]:
            found = super().resolve(one)
            return {n: [replace(r, sha256="0" * 64) for r in rs] for n, rs in found.items()}

    problems = problems_of(lambda: fetched(Other()), 69)
    assert "wheel for aarch64 of torch 1 with a hash of the lock" in "\n".join(problems)
    assert "source distribution of vllm-ascend 1" in "\n".join(problems)


def test_what_an_earlier_bundle_had_and_no_one_needs_goes(
    fetched: Callable[[Index], fetch.Fetched],
    small_locks: Path,
    target: BuildTarget,
    tmp_path: Path,
) -> None:
    fetched(Index())
    path = small_locks / target.variant.release.name / "arm64" / "torch.txt"
    sha256 = _sha256(tmp_path / "scratch", _content("torch2-1.whl"))
    path.write_text(f"torch2==1 --hash=sha256:{sha256}\n")
    again = Index()
    bundle = fetched(again).bundle
    assert again.downloads == ["torch2-1.whl"]
    assert not (bundle.directory / "wheels" / "torch-1.whl").exists()


def test_a_directory_of_something_else_is_left_alone(
    fetched: Callable[[Index], fetch.Fetched], problems_of: Problems, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("years")
    (problem,) = problems_of(lambda: fetched(Index()), 64)
    assert "has other files in it" in problem


class _Cutting(http.server.BaseHTTPRequestHandler):
    """Serves 300 bytes, and breaks off in the middle until it is asked for the rest."""

    asked: list[str | None]

    def do_GET(self) -> None:
        begin = self.headers["Range"]
        self.asked.append(begin)
        first = int(begin.removeprefix("bytes=").rstrip("-")) if begin else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(300 - first))
        self.end_headers()
        self.wfile.write((b"abc" * 100)[first : first + 120])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cutting() -> Iterator[tuple[str, list[str | None]]]:
    asked: list[str | None] = []
    handler = type("Handler", (_Cutting,), {"asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/file.whl", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_goes_on_where_it_was_cut_off(
    cutting: tuple[str, list[str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    monkeypatch.setattr(fetch, "CHUNK", 10)
    url, asked = cutting
    fetch.download(Remote("file.whl", url, "", 300), tmp_path / "part", threading.Event())
    assert (tmp_path / "part").read_bytes() == b"abc" * 100
    assert asked == [None, "bytes=120-", "bytes=240-"]


# ---- verifying -----------------------------------------------------------------------------------


def _bundle(directory: Path) -> Bundle:
    files = {}
    for name in ("wheels/a.whl", "wheels/b.whl", "roots/base.tar"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(name))
        files[name] = File.of(path)
    slices = {"r/arm64/torch.txt": {"torch": Package("1", ("a.whl", "b.whl"))}}
    image = Image("digest", {"tools": "1"}, {"torch": "1"})
    bundle = Bundle(directory, "arm64", images={"a3": image}, slices=slices, files=files)
    bundle.write()
    return bundle


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    (tmp_path / "wheels/a.whl").unlink()
    (tmp_path / "wheels/b.whl").write_bytes(b"cut")
    (tmp_path / "roots/base.tar").write_bytes(_content("roots/BASE.tar"))
    missing, cut, other = map(str, bundle.damage())
    assert "a.whl: is missing" in missing
    assert f"b.whl: has 3 bytes of {len(_content('wheels/b.whl'))}" in cut
    assert "base.tar: its sha256 is" in other


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_change_of_a_file_goes_unnoticed(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle = _bundle(tmp_path_factory.mktemp("bundle"))
    name = data.draw(st.sampled_from(sorted(bundle.files)))
    path = bundle.directory / name
    content = path.read_bytes()
    changed = data.draw(st.binary(max_size=80).filter(lambda b: b != content) | st.none())
    if changed is None:  # one bit of it
        at = data.draw(st.integers(0, len(content) * 8 - 1))
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        changed = bytes(flipped)
    path.write_bytes(changed)
    (problem,) = offline.read(bundle.directory).damage()
    assert problem.where == str(path.resolve())


@settings(max_examples=100, deadline=None)
@given(
    key=st.sampled_from(["images", "bases", "roots", "stages", "sources", "slices", "files"]),
    value=st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
        ),
        max_leaves=4,
    ),
)
def test_a_broken_index_is_refused_in_plain_words(
    key: str, value: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("bundle")
    _bundle(directory)
    path = directory / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    read = refused = None
    try:
        read = offline.read(directory)
    except UserError as error:
        refused = error.exit_code
    assert read is not None or refused == 65


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"more": 1}, "'more' was unexpected"),
        (
            {"files": {"../x": {"size": 1, "sha256": ""}}, "slices": {}},
            "outside the bundle: ../x",
        ),
        ({"files": {}}, "has no sha256 of wheels/a.whl, wheels/b.whl"),
    ],
)
def test_an_index_that_cannot_be(
    edit: dict[str, object], words: str, tmp_path: Path, problems_of: Problems
) -> None:
    _bundle(tmp_path)
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **edit}))
    (problem,) = problems_of(lambda: offline.read(tmp_path), 65)
    assert words in problem


def test_no_bundle_and_options_that_ask_a_network(tmp_path: Path, problems_of: Problems) -> None:
    (problem,) = problems_of(lambda: offline.open_bundle(tmp_path, {}), 65)
    assert "is not a bundle" in problem
    given = {"pip_index": "https://i.invalid", "apt_mirror": "", "torch_index": "https://t.invalid"}
    problems = problems_of(lambda: offline.open_bundle(tmp_path, given), 64)
    assert [p.split(" (")[0] for p in problems] == [
        "--offline: and --pip-index exclude each other",
        "--offline: and --torch-index exclude each other",
    ]


# ---- made for another state of the project -------------------------------------------------------


def test_a_bundle_of_the_present_tree_fits(
    fetched: Callable[[Index], fetch.Fetched], matrix: Matrix, target: BuildTarget, options: Options
) -> None:
    said: list[str] = []
    needs.check([target], fetched(Index()).bundle, said.append)
    assert len(said) == 1  # that it looks


def test_what_differs_is_named(
    fetched: Callable[[Index], fetch.Fetched],
    matrix: Matrix,
    target: BuildTarget,
    options: Options,
    small_locks: Path,
    problems_of: Problems,
) -> None:
    bundle = fetched(Index()).bundle
    (bundle.directory / "wheels" / "mooncake-1.whl").unlink()
    release = target.variant.release
    torch = small_locks / release.name / "arm64" / "torch.txt"
    torch.write_text(torch.read_text().replace("==1", "==2"))
    libraries = small_locks / release.name / "arm64" / "libraries.txt"
    libraries.write_text(f"libraries==1 --hash=sha256:{'0' * 64}\n")
    graph._tree_digest.cache_clear()
    other = replace(matrix, stand_in=replace(matrix.stand_in, packages=("python3",)))
    variant = replace(target.variant, release=replace(release, torch="9.9"))
    newer = replace(target, matrix=other, variant=variant)
    problems = problems_of(lambda: needs.check([newer], bundle, _silent), 65)
    told = [problem.split(" (")[0] for problem in problems]
    assert told[0].endswith("mooncake-1.whl: is missing")
    where = f"locks/{release.name}/arm64"
    assert told[1:] == [
        f"pin torch of {target.name}: is 9.9, the bundle was made for {release.torch}",
        f"{where}/libraries.txt: libraries 1 in the bundle is not a file of the lock",
        f"{where}/torch.txt: torch is 2, the bundle has 1",
        "roots/base-arm64.tar: was made from other Debian packages",
    ]


def test_an_architecture_that_was_not_fetched(
    fetched: Callable[[Index], fetch.Fetched],
    matrix: Matrix,
    target: BuildTarget,
    options: Options,
    problems_of: Problems,
) -> None:
    bundle = fetched(Index()).bundle
    both = target.for_arches([*target.options.arches, matrix.arch("amd64")])
    problems = problems_of(lambda: needs.check([both], bundle, _silent), 65)
    assert len([p for p in problems if "/amd64/" in p and "is not in the bundle" in p]) == 6
    assert any(p.startswith("roots/base-amd64.tar: is not in the bundle") for p in problems)


# ---- building with it ----------------------------------------------------------------------------


def test_every_step_that_asks_an_index_has_the_wheels(
    matrix: Matrix, target: BuildTarget, options: Options
) -> None:
    text = target.dockerfile.text
    mounted = Bundle(Path("/b"), "arm64").dockerfile(text)
    steps = [step for step in mounted.split("\nRUN ") if "mirrors.sh python3" in step]
    assert len(steps) > 5
    assert all("from=wheels,target=/bundle" in step for step in steps)
    assert mounted.count("\nRUN --network=none ") == text.count("\nRUN ") > len(steps)


def test_a_bake_target_takes_from_the_bundle(tmp_path: Path) -> None:
    archive = tmp_path / "sources" / "mooncake.tar"
    archive.parent.mkdir()
    source = tmp_path / "mooncake"
    source.mkdir()
    (source / "CMakeLists.txt").write_text("project")
    with tarfile.open(archive, "w") as tar:
        tar.add(source, arcname=".")
    bundle = Bundle(
        tmp_path,
        "arm64",
        stages={"a3": {"sdk": "sha256:1"}},
        sources={"mooncake": "https://example.com/m.git#v1"},
        files={"sources/mooncake.tar": File.of(archive)},
    )
    made = {"contexts": {"locks": "/locks", "mooncake-source": "https://example.com/m.git#v1"}}
    target = bundle.target(made, "a3", tmp_path / "work")
    places = target["contexts"]
    assert places["sdk"] == f"oci-layout://{tmp_path}/images@sha256:1"
    assert (Path(places["mooncake-source"]) / "CMakeLists.txt").read_text() == "project"
    assert (places["locks"], places["wheels"]) == ("/locks", f"{tmp_path}/wheels")
