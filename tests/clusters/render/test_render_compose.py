"""A cluster as Compose files: one a host, the same configuration as the docker run commands."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml

from clusters.deployment import Deployment
from clusters.model import Run
from clusters.render import compose
from clusters.runtime.options import COMPOSE, ENGINE, translate
from clusters.runtime.spec import specs
from common.errors import UserError
from tests import ROOT
from tests.clusters.hand_made_clusters import cluster, container, deployment, node, pd

GOLDEN = ROOT / "tests/clusters" / "golden" / "compose"


def services(made: Deployment, file: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(compose.files(made)[file])["services"]
    return document


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_the_files_of_a_cluster(node: str) -> None:
    made = compose.files(pd())
    assert sorted(made) == [f"compose.node{n}.yaml" for n in (1, 2, 3)]
    assert made[f"compose.{node}.yaml"] == (GOLDEN / f"compose.{node}.yaml").read_text()


def test_one_host_has_one_file() -> None:
    one = node("a")
    made = deployment(cluster((one,)), container(one), container(one, "qwen3-b"))
    assert list(services(made, "compose.yaml")) == ["qwen3-serve-0", "qwen3-b"]


def test_only_what_is_on_the_same_host_is_depended_on() -> None:
    assert services(pd(), "compose.node1.yaml")["qwen3-proxy"]["depends_on"] == ["qwen3-prefill-0"]


def test_text_stays_text() -> None:
    """What YAML 1.1, 1.2 or Compose itself would read as something else is quoted or escaped."""
    values = {"A": "1e3", "B": "on", "C": "0o17", "D": "$HOME ${X:-y}", "E": "a\nb\t'\"", "F": ""}
    one = node("a")
    made = deployment(cluster((one,), run=Run(restart="no")), container(one, env=values))
    service = services(made, "compose.yaml")["qwen3-serve-0"]
    assert service["restart"] == "no"
    expected = {**values, "D": "$$HOME $${X:-y}"}
    assert service["environment"] == expected
    for line in ('A: "1e3"', 'B: "on"', 'C: "0o17"'):
        assert line in compose.files(made)["compose.yaml"]


def test_a_missing_file_of_the_driver_is_no_empty_directory_afterwards() -> None:
    for service in services(pd(), "compose.node2.yaml").values():
        assert all(not one["bind"]["create_host_path"] for one in service["volumes"])


def test_the_start_of_every_container_is_that_of_the_docker_commands() -> None:
    made = pd()
    found = {
        name: service["labels"]
        for file in compose.files(made)
        for name, service in services(made, file).items()
    }
    assert found == {name: spec.labels for name, spec in specs(made).items()}


OPTIONS = shlex.split("""
--cap-add IPC_LOCK --cap-add=SYS_PTRACE --ulimit memlock=-1 --ulimit nofile=1024:2048
--cpus 1.5 -m 4g --device /dev/x:/dev/y:r --log-driver json-file --log-opt max-size=10m
--sysctl net.core.somaxconn=1024 --tmpfs /t:size=1g --privileged --init=false -v a:/b:ro
--label team=llm --oom-score-adj -500
""")


def test_options_as_compose_knows_them() -> None:
    assert translate(OPTIONS, COMPOSE, "options") == {
        "cap_add": ["IPC_LOCK", "SYS_PTRACE"],
        "ulimits": {"memlock": {"soft": -1, "hard": -1}, "nofile": {"soft": 1024, "hard": 2048}},
        "cpus": "1.5",
        "mem_limit": "4g",
        "devices": ["/dev/x:/dev/y:r"],
        "logging": {"driver": "json-file", "options": {"max-size": "10m"}},
        "sysctls": {"net.core.somaxconn": "1024"},
        "tmpfs": ["/t:size=1g"],
        "privileged": True,
        "init": False,
        "volumes": ["a:/b:ro"],
        "labels": {"team": "llm"},
        "oom_score_adj": -500,
    }


def test_options_as_the_engine_knows_them() -> None:
    device = {"PathOnHost": "/dev/x", "PathInContainer": "/dev/y", "CgroupPermissions": "r"}
    assert translate(OPTIONS, ENGINE, "options") == {
        "Labels": {"team": "llm"},
        "HostConfig": {
            "CapAdd": ["IPC_LOCK", "SYS_PTRACE"],
            "Ulimits": [
                {"Name": "memlock", "Soft": -1, "Hard": -1},
                {"Name": "nofile", "Soft": 1024, "Hard": 2048},
            ],
            "NanoCpus": 1_500_000_000,
            "Memory": 4 << 30,
            "Devices": [device],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
            "Sysctls": {"net.core.somaxconn": "1024"},
            "Tmpfs": {"/t": "size=1g"},
            "Privileged": True,
            "Init": False,
            "Binds": ["a:/b:ro"],
            "OomScoreAdj": -500,
        },
    }


def test_every_option_that_has_no_translation_is_told() -> None:
    text = "--cpu 3 --gpus all --ulimit nofile --cpus=many left --init=maybe --memory"
    with pytest.raises(UserError) as caught:
        translate(shlex.split(text), ENGINE, "f.yaml: options")
    assert caught.value.exit_code == 65
    assert [problem.message for problem in caught.value.findings] == [
        "'--cpu' has no translation",
        "'--gpus' has no translation",
        "--ulimit: 'nofile' is not a valid value",
        "--cpus: 'many' is not a valid value",
        "'left' has no translation",
        "--init: 'maybe' is not a valid value",
        "--memory has no value",
    ]
    assert "did you mean --cpus" in caught.value.findings[0].fix
