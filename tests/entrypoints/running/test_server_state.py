"""The note for `health`: written, read, and not taken for that of another run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entrypoints.running import procfs, server_state
from entrypoints.running.server_state import Backend, ServerState

OWN = ServerState(
    role="proxy",
    kind="proxy",
    port=12347,
    backends=(Backend("prefill", "10.0.0.1", 8000),),
    pid=os.getpid(),
    born=procfs.started(os.getpid()) or 0,
    started_at=1.5,
)


def test_there_and_back(tmp_path: Path) -> None:
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert server_state.load(folders) is None
    server_state.save(OWN, folders)
    assert server_state.load(folders) == OWN
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["launch.json"]


def test_the_next_folder_when_the_first_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folders = [str(tmp_path / "file"), str(tmp_path / "b")]
    server_state.save(OWN, folders)
    server_state.mark_ready(OWN, folders)
    assert server_state.load(folders) == OWN
    assert server_state.was_ready(OWN, folders)


def test_without_any_folder_there_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folders = [str(tmp_path / "file")]
    server_state.save(OWN, folders)
    server_state.mark_ready(OWN, folders)
    assert server_state.load(folders) is None
    assert not server_state.was_ready(OWN, folders)


def test_a_note_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    """docker restart keeps files, and the server often gets the same PID."""
    folders = [str(tmp_path)]
    earlier = OWN._replace(born=OWN.born - 1)
    server_state.save(earlier, folders)
    server_state.mark_ready(earlier, folders)
    assert server_state.load(folders) is None
    assert not server_state.was_ready(OWN, folders)
    server_state.mark_ready(OWN, folders)
    assert server_state.was_ready(OWN, folders)
    assert not server_state.was_ready(earlier, folders)


def test_a_process_that_has_ended(tmp_path: Path) -> None:
    server_state.save(OWN._replace(pid=2**22 + 1), [str(tmp_path)])
    assert server_state.load([str(tmp_path)]) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"backends": 3}', '{"backends": [], "x": 1}']
)
def test_a_file_of_somebody_else(text: str, tmp_path: Path) -> None:
    Path(tmp_path / "launch.json").write_text(text)
    assert server_state.load([str(tmp_path)]) is None
