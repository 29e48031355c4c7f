"""Which engine rehearses, on which image, with which model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from docker import APIClient
from docker.errors import NotFound

from clusters.file import read
from common.errors import EX_UNAVAILABLE, EX_USAGE, UserError
from tests import ROOT
from validation.rehearsal import cpu_rules, select_engine, tiny_model, vllm_engine
from validation.rehearsal.engine import Engine
from validation.rehearsal.parallel_sizes import Machine
from validation.rehearsal.rehearse import check_image

EXAMPLES = ROOT / "clusters/examples"
CLUSTER = read.read(EXAMPLES / "single.yaml").cluster
assert CLUSTER is not None


def chosen(name: str, image: str = "", model: str = "") -> Engine:
    assert CLUSTER
    return select_engine.select(name, CLUSTER, image, model)


def test_the_recorded_engine_takes_the_cluster_as_it_is() -> None:
    assert CLUSTER
    made = chosen("recorded")
    assert made.image == "vllm-ascend:v0.13.0rc1-a3-standin"
    assert made.build_command == "invoke build --platform a3 --release v0.13.0rc1 --base stand-in"
    assert made.translate(CLUSTER, Machine(1, 1.0))[0] is CLUSTER


def test_vllm_runs_in_the_image_of_platform_cpu_with_the_tiny_model() -> None:
    made = chosen("vllm")
    assert made.image == "vllm-ascend:v0.13.0rc1-cpu-vllm0.32.0"
    assert "invoke build --platform cpu --release v0.13.0rc1 --vllm 0.32.0" in made.build_command
    (mount,) = made.mounts
    assert mount.target == vllm_engine.MODEL
    assert (mount.source / tiny_model.WEIGHTS).is_file()
    assert made.timeout > chosen("recorded").timeout


def test_an_image_and_a_model_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    made = chosen("vllm", "some:image", str(tmp_path))
    assert (made.image, made.mounts[0].source) == ("some:image", tmp_path)
    assert CLUSTER
    cluster, said = made.translate(CLUSTER, Machine(2, 24.0))
    assert cluster.instances["serve"].settings["args"]["max-model-len"] == 512
    assert said[0] == f"every server has the model in {tmp_path}"


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("vlm", "", "did you mean vllm"),
        ("recorded", "tiny", "give --engine vllm"),
        ("vllm", "/nowhere", "/nowhere has no config.json"),
    ],
)
def test_a_wrong_choice_is_a_matter_of_usage(name: str, model: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        chosen(name, model=model)
    assert error.value.exit_code == EX_USAGE


class Images:
    """An engine with one image."""

    def __init__(self, name: str, **labels: str) -> None:
        self.name, self.labels = name, labels

    def inspect_image(self, name: str) -> dict[str, Any]:
        if name != self.name:
            raise NotFound("no such image")
        return {"Id": "sha256:1", "Config": {"Labels": self.labels}}


def test_the_image_has_to_be_there_and_to_hold_that_vllm() -> None:
    made = chosen("vllm", "some:image")
    right = {"ascend.platform": "cpu", "ascend.pin.vllm": "0.32.0"}
    check_image(cast(APIClient, Images("some:image", **right)), made)
    for have, code, said in (
        (Images("other:image"), EX_UNAVAILABLE, "build it with `invoke build --platform cpu"),
        (
            Images("some:image", **{**right, "ascend.pin.vllm": "0.13.0"}),
            EX_USAGE,
            "is 0.13.0, not",
        ),
        (Images("some:image"), EX_USAGE, "is missing, not cpu"),
    ):
        with pytest.raises(UserError, match=said) as error:
            check_image(cast(APIClient, have), made)
        assert error.value.exit_code == code


def test_without_a_lock_the_command_that_makes_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert CLUSTER
    monkeypatch.setattr("images.locking.cpu.locked", lambda pins: iter(()))
    with pytest.raises(UserError, match=r"invoke lock --vllm 0\.32\.0") as error:
        vllm_engine.select_variant(CLUSTER, cpu_rules.load())
    assert error.value.exit_code == EX_UNAVAILABLE
