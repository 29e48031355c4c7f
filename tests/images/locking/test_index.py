"""Where wheels are found, and what is downloaded from the package index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import EX_UNAVAILABLE
from images.locking import index
from images.locking.index import Wheels


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes, str], None]:
    """An index that has one source distribution, with the hash that it states."""

    def make(content: bytes, stated: str) -> None:
        file = tmp_path / "sdist.tar.gz"
        file.write_bytes(content)
        answer = (
            f'sdist = {{ url = "{file.as_uri()}", size = 1, hashes = {{ sha256 = "{stated}" }} }}'
        )
        monkeypatch.setattr(index, "uv", lambda *_, **__: f"[[packages]]\n{answer}\n")

    monkeypatch.setattr(index, "DOWNLOADS", tmp_path / "build")
    return make


def test_a_source_distribution_is_held_to_its_hash(
    served: Callable[[bytes, str], None], problems_of: Callable[..., list[str]]
) -> None:
    served(b"good", hashlib.sha256(b"other").hexdigest())
    (line,) = problems_of(lambda: index.source_distribution("p", "1"), EX_UNAVAILABLE)
    assert line == "p 1: has another hash than the index states"

    served(b"good", hashlib.sha256(b"good").hexdigest())
    archive = index.source_distribution("p", "1")
    assert archive.read_bytes() == b"good"
    served(b"changed", 64 * "0")
    assert index.source_distribution("p", "1") == archive  # kept: nothing is asked again


def test_an_index_without_a_source_distribution(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problems_of: Callable[..., list[str]]
) -> None:
    monkeypatch.setattr(index, "DOWNLOADS", tmp_path)
    monkeypatch.setattr(index, "uv", lambda *_, **__: '[[packages]]\nname = "p"\nwheels = []\n')
    (line,) = problems_of(lambda: index.source_distribution("p", "1"), EX_UNAVAILABLE)
    assert "no source distribution" in line


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({}, []),
        ({"PIP_FIND_LINKS": "/a /b"}, ["--find-links=/a", "--find-links=/b"]),
        (
            {"UV_FIND_LINKS": "/u,/v", "PIP_FIND_LINKS": "/a"},
            ["--find-links=/u", "--find-links=/v"],
        ),
    ],
)
def test_where_wheels_lie(environ: dict[str, str], options: list[str]) -> None:
    assert Wheels.of(environ).options() == options
    assert Wheels.of(environ, "/mine").options() == ["--find-links=/mine"]
    with_index = Wheels.of({**environ, "TORCH_CPU_INDEX": "https://t"}).options()
    assert with_index[: len(options)] == options
    assert with_index[len(options) :][:2] == ["--index", "https://t"]
