"""publish, promote and prune with a real registry: cut off at random, told apart, counted."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from images.build import push
from images.build.bake import bake
from images.build.inputs import LABEL, Inputs
from images.build.progress import Progress
from images.publish import publish
from images.registry.client import HttpRepository
from images.registry.oci import MEDIA_TYPES, Layout
from tests.e2e.conftest import NATIVE, docker, invoke, remove
from tests.e2e.images.artifacts import attach, attached, push_artifact
from tests.e2e.images.publish_small import Publishing
from tests.images.publish.publish_fakes import small_release
from tests.ports import free_port

SIZE = 700_000  # of a layer, in bytes: large enough to be killed in the middle of
KILLS = 20
ACCEPT = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
# user "ci", password "secret"
HTPASSWD = "ci:$2b$04$bdVoCxYrchT21DJMNMRjuOUO3pD6PlJe/nXsSNF15W1HvC5AfUukm\n"


class Registry:
    """Debian's docker-registry on loopback, which a test may kill and start again."""

    def __init__(self, root: Path, password: bool = False) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.port = free_port()
        self.host = f"localhost:{self.port}"
        config: dict[str, Any] = {
            "version": "0.1",
            "storage": {
                "filesystem": {"rootdirectory": str(root / "data")},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"127.0.0.1:{self.port}"},
            "log": {"level": "error"},
        }
        if password:
            (root / "htpasswd").write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(root / "htpasswd")}}
        (root / "config.yml").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self.root / "config.yml")],
                stdout=log,
                stderr=log,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            )
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail("the registry does not start")

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def log(self) -> str:
        return (self.root / "log").read_text()

    def uploaded(self, repository: str, since: int = 0) -> list[str]:
        """The digests of the blobs that were uploaded, from the access log."""
        pattern = rf'"PUT /v2/{repository}/blobs/uploads/\S*digest=(sha256\S+) HTTP/1.1" 201'
        return [urllib.parse.unquote(one) for one in re.findall(pattern, self.log()[since:])]

    def blob_sizes(self) -> dict[str, int]:
        blobs = (self.root / "data/docker/registry/v2/blobs").glob("*/*/*/data")
        return {f"sha256:{path.parent.name}": path.stat().st_size for path in blobs}

    def path(self, digest: str) -> Path:
        one = digest.removeprefix("sha256:")
        return self.root / "data/docker/registry/v2/blobs/sha256" / one[:2] / one / "data"

    @contextmanager
    def damaged(self, digest: str) -> Iterator[None]:
        """One bit of what has this digest is another one; the registry does not know."""
        path = self.path(digest)
        good = path.read_bytes()
        middle = len(good) // 2
        path.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
        try:
            yield
        finally:
            path.write_bytes(good)

    def get(self, repository: str, path: str, method: str = "GET") -> tuple[bytes, Any] | None:
        request = urllib.request.Request(
            f"http://{self.host}/v2/{repository}/{path}", headers={"Accept": ACCEPT}, method=method
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def manifest(self, repository: str, reference: str) -> tuple[str, dict[str, Any]]:
        found = self.get(repository, f"manifests/{reference}")
        assert found, f"{reference} is not there"
        return found[1]["Docker-Content-Digest"], json.loads(found[0])

    def tags(self, repository: str) -> dict[str, str]:
        """Tag → digest, without what the registry lists and was killed before it wrote."""
        found = self.get(repository, "tags/list")
        names = json.loads(found[0])["tags"] or [] if found else []
        linked = [name for name in sorted(names) if self.get(repository, f"manifests/{name}")]
        return {name: self.manifest(repository, name)[0] for name in linked}

    def check(self, repository: str, finals: dict[str, set[str]]) -> None:
        """Every tag leads to something whole; one that people use to what it may be."""
        for tag, digest in self.tags(repository).items():
            document = self.whole(repository, digest)
            if not tag.startswith("tmp-"):
                assert digest in finals[tag], f"{tag} moved to something else"
                arches = [one["platform"]["architecture"] for one in document["manifests"]]
                assert arches == ["arm64", "amd64"]

    def whole(self, repository: str, digest: str) -> dict[str, Any]:
        _, document = self.manifest(repository, digest)
        for child in document.get("manifests", []):
            self.whole(repository, child["digest"])
        for blob in [*document.get("layers", []), *filter(None, [document.get("config")])]:
            assert self.get(repository, f"blobs/{blob['digest']}", "HEAD"), blob["digest"]
        return document


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    assert shutil.which("docker-registry"), "./setup.sh --dev installs it"
    made = Registry(tmp_path_factory.mktemp("registry"))
    made.start()
    try:
        yield made
    finally:
        made.kill()
        shutil.rmtree(made.root / "data", ignore_errors=True)


def _written(directory: Path, changed: str = "", tags: tuple[str, ...] = ("v1", "v1-a3")) -> Path:
    _, images, parts = small_release(directory, changed=changed, size=SIZE, tags=tags)
    what = {
        "images": [dataclasses.asdict(one) for one in images],
        "parts": [dataclasses.asdict(one) for one in parts],
    }
    (directory / "what.json").write_text(json.dumps(what))
    return directory


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with another layer `mooncake`."""
    return _written(tmp_path_factory.mktemp("changed"), changed="new")


def _publish(repository: str, directory: Path, *more: str) -> list[dict[str, str]]:
    process = Publishing(repository, str(directory), *more)
    out, err = process.end()
    assert process.exit_code == 0, err
    return list(json.loads(out))


@pytest.fixture(scope="module")
def final(registry: Registry, small: Path, changed: Path) -> tuple[list[str], dict[str, set[str]]]:
    """What `changed` has to be in the end, and all that a tag may be on the way there."""
    first = _publish(f"{registry.host}/model/vllm-ascend", small)
    second = _publish(f"{registry.host}/model/vllm-ascend", changed)
    allowed: dict[str, set[str]] = {}
    for one in (*first, *second):
        for tag in (one["tag"], one["immutable"]):
            allowed.setdefault(tag, set()).add(one["digest"])
    return [one["digest"] for one in second], allowed


def _seconds(registry: Registry, small: Path, name: str) -> float:
    began = time.monotonic()
    _publish(f"{registry.host}/{name}/vllm-ascend", small)
    return time.monotonic() - began


# ---- publish -------------------------------------------------------------------------------------


@pytest.mark.parametrize("types", ["oci", "docker"])
def test_the_engine_pulls_what_was_published(registry: Registry, small: Path, types: str) -> None:
    repository = f"{registry.host}/pull-{types}/vllm-ascend"
    done = _publish(repository, small, types)
    assert [one["action"] for one in done] == ["push", "push"]
    assert [one["action"] for one in _publish(repository, small, types)] == ["skip", "skip"]
    try:
        docker("pull", f"{repository}:v1-a3")
        shown = docker("image", "inspect", f"{repository}:v1-a3").stdout
        assert json.loads(shown)[0]["Architecture"] == NATIVE
    finally:
        remove(f"{repository}:v1-a3")


def test_the_client_is_killed(
    registry: Registry, small: Path, changed: Path, final: tuple[list[str], dict[str, set[str]]]
) -> None:
    """Over an older release, at random moments: no tag is partial or early, the end is the same."""
    digests, allowed = final
    dice, killed, moved = random.Random(1), 0, 0
    duration = _seconds(registry, small, "timed")
    for round in range(KILLS):
        name = f"client{round}/vllm-ascend"
        before = {one["tag"]: one["digest"] for one in _publish(f"{registry.host}/{name}", small)}
        process = Publishing(f"{registry.host}/{name}", str(changed))
        time.sleep(dice.uniform(0, duration * 0.7))
        process.kill()
        process.end()
        killed += process.exit_code == -9
        registry.check(name, allowed)
        moved += any(registry.tags(name)[tag] != digest for tag, digest in before.items())
        done = _publish(f"{registry.host}/{name}", changed)
        assert [one["digest"] for one in done] == digests
        registry.check(name, allowed)
        assert all(registry.tags(name)[one["tag"]] == one["digest"] for one in done)
        uploads = registry.uploaded(name)
        assert len(uploads) <= len(set(uploads)) + 8  # what was under way when it was killed
    print(f"{killed} of {KILLS} killed while at work, {moved} of them after a tag had moved")
    assert killed >= KILLS // 4


def test_the_registry_is_killed(
    registry: Registry, small: Path, final: tuple[list[str], dict[str, set[str]]]
) -> None:
    """It is back at once, or only when the client has given up."""
    _, allowed = final
    finals = [one["digest"] for one in _publish(f"{registry.host}/model2/vllm-ascend", small)]
    dice, failed = random.Random(2), 0
    duration = _seconds(registry, small, "timed2")
    for round in range(KILLS):
        name = f"server{round}/vllm-ascend"
        process = Publishing(f"{registry.host}/{name}", str(small))
        time.sleep(dice.uniform(0, duration * 0.8))
        registry.kill()
        if round % 2:
            process.wait()
        registry.start()
        _, err = process.end()
        failed += process.exit_code == 69
        assert process.exit_code in (0, 69), err
        assert "Traceback" not in err
        registry.check(name, allowed)
        done = _publish(f"{registry.host}/{name}", small)
        assert [one["digest"] for one in done] == finals
        registry.check(name, allowed)
    print(f"{failed} of {KILLS} gave up while the registry was away")
    assert failed


def test_nothing_changed(registry: Registry, small: Path) -> None:
    name = "unchanged/vllm-ascend"
    _publish(f"{registry.host}/{name}", small)
    since = len(registry.log())
    began = time.monotonic()
    done = _publish(f"{registry.host}/{name}", small)
    print(f"nothing changed: {(time.monotonic() - began) / len(done):.2f} s for each variant")
    assert [one["action"] for one in done] == ["skip", "skip"]
    assert registry.uploaded(name, since) == []
    assert not re.search(r'"(PUT|POST|PATCH) ', registry.log()[since:])


def test_one_layer_changed(registry: Registry, small: Path, changed: Path) -> None:
    name = "layer/vllm-ascend"
    _publish(f"{registry.host}/{name}", small)
    whole = sum(registry.blob_sizes()[digest] for digest in registry.uploaded(name))
    since = len(registry.log())
    done = _publish(f"{registry.host}/{name}", changed)
    sizes = {one: registry.blob_sizes()[one] for one in registry.uploaded(name, since)}
    layers = [size for size in sizes.values() if size > 2000]
    print(f"one layer changed: {sum(sizes.values())} bytes of {whole} uploaded")
    assert len(layers) == 1  # shared by both platforms and both architectures
    assert len(sizes) == 1 + 4  # and the configs that name it
    assert sum(sizes.values()) < SIZE * 1.01
    assert all(registry.tags(name)[one["tag"]] == one["digest"] for one in done)


# ---- credentials ---------------------------------------------------------------------------------


def _config(directory: Path, host: str, password: str) -> str:
    directory.mkdir(exist_ok=True)
    both = base64.b64encode(f"ci:{password}".encode()).decode()
    (directory / "config.json").write_text(json.dumps({"auths": {host: {"auth": both}}}))
    return str(directory)


def test_credentials_of_the_docker_configuration(small: Path, tmp_path: Path) -> None:
    closed = Registry(tmp_path / "closed", password=True)
    closed.start()
    try:
        where = f"{closed.host}/team/vllm-ascend"
        good = _config(tmp_path / "good", closed.host, "secret")
        process = Publishing(where, str(small), DOCKER_CONFIG=good)
        _, err = process.end()
        assert process.exit_code == 0, err
        for wrong in (_config(tmp_path / "wrong", closed.host, "other"), str(tmp_path)):
            process = Publishing(where, str(small), DOCKER_CONFIG=wrong)
            _, err = process.end()
            assert process.exit_code == 69
            assert "the registry refuses these credentials: 401 UNAUTHORIZED" in err
            assert f"docker login {closed.host}" in err
            assert "Traceback" not in err
    finally:
        closed.kill()


# ---- promote -------------------------------------------------------------------------------------


def test_promote_takes_everything_that_belongs_to_the_tag(
    registry: Registry, small: Path, tmp_path: Path
) -> None:
    other = Registry(tmp_path / "other")
    other.start()
    try:
        source = f"{registry.host}/staging/vllm-ascend"
        target = f"{other.host}/team/vllm-ascend"
        digest = {one["tag"]: one["digest"] for one in _publish(source, small)}["v1-a3"]
        arm = registry.manifest("staging/vllm-ascend", digest)[1]["manifests"][0]["digest"]
        document = b'{"spdxVersion": "SPDX-2.3"}'
        for subject, kind in ((digest, "example/signature"), (arm, "application/spdx+json")):
            attach(source, subject, kind, document)
        cosign = f"{digest.replace(':', '-')}.sig"
        push_artifact(f"{source}:{cosign}", "text/plain", document)

        answer = invoke("promote", f"{source}:v1-a3", target, "--format", "json")
        assert answer.returncode == 0, answer.stderr
        done = json.loads(answer.stdout)
        assert (done["digest"], done["moved"], done["referrers"]) == (digest, True, 3)
        assert set(other.tags("team/vllm-ascend")) == {
            "v1-a3", cosign, digest.replace(":", "-"), arm.replace(":", "-")
        }  # fmt: skip
        for there in other.tags("team/vllm-ascend").values():
            other.whole("team/vllm-ascend", there)
        for subject, kind in ((digest, "example/signature"), (arm, "application/spdx+json")):
            assert attached(target, subject) == [kind]

        since = len(other.log())
        again = invoke("promote", f"{source}:v1-a3", target, "--format", "json")
        assert again.returncode == 0, again.stderr
        assert (json.loads(again.stdout)["bytes"], json.loads(again.stdout)["moved"]) == (0, False)
        assert other.uploaded("team/vllm-ascend", since) == []
    finally:
        other.kill()


def test_promote_within_a_registry_mounts(registry: Registry, small: Path) -> None:
    source = f"{registry.host}/staging2/vllm-ascend"
    _publish(source, small)
    answer = invoke("promote", f"{source}:v1", f"{registry.host}/team2/vllm-ascend:stable")
    assert answer.returncode == 0, answer.stderr
    assert registry.uploaded("team2/vllm-ascend") == []
    assert "stable" in registry.tags("team2/vllm-ascend")


def test_promote_what_is_not_there(registry: Registry) -> None:
    answer = invoke("promote", f"{registry.host}/none/x:v1", f"{registry.host}/team/x")
    assert answer.returncode == 69
    assert answer.stderr == f"error: {registry.host}/none/x:v1: there is no such image\n"


@pytest.mark.parametrize("what", ["layer", "manifest"])
def test_promote_what_was_damaged_in_the_registry(
    registry: Registry, small: Path, what: str
) -> None:
    name = f"damaged-{what}/vllm-ascend"
    _publish(f"{registry.host}/{name}", small)
    _, index = registry.manifest(name, "v1")
    manifest = index["manifests"][0]["digest"]
    layer = registry.manifest(name, manifest)[1]["layers"][0]["digest"]
    damaged = {"layer": layer, "manifest": manifest}[what]
    with registry.damaged(damaged):
        target = f"127.0.0.1:{registry.port}/{name}-copy"
        answer = invoke("promote", f"{registry.host}/{name}:v1", target)
    assert answer.returncode == 65
    where = f"error: {registry.host}/{name}@{damaged}: the registry's copy has the digest sha256:"
    assert answer.stderr.splitlines()[-1].startswith(where)
    assert registry.tags(f"{name}-copy") == {}


# ---- prune ---------------------------------------------------------------------------------------


def test_prune_leaves_what_people_use(registry: Registry, small: Path, final: Any) -> None:
    name = "prune/vllm-ascend"
    where = f"{registry.host}/{name}"
    _publish(where, small)
    before = registry.tags(name)
    young, old = (
        f"tmp-{letter * 32}-arm64-{when:%Y%m%dT%H%M%SZ}"
        for letter, when in (
            ("a", datetime.now(timezone.utc)),
            ("b", datetime.now(timezone.utc) - timedelta(hours=25)),
        )
    )
    for tag in (young, old):
        push_artifact(f"{where}:{tag}", "example/part", annotations={"of": tag})
    shown = invoke("prune", "--registry", where, "--dry-run", "--format", "json")
    assert {one["tag"]: one["delete"] for one in json.loads(shown.stdout)} == {
        **{tag: True for tag in before if tag.startswith("tmp-")}, young: False, old: True
    }  # fmt: skip
    assert len(registry.tags(name)) == len(before) + 2

    answer = invoke("prune", "--registry", where)
    assert answer.returncode == 0, answer.stderr
    kept = {tag: digest for tag, digest in before.items() if not tag.startswith("tmp-")}
    after = registry.tags(name)
    assert {tag: after[tag] for tag in kept} == kept
    assert set(after) == {*kept, young}
    registry.check(name, {**final[1], **{tag: {digest} for tag, digest in kept.items()}})
    assert [one["action"] for one in _publish(where, small)] == ["skip", "skip"]


# ---- what BuildKit writes ------------------------------------------------------------------------


def test_what_buildkit_writes_is_published(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two architectures in one bake, with the label: layout, registry, engine."""
    monkeypatch.setattr(push, "LAYOUT", tmp_path / "oci")
    digest = "5" * 64
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    target = {
        "context": str(tmp_path),
        "platforms": ["linux/arm64", "linux/amd64"],
        "labels": {LABEL: digest},
        "attest": ["type=provenance,disabled=true"],
        "output": [push.output("zstd", True)],
    }
    made = bake({"image": target}, tmp_path / "bake", Progress())
    layout = Layout(push.LAYOUT)
    arches = layout.manifest(made["image"]["containerimage.digest"]).arches
    assert sorted(arches) == ["amd64", "arm64"]

    where = f"{registry.host}/buildkit/vllm-ascend"
    repository = HttpRepository(where)
    image = publish.Image("v1", Inputs(digest), ("arm64", "amd64"))
    steps = publish.plan(repository, [image], lambda _: arches, MEDIA_TYPES["oci"])
    (done,) = publish.Publisher(repository, layout, MEDIA_TYPES["oci"], print).publish(steps)
    try:
        docker("pull", f"{where}:{done.immutable_tag}")
        shown = json.loads(docker("image", "inspect", f"{where}:{done.immutable_tag}").stdout)[0]
        assert (shown["Config"]["Labels"][LABEL], shown["Architecture"]) == (digest, NATIVE)
    finally:
        remove(f"{where}:{done.immutable_tag}")


def test_the_plan_of_a_release(registry: Registry) -> None:
    where = ("publish", f"--registry={registry.host}/plan", "--platform=a3", "--base=stand-in")
    answer = invoke(*where, "--dry-run", "--format=json")
    assert answer.returncode == 0, answer.stderr
    steps = {step["tag"]: step for step in json.loads(answer.stdout)}
    assert steps["v0.13.0rc1-a3-standin"]["why"] == "not published yet"
    assert steps["v0.13.0rc1-a3-standin"]["arches"] == ["arm64", "amd64"]
    assert steps["v0.13.0rc1-openeuler-standin"]["action"] == "missing"
    tags = {f"v0.13.0rc1{platform}{os}" for platform in ("", "-a3") for os in ("", "-openeuler")}
    assert {*steps} == {f"{tag}-standin" for tag in tags}


def test_a_release_that_is_not_whole_is_refused_before_anything_is_built(
    registry: Registry,
) -> None:
    answer = invoke(
        *("publish", f"--registry={registry.host}/part", "--platform=a3", "--base=stand-in")
    )
    assert answer.returncode == 65
    lines = answer.stderr.splitlines()
    assert [line.partition(" (")[0] for line in lines if line.startswith("error: ")] == [
        f"error: {registry.host}/part/vllm-ascend:{tag}-standin: "
        "of release v0.13.0rc1 this is missing: arm64, amd64"
        for tag in (*("v0.13.0rc1", "v0.13.0rc1-openeuler", "v0.13.0rc1-a3-openeuler"),)
    ]
    assert registry.tags("part/vllm-ascend") == {}
