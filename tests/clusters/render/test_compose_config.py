"""Compose's own reading of the files: it accepts them, and every value arrives as it was."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from clusters.render import compose
from clusters.runtime.spec import specs
from tests.clusters.hand_made_clusters import pd


def config(path: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "compose", "-f", str(path), "config", *options]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})


def test_compose_reads_what_was_meant(tmp_path: Path) -> None:
    made = pd()
    read: dict[str, Any] = {}
    for name, text in compose.files(made).items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        answer = config(path, "--format", "json", SITE_KEY="a$b", HF_TOKEN="'t'")
        assert answer.returncode == 0, answer.stderr
        assert not answer.stderr
        read |= json.loads(answer.stdout)["services"]
    for name, spec in specs(made).items():
        secrets = {"VLLM_API_KEY": "a$b", "HF_TOKEN": "'t'"}
        given = {one.variable: secrets[one.variable] for one in spec.secrets}
        # `config` prints a file to be read again, with $ doubled once more
        environment = {k: v.replace("$$", "$") for k, v in read[name]["environment"].items()}
        assert environment == {**spec.env, **given}
        assert (read[name]["command"] or []) == list(spec.words)


def test_compose_refuses_to_start_without_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(compose.files(pd())["compose.node2.yaml"], encoding="utf-8")
    answer = config(path, "-q", HF_TOKEN="t")
    assert answer.returncode != 0
    assert "SITE_KEY" in answer.stderr
