"""What the package index says of a release: days, files, versions near one that is not there."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest

from common.errors import EX_UNAVAILABLE, UserError, user_error
from upstream import package_index
from upstream.bump import upload_dates
from upstream.package_index import File

PYLOCK = """\
lock-version = "1.0"
[[packages]]
name = "p"
version = "1.0"
sdist = { url = "https://x/p-1.0.tar.gz", upload-time = 2026-04-30T10:48:52Z, size = 1, hashes = \
{ sha256 = "aa" } }
wheels = [{ url = "https://x/p-1.0-py3-none-any.whl", upload-time = 2026-05-01T00:13:41Z, size = 1,\
 hashes = { sha256 = "bb" } }]
"""


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    package_index.files.cache_clear()
    yield
    package_index.files.cache_clear()


def file(day: str) -> File:
    return File("https://x/y.whl", "", datetime.datetime.fromisoformat(f"{day}T12:00:00+00:00"))


def test_the_files_of_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_index, "uv", lambda *_, stdin: PYLOCK if stdin == "p==1.0" else "")
    source, wheel = package_index.files("p", "1.0")
    assert (source.name, source.sha256) == ("p-1.0.tar.gz", "aa")
    assert wheel.name == "p-1.0-py3-none-any.whl"
    assert package_index.day_after((source, wheel)) == datetime.date(2026, 5, 2)


def test_a_wheel_that_came_much_later_moves_no_day() -> None:
    early, late = file("2026-05-01"), file("2026-06-01")
    assert package_index.day_after((late, early)) == datetime.date(2026, 5, 2)
    assert package_index.day_after(()) is None


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.5", ["1.0", "2.0", "3.0", "4.0"]), ("9", ["2.0", "3.0", "4.0"]), ("x", ["4.0"])],
)
def test_versions_near_one(version: str, expected: list[str]) -> None:
    assert package_index.near(version, ["4.0", "3.0", "2.0", "1.0"], 6)[: len(expected)] == expected


def test_pins_that_came_later_or_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    days = {"vllm-ascend": "2025-12-27", "torch": "2025-08-01", "triton-ascend": "2026-01-21"}

    def files(package: str, version: str) -> tuple[File, ...]:
        if package not in days:
            raise user_error(package, "no version", exit_code=EX_UNAVAILABLE)
        return (file(days[package]),)

    monkeypatch.setattr(upload_dates, "files", files)
    pins = {"torch": "2.8.0", "triton-ascend": "3.2.0", "torch-npu": "2.9.0.post1"}
    found = upload_dates.derive("0.13.0rc1", pins)
    assert {fact.key: fact.value for fact in found.derived.facts} == {
        "published": datetime.date(2025, 12, 28),
        "later": {"triton-ascend": datetime.date(2026, 1, 22)},
    }
    assert found.absent == {"torch-npu": "2.9.0.post1"}


def test_a_release_that_the_index_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def files(package: str, version: str) -> tuple[File, ...]:
        raise user_error(package, "no version", exit_code=EX_UNAVAILABLE)

    monkeypatch.setattr(upload_dates, "files", files)
    with pytest.raises(UserError):
        upload_dates.derive("9", {})
