"""Faults of a cluster in containers: what clients see of them, through both proxies and under Ray.

One of each kind that matters; `invoke rehearse clusters/examples/pd-3node.yaml --faults` does all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Image, invoke
from tests.e2e.validation.test_rehearse import EXAMPLES, left, rehearse

pytestmark = pytest.mark.usefixtures("undisturbed")

PAIR = (EXAMPLES / "pd-3node.yaml").read_text()
RAY = """\
name: ray-faults
release: v0.13.0rc1
platform: a3
nic: eth0
recipe: qwen3-235b-a22b/ray
sizes: {tp: 16, pp: 2}   # more than one node has
nodes: {node0: 10.0.0.1, node1: 10.0.0.2}
instances:
  serve: {nodes: [node0, node1]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return path


def faults(report: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {(one["kind"], *one["whom"]): one for one in report["faults"]}


def test_no_request_hangs_and_none_is_answered_with_nothing(a3: Image, tmp_path: Path) -> None:
    file = written(tmp_path, PAIR.replace("name: qwen3-pd", "name: pd-faults"))
    names = ("killed", "frozen:decode-0", "isolated:node2", "severed:node1:node2")
    options = [word for name in names for word in ("--fault", name)]
    code, report, said = rehearse(a3, file, tmp_path, *options)
    found = faults(report)
    assert list(found) == [
        *(("killed", one) for one in ("prefill-0", "decode-0", "decode-1", "proxy")),
        ("frozen", "decode-0"),
        ("isolated", "node2"),
        ("severed", "node1", "node2"),
    ]
    for name, one in found.items():
        assert (one["hung"], one["empty"], one["wrong"], one["helped"]) == (0, 0, 0, []), name
        assert one["after"] is not None, name
        assert one["good"], name
        assert one["sent"] >= 6, name
        assert bool(one["failed"]) == (one["kind"] == "killed"), name
    # What was frozen or cut off answers late, and not before it is back.
    for fault, seconds in (("frozen", 5), ("isolated", 6), ("severed", 6)):
        (one,) = [one for kind, one in found.items() if kind[0] == fault]
        assert one["after"] >= seconds
    assert code == 0, said[-3000:]
    page = (tmp_path / "page.html").read_text()
    assert "<td>node1 and node2: severed from each other for 6 s</td>" in page
    assert left("pd-faults-rehearsal") == ""


def test_what_the_example_of_upstream_does_is_not_hidden(a3: Image, tmp_path: Path) -> None:
    text = PAIR.replace("name: qwen3-pd", "name: example-faults")
    text = text.replace("{node: node1, port", "{node: node1, kind: example, port")
    file = written(tmp_path, text)
    code, report, said = rehearse(a3, file, tmp_path, "--fault", "killed:decode-1")
    assert code == 70
    (one,) = report["faults"]
    assert one["empty"] > 0
    assert one["statuses"]["200 and nothing"] == one["empty"]
    assert not one["good"]
    assert one["after"] is not None
    assert "with 200 and nothing" in said


def test_the_head_of_ray_dies_and_comes_back(a3: Image, tmp_path: Path) -> None:
    file = written(tmp_path, RAY)
    code, report, said = rehearse(a3, file, tmp_path, "--fault", "killed:ray-head")
    assert {one["state"] for one in report["checks"]} == {"ok"}
    (one,) = report["faults"]
    assert one["fault"] == "serve-0 (ray-head): killed"
    assert one["failed"] > 0
    assert (one["hung"], one["empty"], one["wrong"], one["helped"]) == (0, 0, 0, [])
    assert one["after"] is not None
    assert code == 0, said[-3000:]


def test_a_fault_that_is_none_is_refused_before_anything_starts(a3: Image, tmp_path: Path) -> None:
    file = written(tmp_path, PAIR.replace("name: qwen3-pd", "name: no-fault"))
    done = invoke("rehearse", str(file), "--image", a3.tag, "--fault", "kiled", "--fault", "node9")
    assert done.returncode == 64
    assert "--fault kiled: 'kiled' is unknown (did you mean killed? known: " in done.stderr
    assert "--fault node9: 'node9' is unknown" in done.stderr
    assert "Traceback" not in done.stderr
    assert left("no-fault-rehearsal") == ""
