"""What keeps a large cluster quick: nothing is read for each container anew."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks.clusters import large_cluster
from benchmarks.clusters.__main__ import check
from clusters.runtime.spec import specs
from entrypoints.inputs import data


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file under env/ is read."""
    counted: Counter[str] = Counter()
    real = data._read

    def read(path: str) -> Any:
        counted[path] += 1
        return real(path)

    monkeypatch.setattr(data, "_read", read)
    return counted


def test_the_benchmark_s_cluster_uses_its_nodes() -> None:
    for nodes in (41, 100):
        compiled = check(large_cluster.text(nodes))
        assert nodes - len({one.node.name for one in compiled.containers}) <= 1


def test_compiling_reads_every_file_once(reads: Counter[str]) -> None:
    text = large_cluster.text(41)
    check(text)
    few = Counter(reads)
    reads.clear()
    check(large_cluster.text(81))
    assert reads == few


def test_rendering_reads_every_file_once(reads: Counter[str]) -> None:
    compiled = check(large_cluster.text(41))
    reads.clear()
    specs(compiled)
    assert max(reads.values()) == 1
