"""Mirrors and credentials: read from the usual variables, and kept out of every layer."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images import mirrors
from images.mirrors import Mirrors


@pytest.fixture(autouse=True)
def bare_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without certificates or a .netrc of its own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(mirrors, "HOST_CERTIFICATES", str(tmp_path / "no-certificates"))


def test_nothing_given_is_nothing_set() -> None:
    assert Mirrors.of({}) == Mirrors()


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("UV_DEFAULT_INDEX", "pip_index"),
        ("PIP_INDEX_URL", "pip_index"),
        ("TORCH_CPU_INDEX", "torch_index"),
        ("APT_MIRROR", "apt_mirror"),
        ("DNF_MIRROR", "dnf_mirror"),
        ("REGISTRY_MIRROR", "registry_mirror"),
    ],
)
def test_the_variables_people_already_set(variable: str, field: str) -> None:
    found = Mirrors.of({variable: "https://x.example"})
    fields: dict[str, Any] = {field: "https://x.example"}
    assert found == Mirrors(**fields)
    given = Mirrors.of({variable: "https://x.example"}, **{field: "https://given.example"})
    assert getattr(given, field) == "https://given.example"


@pytest.mark.parametrize("end", ["", "/", "/debian", "/debian/", "/ubuntu"])
def test_an_apt_mirror_is_given_with_or_without_its_archive(end: str) -> None:
    assert Mirrors.of({}, apt_mirror=f"https://m.example/apt{end}").apt_mirror == (
        "https://m.example/apt"
    )


def test_uvs_index_goes_before_pips() -> None:
    assert Mirrors.of(
        {"UV_DEFAULT_INDEX": "https://uv", "PIP_INDEX_URL": "https://pip"}
    ) == Mirrors(pip_index="https://uv")


def test_files_of_the_host_are_used_if_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, netrc = tmp_path / "bundle.crt", tmp_path / "home" / ".netrc"
    for path in (bundle, netrc):
        path.write_text("x")
    monkeypatch.setattr(mirrors, "HOST_CERTIFICATES", str(bundle))
    assert Mirrors.of({}) == Mirrors(certificates=str(bundle), netrc=str(netrc))
    own = tmp_path / "own.crt"
    own.write_text("x")
    assert Mirrors.of({"SSL_CERT_FILE": str(own), "NETRC": str(own)}) == Mirrors(
        certificates=str(own), netrc=str(own)
    )


def test_missing_files_are_told_at_once(problems_of: Callable[..., list[str]]) -> None:
    assert problems_of(
        lambda: Mirrors.of({"NETRC": "/none/netrc"}, certificates="/none/ca"), 64
    ) == [
        "--certificates: no such file: /none/ca",
        "--netrc: no such file: /none/netrc",
    ]


def test_proxies_are_taken_as_they_are_set() -> None:
    environ = {"https_proxy": "http://p:1", "NO_PROXY": "localhost", "http_proxy": "", "X": "y"}
    assert Mirrors.of(environ).proxies == (("https_proxy", "http://p:1"), ("NO_PROXY", "localhost"))


@pytest.mark.parametrize(
    ("mirror", "reference", "through"),
    [
        ("", "quay.io/ascend/cann:1", "quay.io/ascend/cann:1"),
        ("m.example", "quay.io/ascend/cann:1", "m.example/quay.io/ascend/cann:1"),
        ("m.example/proxy", "quay.io/ascend/cann:1", "m.example/proxy/quay.io/ascend/cann:1"),
        ("quay.io=m.example", "quay.io/ascend/cann:1", "m.example/ascend/cann:1"),
        ("quay.io=m.example:5000/q", "quay.io/ascend/cann:1", "m.example:5000/q/ascend/cann:1"),
        ("quay.io=m.example", "docker.io/library/ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
        ("quay.io=m.example", "quay.io.evil.example/cann:1", "quay.io.evil.example/cann:1"),
        *(
            pytest.param(
                *case,
            )
            for case in (
                ("m.example/", "quay.io/ascend/cann:1", "m.example/quay.io/ascend/cann:1"),
                ("quay.io=m.example/", "quay.io/ascend/cann:1", "m.example/ascend/cann:1"),
            )
        ),
    ],
)
def test_images_through_a_mirror(mirror: str, reference: str, through: str) -> None:
    assert Mirrors(registry_mirror=mirror).image(reference) == through


# ---- secrets -------------------------------------------------------------------------------------


def _sourced(path: Path) -> dict[str, str]:
    """What a stage's shell has after sourcing the file, as mirrors.sh does."""
    answer = subprocess.run(
        ["/bin/sh", "-c", 'set -a; . "$0"; env -0', str(path)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    pairs = (pair.partition("=") for pair in answer.stdout.decode().split("\0") if pair)
    return {name: value for name, _, value in pairs if name not in ("PATH", "PWD", "_", "OLDPWD")}


def test_the_secrets_hold_what_is_set(tmp_path: Path) -> None:
    one = Mirrors(
        pip_index="https://user:p$ss@index.example/simple",
        torch_index="https://torch.example/cpu",
        apt_mirror="https://apt.example",
        proxies=(("https_proxy", "http://proxy.example:3128"),),
        certificates="/etc/ca.crt",
    )
    entries = one.secrets(tmp_path / "secrets")
    assert entries == [f"id=mirrors,src={tmp_path}/secrets/mirrors", "id=ca,src=/etc/ca.crt"]
    assert _sourced(tmp_path / "secrets" / "mirrors") == {
        "PIP_INDEX_URL": "https://user:p$ss@index.example/simple",
        "UV_DEFAULT_INDEX": "https://user:p$ss@index.example/simple",
        "UV_INDEX": "https://torch.example/cpu",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "APT_MIRROR": "https://apt.example",
        "https_proxy": "http://proxy.example:3128",
    }


def test_without_a_torch_index_uv_keeps_its_strategy(tmp_path: Path) -> None:
    Mirrors(netrc="/home/me/.netrc").secrets(tmp_path)
    assert (tmp_path / "mirrors").read_text() == ""


@pytest.mark.parametrize("value", ["a b", "$(touch x)", "`id`", "a'b", 'a"b', "a\\b", "#x", "a;b"])
def test_a_shell_reads_a_value_as_it_was_given(tmp_path: Path, value: str) -> None:
    Mirrors(pip_index=value, dnf_mirror=value).secrets(tmp_path / "secrets")
    read = _sourced(tmp_path / "secrets" / "mirrors")
    assert (read["PIP_INDEX_URL"], read["DNF_MIRROR"]) == (value, value)
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["mirrors"]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_reads_the_secrets(tmp_path: Path) -> None:
    Mirrors(pip_index="https://user:secret@index.example").secrets(tmp_path)
    assert _mode(tmp_path / "mirrors") == 0o600


def test_only_the_owner_reads_secrets_that_were_there_before(tmp_path: Path) -> None:
    (tmp_path / "mirrors").write_text("PIP_INDEX_URL=old-and-much-longer-than-what-follows\n")
    (tmp_path / "mirrors").chmod(0o644)
    Mirrors(pip_index="x").secrets(tmp_path)
    assert _mode(tmp_path / "mirrors") == 0o600


def test_secrets_of_an_earlier_build_are_gone(tmp_path: Path) -> None:
    Mirrors(pip_index="https://user:secret@index.example", apt_mirror="x").secrets(tmp_path)
    Mirrors(apt_mirror="y").secrets(tmp_path)
    assert _sourced(tmp_path / "mirrors") == {"APT_MIRROR": "y"}
