"""build --push: what a registry gets of the layout, and what is said when it gets nothing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from images.build import push
from images.registry import client
from images.registry.oci import Layout, Manifest
from tests.images.publish.publish_fakes import OCI, FakeRegistry, Killed, small_release

TAG = "registry.example.com/team/vllm-ascend:v1"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    made = FakeRegistry()

    def repository(name: str, *, certificates: str, say: Any) -> FakeRegistry:
        assert (name, certificates) == (made.name, "ca.pem")
        return made

    monkeypatch.setattr(client, "HttpRepository", repository)
    return made


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two indexes in the layout, which share most layers."""
    layout, _, parts = small_release(tmp_path / "oci")
    monkeypatch.setattr(push, "LAYOUT", layout.directory)
    made = []
    for tag in ("v1", "v1-a3"):
        entries = [layout.manifest(part.digest).descriptor.raw for part in parts if part.tag == tag]
        index = Manifest.made({"schemaVersion": 2, "mediaType": OCI.index, "manifests": entries})
        layout.path(index.digest).write_bytes(index.body)
        made.append(index.digest)
    return made


def pushed(digest: str, tag: str = TAG) -> list[str]:
    said: list[str] = []
    push.push(digest, tag, "ca.pem", said.append)
    return said


def test_the_tag_moves_when_all_is_there(registry: FakeRegistry, images: list[str]) -> None:
    said = pushed(images[0])
    assert registry.tagged == {"v1": images[0]}
    puts = [line for line in registry.log if line.startswith("put")]
    assert puts[-1] == "put v1"
    assert len(puts) == 3
    assert registry.log.index(puts[0]) > registry.log.index(registry.uploads()[-1])
    assert said[-1].startswith("pushed sha256:")
    assert push.resolve(TAG, "ca.pem") == images[0]


def test_what_is_there_is_not_sent_again(registry: FakeRegistry, images: list[str]) -> None:
    pushed(images[0])
    before = len(registry.uploads())
    pushed(images[1], f"{TAG}-a3")
    assert len(registry.uploads()) - before == 3, "the platform's layer and two configurations"
    assert pushed(images[1], f"{TAG}-a3") == []
    assert registry.tagged == {"v1": images[0], "v1-a3": images[1]}


def test_interrupted_anywhere_no_tag_leads_to_less(
    registry: FakeRegistry, images: list[str]
) -> None:
    pushed(images[0])
    for left in range(0, 40, 3):
        registry.left = left
        with suppress(Killed):
            pushed(images[1])
        registry.left = None
        whole = registry.manifests[registry.tagged["v1"]]
        assert list(registry.lacks(whole)) == []


def test_a_layout_that_lost_a_blob(registry: FakeRegistry, images: list[str]) -> None:
    layout = Layout(push.LAYOUT)
    lost = layout.family(images[0])[0].blobs[1]
    layout.path(lost.digest).unlink()
    with pytest.raises(UserError, match="cannot be read: No such file") as raised:
        pushed(images[0])
    assert raised.value.exit_code == 65
    assert registry.tagged == {}


def test_no_registry(images: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for tag, code, words in (
        ("localhost:1/vllm-ascend:v1", 69, "localhost:1/vllm-ascend: does not answer: connection"),
        ("vllm-ascend:v1", 64, "--registry: 'vllm-ascend:v1'"),
    ):
        with pytest.raises(UserError, match=words) as raised:
            pushed(images[0], tag)
        assert raised.value.exit_code == code
        assert push.resolve(tag, "") == ""


def test_only_what_was_pushed_is_kept(images: list[str]) -> None:
    layout = Layout(push.LAYOUT)
    (push.LAYOUT / "blobs" / "sha256" / "stray").write_text("of an older build")
    (push.LAYOUT / "index.json").write_text("{}")
    push.prune_layout(images[:1])
    names = {path.name for path in (push.LAYOUT / "blobs" / "sha256").iterdir()}
    wanted: dict[str, Any] = {one.digest: one for one in layout.family(images[0])}
    wanted |= {blob.digest: blob for one in layout.family(images[0]) for blob in one.blobs}
    assert {f"sha256:{name}" for name in names} == set(wanted)
    assert not (push.LAYOUT / "index.json").exists()
