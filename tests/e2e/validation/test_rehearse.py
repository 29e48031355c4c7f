"""A whole cluster in containers: real entrypoint, real router, the recorded engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.e2e.conftest import Image, docker, invoke

pytestmark = pytest.mark.usefixtures("undisturbed")

EXAMPLES = ROOT / "clusters/examples"


def rehearse(image: Image, path: Path, out: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    page = str(out / "page.html")
    done = invoke(
        "rehearse", str(path), "--image", image.tag, "--format=json", "--out", page, *options
    )
    assert done.stdout, done.stderr[-3000:]
    return done.returncode, json.loads(done.stdout), done.stderr


def left(name: str) -> str:
    return docker("ps", "-aq", "--filter", f"label=ascend.rehearsal={name}").stdout


def example(folder: Path, name: str, new: str) -> Path:
    """An example under another name: a rehearsal ends an earlier one of its name."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    file = folder / "cluster.yaml"
    file.write_text(re.sub(r"(?m)^name: .*", f"name: {new}", text))
    return file


def test_prefill_and_decode_on_three_nodes(a3: Image, tmp_path: Path) -> None:
    code, report, said = rehearse(a3, example(tmp_path, "pd-3node", "pair"), tmp_path)
    assert code == 0, said[-3000:]
    states = {one["name"]: one["state"] for one in report["checks"]}
    assert set(states.values()) == {"ok"}
    (decode,) = [one["message"] for one in report["checks"] if "-decode at" in one["name"]]
    assert "of the prompts' tokens from prefill" in decode
    assert "Rehearsal of pair" in (tmp_path / "page.html").read_text()
    assert left("pair-rehearsal") == ""


def test_who_ends_is_named_and_nothing_is_left(a3: Image, tmp_path: Path) -> None:
    file = example(tmp_path, "single", "ends")
    text = file.read_text()
    file.write_text(text.replace("[node0]}", "[node0], command: [sh, -c, exit 3]}"))
    code, report, _ = rehearse(a3, file, tmp_path)
    assert code == 70
    assert "ends-rehearsal-serve-0: exit code 3" in report["failure"]
    assert left("ends-rehearsal") == ""


def test_a_group_of_two_nodes(a3: Image, tmp_path: Path) -> None:
    code, report, said = rehearse(a3, example(tmp_path, "multi-node", "group"), tmp_path)
    assert code == 0, said[-3000:]
    assert report["passed"]
