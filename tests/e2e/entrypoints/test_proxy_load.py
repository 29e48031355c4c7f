"""benchmarks/proxy for a few seconds: no error, and both hops for each request. No speed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.proxy import __main__ as benchmark
from benchmarks.proxy.cases import EXAMPLE, NONE, ROUTER, Way
from benchmarks.proxy.testbed import Processors, Target, open_testbed
from tests import ROOT
from tests.e2e.conftest import Image


def test_both_proxies_under_load(a3: Image, tmp_path: Path) -> None:
    assert shutil.which("wrk"), "./setup.sh --dev installs it"
    out = tmp_path / "proxy.json"
    short = [
        "--rounds=1",
        "--patience=0",
        "--seconds=1",
        "--sizes=100",
        "--connections=8",
        f"--out={out}",
    ]
    command = [sys.executable, "-m", "benchmarks.proxy", a3.tag, *short]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # 1: a target is missed, as on a loaded machine
    found = json.loads(out.read_text())
    assert found["wrong"] == []
    served = {(one["way"], one["case"]["stream"]): one["served"] for one in found["samples"]}
    assert served.keys() == {(way, s) for way in (NONE, ROUTER, EXAMPLE) for s in (False, True)}
    assert min(served.values()) > 0


def test_a_client_that_leaves_out_a_hop_is_found(a3: Image) -> None:
    with open_testbed(a3.tag, Processors.split(sorted(os.sched_getaffinity(0)), 1)) as its:
        its.wait(Target(its.servers, two=True))
        assert benchmark.check(its, Way(NONE), Target(its.servers, two=True)) == []
        wrong = benchmark.check(its, Way(NONE), Target(its.servers, two=False))
    assert f"none: {benchmark.CHECKED} requests were 0 prefills and 0 decodes" in wrong
    assert f"none: refused by a server: {benchmark.CHECKED}" in wrong
