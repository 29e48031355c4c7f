"""The model's files."""

from __future__ import annotations

import json

import pytest

from entrypoints.findings import Finding
from tests.entrypoints.preflight.conftest import Check, FakeMachine

SHARD = "/weights/model-00002-of-00002.safetensors"


def one(findings: list[Finding]) -> Finding:
    (found,) = findings
    return found


def test_complete(fake: FakeMachine, check: Check) -> None:
    found = one(check(fake, "weights"))
    assert (found.severity, found.message) == ("ok", "/weights: complete, 2 files")


def test_not_there(fake: FakeMachine, check: Check) -> None:
    found = one(check(fake, "weights", model="/data/none"))
    assert (found.severity, found.fix) == ("error", "give docker run -v /data/none:/data/none:ro")


def test_missing_shards_are_named(fake: FakeMachine, check: Check) -> None:
    fake.remove(SHARD)
    found = one(check(fake, "weights"))
    assert found.message == "/weights: missing model-00002-of-00002.safetensors"
    fake.remove("/weights/model.safetensors.index.json")
    assert one(check(fake, "weights")) == found


def test_one_of_two_forms_is_enough(fake: FakeMachine, check: Check) -> None:
    index = {"weight_map": {"w": "consolidated-00001-of-00001.safetensors"}}
    fake.write("/weights/consolidated.safetensors.index.json", json.dumps(index))
    assert one(check(fake, "weights")).severity == "ok"


def test_pointers_of_git_lfs(fake: FakeMachine, check: Check) -> None:
    fake.write(SHARD, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    found = one(check(fake, "weights"))
    assert found.severity == "error"
    assert "git-lfs instead of files: model-00002" in found.message


def test_cut_short(fake: FakeMachine, check: Check) -> None:
    content = fake.path(SHARD).read_bytes()
    for length in (0, 4, 20, len(content) - 1):
        fake.write(SHARD, content[:length])
        assert "cut short: model-00002" in one(check(fake, "weights")).message


def test_several_problems_at_once(fake: FakeMachine, check: Check) -> None:
    fake.remove("/weights/config.json")
    fake.remove(SHARD)
    fake.closed = {"/weights/model-00001-of-00002.safetensors"}
    message = one(check(fake, "weights")).message
    for words in ("no config.json", "missing model-00002", "not readable for this user: model-0"):
        assert words in message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 1}', "\xff", "[" * 100000])
def test_a_broken_index(fake: FakeMachine, check: Check, text: str) -> None:
    fake.write("/weights/model.safetensors.index.json", text)
    assert "is not an index" in one(check(fake, "weights")).message


def test_no_weights(fake: FakeMachine, check: Check) -> None:
    fake.write("/empty/config.json", "{}")
    assert "no weights" in one(check(fake, "weights", model="/empty")).message


HUB = "/root/.cache/huggingface/hub/models--org--name"


def test_cached_from_the_hub(fake: FakeMachine, check: Check) -> None:
    fake.weights(f"{HUB}/snapshots/1", 1)
    fake.weights(f"{HUB}/snapshots/2", 2)
    for commit in ("1", "2"):
        fake.write(f"{HUB}/refs/main", commit)
        found = one(check(fake, "weights", model="org/name"))
        assert found.message == f"{HUB}/snapshots/{commit}: complete, {commit} files"


def test_a_link_to_nothing_in_the_cache(fake: FakeMachine, check: Check) -> None:
    fake.weights(f"{HUB}/snapshots/new", 1)
    fake.remove(f"{HUB}/snapshots/new/config.json")
    fake.path(f"{HUB}/snapshots/new/config.json").symlink_to("../../blobs/0")
    assert "links to nothing" in one(check(fake, "weights", model="org/name")).message


def test_to_be_downloaded(fake: FakeMachine, check: Check) -> None:
    found = one(check(fake, "weights", model="org/name"))
    assert found.severity == "warning"
    assert "50 GiB are free in /root/.cache/huggingface/hub" in found.message


def test_offline(fake: FakeMachine, check: Check) -> None:
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": "/cache"}
    found = one(check(fake, "weights", model="org/name", env=env))
    assert found.severity == "error"
    assert "not in /cache/hub; HF_HUB_OFFLINE forbids" in found.message


@pytest.mark.parametrize("folder", ["models/org/na___me", "org/na___me", "hub/org/na.me"])
def test_modelscope(fake: FakeMachine, check: Check, folder: str) -> None:
    env = {"VLLM_USE_MODELSCOPE": "true", "MODELSCOPE_CACHE": "/ms", "HF_HUB_OFFLINE": "1"}
    assert one(check(fake, "weights", model="org/na.me", env=env)).severity == "warning"
    fake.weights(f"/ms/{folder}", 1)
    assert one(check(fake, "weights", model="org/na.me", env=env)).severity == "ok"


def test_nothing_to_look_at(fake: FakeMachine, check: Check) -> None:
    assert one(check(fake, "weights", model="")).severity == "skipped"
    assert one(check(fake, "weights", model="s3://bucket/model")).severity == "skipped"
