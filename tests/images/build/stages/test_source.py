"""Files out of a source distribution: those that match, flat, whatever else is in it."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from images.build.stages import source

PATTERN = "examples/pd/load_balance_proxy*_server_example.py"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "vllm_ascend-0.1.tar.gz"
    files = {
        "examples/pd/load_balance_proxy_server_example.py": "proxy",
        "examples/pd/load_balance_proxy_layerwise_server_example.py": "layerwise",
        "examples/pd/README.md": "no proxy",
        "examples/load_balance_proxy_server_example.py": "elsewhere",
    }
    with tarfile.open(path, "w:gz") as members:
        for name, text in files.items():
            member = tarfile.TarInfo(f"vllm_ascend-0.1/{name}")
            member.size, member.mode = len(text), 0o755
            members.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("vllm_ascend-0.1/examples/pd/load_balance_proxy_x_server_example.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        members.addfile(link)
    return path


def test_files_that_match_are_taken(archive: Path, tmp_path: Path) -> None:
    names = source.extract(archive, PATTERN, tmp_path / "a/b")
    assert {path.name: path.read_text() for path in (tmp_path / "a/b").iterdir()} == {
        "load_balance_proxy_layerwise_server_example.py": "layerwise",
        "load_balance_proxy_server_example.py": "proxy",
    }
    assert names == sorted(path.name for path in (tmp_path / "a/b").iterdir())
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a/b").iterdir()} == {0o644}


def test_a_release_without_them_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no examples/other"):
        source.extract(archive, "examples/other*", tmp_path / "out")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with one source distribution, which pip takes instead of an index."""
    archive = tmp_path / "index" / "thing-1.0.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as members:
        text = b"from setuptools import setup\nsetup(name='thing', version='1.0')\n"
        member = tarfile.TarInfo("thing-1.0/setup.py")
        member.size = len(text)
        members.addfile(member, io.BytesIO(text))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    return archive


def test_pip_takes_what_is_pinned(index: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(index.read_bytes()).hexdigest()
    (tmp_path / "pins.txt").write_text(f"thing==1.0 --hash=sha256:{digest}\n")
    found = source.download(tmp_path / "pins.txt", tmp_path / "out")
    assert found.read_bytes() == index.read_bytes()


@pytest.mark.usefixtures("index")
def test_pip_takes_nothing_of_another_hash(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pins.txt").write_text(f"thing==1.0 --hash=sha256:{64 * 'a'}\n")
    with pytest.raises(subprocess.CalledProcessError):
        source.download(tmp_path / "pins.txt", tmp_path / "out")
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert not [*tmp_path.glob("out/*")]
