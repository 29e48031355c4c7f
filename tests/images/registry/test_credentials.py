"""Credentials go to the registry that they are for, whatever address an answer names."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from common.errors import UserError
from images.registry.client import HttpRepository, bytes_source
from images.registry.oci import Descriptor
from tests.images.publish.publish_fakes import sha256

HOST = "registry.example.com"
HOME = f"https://{HOST}/v2/team/x"
ELSEWHERE = [
    "https://storage.example.org/u",
    f"https://{HOST}:8443/u",
    f"https://{HOST}.example.org/u",
    f"https://{HOST}@example.org/u",
    "//storage.example.org/u",
]
PLAIN = [f"http://{HOST}/u", f"http://{HOST}:443/u", "http://storage.example.org/u"]
CONTENT = b"some layer"
BLOB = Descriptor("application/octet-stream", sha256(CONTENT), len(CONTENT))
BASIC = "Basic " + base64.b64encode(b"ci:secret").decode()

Answer = tuple[int, Mapping[str, str], bytes]


class Network(BaseAdapter):
    """Every host there is: answers by `rules`, and notes who got which credentials."""

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[Callable[[str, str], Answer | None]] = []
        self.seen: list[tuple[str, str, str]] = []  # method, address, Authorization
        self.bodies: list[str] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        method, address = str(request.method), str(request.url)
        given = str(request.headers.get("Authorization", ""))
        self.seen.append((method, address, given))
        body = request.body
        read = getattr(body, "read", None)
        self.bodies.append(str(read() if read else body))
        status, headers, content = 404, {}, b""
        found = next((one for rule in self.rules if (one := rule(method, address))), None)
        if found:
            status, headers, content = found[0], dict(found[1]), found[2]
        elif address.startswith("https://registry.example.com/") and given != BASIC:
            status, headers = 401, {"WWW-Authenticate": 'Basic realm="x"'}
        made = requests.Response()
        made.status_code, made.url, made.request = status, address, request
        made.headers.update(headers)
        made.raw = HTTPResponse(io.BytesIO(content), headers, status, preload_content=False)
        return made

    def close(self) -> None:
        pass

    def leaked(self) -> list[tuple[str, str, str]]:
        return [one for one in self.seen if one[2] and not one[1].startswith(f"https://{HOST}/")]

    def at(self, start: str) -> list[str]:
        return [address for _, address, _ in self.seen if address.startswith(start)]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def repository(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HttpRepository:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    _login(tmp_path, {"auth": base64.b64encode(b"ci:secret").decode()})
    made = HttpRepository(f"{HOST}/team/x", pauses=(0.01,))
    made.transport.session.mount("https://", network)
    made.transport.session.mount("http://", network)
    return made


def _login(directory: Path, entry: Mapping[str, str]) -> None:
    (directory / "config.json").write_text(json.dumps({"auths": {HOST: entry}}))


def _refused(function: Callable[[], object]) -> str:
    with pytest.raises(UserError) as raised:
        function()
    assert raised.value.exit_code == 69
    (finding,) = raised.value.findings
    return str(finding)


def when(method: str, address: str, answer: Answer) -> Callable[[str, str], Answer | None]:
    """The answer to requests whose address starts so."""
    return lambda asked, at: answer if (asked, at[: len(address)]) == (method, address) else None


def _authorized(network: Network, method: str, address: str, answer: Answer) -> None:
    """The answer to a request that has the credentials."""

    def rule(asked: str, at: str) -> Answer | None:
        given = network.seen[-1][2]
        return answer if asked == method and at.startswith(address) and given == BASIC else None

    network.rules.append(rule)


@pytest.mark.parametrize("place", ELSEWHERE)
def test_an_upload_elsewhere_has_no_credentials(
    network: Network, repository: HttpRepository, place: str
) -> None:
    _authorized(network, "POST", f"{HOME}/blobs/uploads/", (202, {"Location": place}, b""))
    network.rules.append(lambda method, _: (201, {}, b"") if method == "PUT" else None)
    repository.push_blob(BLOB, bytes_source(CONTENT))
    assert network.leaked() == []
    assert [method for method, *_ in network.seen] == ["POST", "POST", "PUT"]


@pytest.mark.parametrize("place", ELSEWHERE)
def test_another_page_elsewhere_has_no_credentials(
    network: Network, repository: HttpRepository, place: str
) -> None:
    following = {"Link": f'<{place}>; rel="next"'}
    _authorized(network, "GET", f"{HOME}/tags/list", (200, following, b'{"tags": ["a"]}'))
    network.rules.append(lambda _, at: (200, {}, b'{"tags": ["b"]}') if at.endswith("/u") else None)
    assert repository.tags() == ["a", "b"]
    assert network.leaked() == []


@pytest.mark.parametrize("place", ELSEWHERE)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_blob_elsewhere_has_no_credentials(
    network: Network, repository: HttpRepository, place: str, code: int
) -> None:
    _authorized(network, "GET", f"{HOME}/blobs/", (code, {"Location": place}, b""))
    network.rules.append(lambda _, at: (200, {}, CONTENT) if at.endswith("/u") else None)
    with repository.open_blob(BLOB.digest) as file:
        assert file.read() == CONTENT
    assert network.leaked() == []


@pytest.mark.parametrize("place", PLAIN)
def test_no_way_leads_to_plain_http(
    network: Network, repository: HttpRepository, place: str
) -> None:
    moved = {"Location": place}
    _authorized(network, "POST", f"{HOME}/blobs/uploads/", (202, moved, b""))
    following = {"Link": f'<{place}>; rel="next"'}
    _authorized(network, "GET", f"{HOME}/tags/list", (200, following, b'{"tags": ["a"]}'))
    _authorized(network, "GET", f"{HOME}/manifests/v1", (307, moved, b""))
    for attempt, asked in (
        (lambda: repository.push_blob(BLOB, bytes_source(CONTENT)), f"{HOME}/blobs/uploads/"),
        (repository.tags, f"{HOME}/tags/list?n=1000"),
        (lambda: repository.manifest("v1"), f"{HOME}/manifests/v1"),
    ):
        words = _refused(attempt)
        assert f"{asked} leads to {place}" in words
        assert "HTTPS" in words
    assert network.at("http://") == []


def test_a_challenge_from_elsewhere_is_not_answered(
    network: Network, repository: HttpRepository
) -> None:
    place = ELSEWHERE[0]
    _authorized(network, "GET", f"{HOME}/manifests/v1", (307, {"Location": place}, b""))
    network.rules.append(when("GET", place, (401, {"WWW-Authenticate": "Basic realm=x"}, b"")))
    assert "401" in _refused(lambda: repository.manifest("v1"))
    assert network.leaked() == []


def test_a_redirect_home_is_followed_with_credentials(
    network: Network, repository: HttpRepository
) -> None:
    moved = {"Location": "/v2/team/x/manifests/v2"}
    _authorized(network, "HEAD", f"{HOME}/manifests/v1", (307, moved, b""))
    digest = {"Docker-Content-Digest": BLOB.digest}
    _authorized(network, "HEAD", f"{HOME}/manifests/v2", (200, digest, b""))
    assert repository.digest("v1") == BLOB.digest


def test_redirects_without_end(network: Network, repository: HttpRepository) -> None:
    _authorized(network, "GET", f"{HOME}/manifests/v1", (307, {"Location": "v1"}, b""))
    assert "redirects more than" in _refused(lambda: repository.manifest("v1"))


def test_pages_without_end(network: Network, repository: HttpRepository) -> None:
    following = {"Link": '<?n=1000>; rel="next"'}
    _authorized(network, "GET", f"{HOME}/tags/list", (200, following, b'{"tags": ["a"]}'))
    assert "a page that was read already" in _refused(repository.tags)


@pytest.mark.parametrize("place", ["https://[::1/u", "ftp://x/u", "https://h:port/u"])
def test_an_address_that_is_none(network: Network, repository: HttpRepository, place: str) -> None:
    _authorized(network, "GET", f"{HOME}/manifests/v1", (307, {"Location": place}, b""))
    assert "leads to" in _refused(lambda: repository.manifest("v1"))


# ---- where tokens come from ----------------------------------------------------------------------


def _asks_for_token(network: Network, realm: str) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'}

    def rule(method: str, at: str) -> Answer | None:
        bare = not network.seen[-1][2].startswith("Bearer")
        return (401, challenge, b"") if at.startswith(HOME) and bare else None

    network.rules.append(rule)


@pytest.mark.parametrize(
    "realm",
    ["http://auth.example.com/token", f"http://{HOST}/token", "http://127.0.0.1:5000/token",
     "http://localhost.example.com/token", "ftp://localhost/token", "token", ""],
)  # fmt: skip
@pytest.mark.parametrize("entry", [{"auth": "Y2k6c2VjcmV0"}, {"identitytoken": "refresh"}])
def test_no_token_over_plain_http(
    network: Network,
    repository: HttpRepository,
    tmp_path: Path,
    realm: str,
    entry: Mapping[str, str],
) -> None:
    _login(tmp_path, entry)
    _asks_for_token(network, realm)
    words = _refused(lambda: repository.digest("v1"))
    assert f"'{realm}'" in words
    assert HOST in words
    assert len(network.seen) == 1


@pytest.mark.parametrize("entry", [{"auth": "Y2k6c2VjcmV0"}, {"identitytoken": "refresh"}])
def test_a_token_server_that_redirects(
    network: Network, repository: HttpRepository, tmp_path: Path, entry: Mapping[str, str]
) -> None:
    _login(tmp_path, entry)
    _asks_for_token(network, "https://auth.example.com/token")
    for method in ("GET", "POST"):
        moved = {"Location": "https://evil.example.org/token"}
        network.rules.append(when(method, "https://auth.example.com", (307, moved, b"")))
    _refused(lambda: repository.digest("v1"))
    assert all(not given for _, at, given in network.seen if "evil" in at)
    assert not any("refresh_token" in body for (_, at, _), body in
                   zip(network.seen, network.bodies, strict=True) if "evil" in at)  # fmt: skip


@pytest.mark.parametrize(
    "token", [b"[]", b"{}", b"no JSON", b'{"token": 1}', b'{"token": "a\\r\\nb"}', b"<html>"]
)
def test_a_token_that_is_none(network: Network, repository: HttpRepository, token: bytes) -> None:
    _asks_for_token(network, "https://auth.example.com/token")
    network.rules.append(when("GET", "https://auth.example.com/", (200, {}, token)))
    assert "the registry refuses these credentials" in _refused(lambda: repository.digest("v1"))


# ---- how much is read ----------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """An answer that does not end; counts what is read of it."""

    def __init__(self) -> None:
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.size += len(buffer)
        buffer[:] = b" " * len(buffer)
        return len(buffer)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda repository: repository.manifest("v1"), "manifest"),
        (lambda repository: repository.tags(), "list of tags"),
        (lambda repository: repository.referrers(BLOB.digest), "list of referrers"),
    ],
)
def test_an_answer_without_end(
    network: Network,
    repository: HttpRepository,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[HttpRepository], object],
    kind: str,
) -> None:
    _authorized(network, "GET", HOME, (200, {}, b""))
    endless = Endless()
    send = network.send

    def sent(request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        made = send(request)
        if made.ok:
            made.raw = HTTPResponse(endless, preload_content=False)
        return made

    monkeypatch.setattr(network, "send", sent)
    with pytest.raises(UserError) as raised:
        call(repository)
    assert raised.value.exit_code == 65
    assert kind in str(raised.value)
    assert str(raised.value).startswith(f"{HOST}/team/x")
    assert endless.size < 20_000_000


def test_what_a_registry_says_is_shown_on_one_line(
    network: Network, repository: HttpRepository
) -> None:
    errors = [{"code": "DENIED", "message": "no\x1b[2J\nerror: all is well"}]
    answer: tuple[int, dict[str, str], bytes] = (400, {}, json.dumps({"errors": errors}).encode())
    _authorized(network, "GET", f"{HOME}/manifests/v1", answer)
    words = _refused(lambda: repository.manifest("v1"))
    assert words.isprintable()


@pytest.mark.parametrize(
    "body", [b"<html>sign in</html>", b"[]", b'{"tags": "a"}', b'{"tags": [1]}']
)
def test_a_list_of_tags_that_is_none(
    network: Network, repository: HttpRepository, body: bytes
) -> None:
    _authorized(network, "GET", f"{HOME}/tags/list", (200, {}, body))
    assert "a list of tags" in _refused(repository.tags)
