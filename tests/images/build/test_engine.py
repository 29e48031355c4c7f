"""The manifests of an image in the engine: what it would push, with an engine made of a script."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from images.build import engine
from images.registry.oci import MEDIA_TYPES, Manifest, index

OCI = MEDIA_TYPES["oci"]
TAG = "vllm-ascend:x"
CONFIGS = {
    f"sha256:{hashlib.sha256(content.encode()).hexdigest()}": content
    for content in ("for arm64", "for amd64")
}
ARM, AMD = (
    Manifest.made(
        {
            "mediaType": OCI.manifest,
            "layers": [],
            "config": {"mediaType": OCI.config, "digest": digest, "size": len(content)},
        }
    )
    for digest, content in CONFIGS.items()
)
BOTH = index(OCI, {"arm64": ARM.descriptor, "amd64": AMD.descriptor}, {})

# As the engine pushes: TLS first, then whether blobs are there, children before what names them.
PUSH = """
import http.client, json, socket, sys
host, _, rest = sys.argv[1].partition("/")
name, _, tag = rest.partition(":")
with socket.create_connection(host.split(":")) as tls:
    tls.sendall(bytes([0x16, 3, 1, 0, 1, 0]) + bytes(8))
    assert tls.recv(100).startswith(b"HTTP/1.1 400 "), "does not say that it has no TLS"
registry = http.client.HTTPConnection(host)
def ask(method, path, body=None, kind=""):
    registry.request(method, f"/v2/{name}/{path}", body, {"Content-Type": kind})
    with registry.getresponse() as answer:
        answer.read()
        return answer.status
assert ask("HEAD", "blobs/sha256:1") == 200, "a layer would be sent"
codes = []
for digest, content in json.load(open(sys.argv[3])).items():
    if ask("HEAD", "blobs/" + digest) == 404:
        assert ask("POST", "blobs/uploads/") == 202
        assert ask("PUT", "blobs/uploads/?digest=" + digest, content.encode()) == 201
for one in json.load(open(sys.argv[2])):
    path = "manifests/" + (one["digest"] or tag)
    assert ask("HEAD", path) == 404
    codes.append(ask("PUT", path, one["body"].encode(), one["type"]))
sys.exit(0 if all(code == 201 for code in codes) else 1)
"""


@pytest.fixture
def pushes(docker: Any, tmp_path: Path) -> Any:
    """An engine that pushes these manifests, the last one by its tag."""

    def has(*manifests: Manifest) -> None:
        what = [
            {"digest": one.digest if one is not manifests[-1] else "",
             "body": one.body.decode(), "type": one.media_type}
            for one in manifests
        ]  # fmt: skip
        (tmp_path / "push.py").write_text(PUSH)
        (tmp_path / "what.json").write_text(json.dumps(what))
        (tmp_path / "blobs.json").write_text(json.dumps(CONFIGS))
        arguments = f'"$3" {tmp_path}/what.json {tmp_path}/blobs.json'
        run = f"{sys.executable} {tmp_path}/push.py {arguments} || exit 1"
        docker.answers(f"tag {TAG} 127.0.0.1:*")
        docker.answers("push --quiet 127.0.0.1:*", run=run)
        docker.answers("rmi 127.0.0.1:*")

    return has


def test_one_image(docker: Any, pushes: Any) -> None:
    pushes(ARM)
    assert engine.manifests(TAG, ARM.digest, "arm64") == {"arm64": ARM}
    tag, push, rmi = docker.calls()
    name = tag.rpartition(" ")[2]
    assert (push, rmi) == (f"push --quiet {name}", f"rmi {name}"), "it leaves a tag behind"


def test_an_image_of_two_architectures(pushes: Any) -> None:
    pushes(ARM, AMD, BOTH)
    assert engine.manifests(TAG, BOTH.digest, "arm64") == {"arm64": ARM, "amd64": AMD}


def test_all_documents_of_an_image(docker: Any, pushes: Any) -> None:
    pushes(ARM, AMD, BOTH)
    assert engine.documents(TAG) == {
        **{one.digest: one.body for one in (ARM, AMD, BOTH)},
        **{digest: content.encode() for digest, content in CONFIGS.items()},
    }
    assert [call.split()[0] for call in docker.calls()] == ["tag", "push", "rmi"] * 2


def test_another_image_than_the_one_that_was_built(pushes: Any) -> None:
    pushes(AMD)
    assert engine.manifests(TAG, ARM.digest, "arm64") == {}


def test_an_engine_that_does_not_reach_this_machine(docker: Any) -> None:
    docker.answers("tag *")
    docker.answers("push *", err="connection refused", code=1)
    docker.answers("rmi *")
    assert engine.manifests(TAG, ARM.digest, "arm64") == {}
    assert engine.documents(TAG) == {}
    assert docker.calls()[-1].startswith("rmi 127.0.0.1:")


@pytest.mark.usefixtures("no_docker")
def test_no_docker() -> None:
    assert engine.manifests(TAG, ARM.digest, "arm64") == {}
