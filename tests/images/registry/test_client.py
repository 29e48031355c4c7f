"""The registry client before a server on loopback that answers as registries do in trouble."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from images.registry.client import HttpRepository, Reference, bytes_source
from images.registry.oci import Descriptor, Manifest
from tests.images.publish.publish_fakes import sha256

Answer = tuple[int, dict[str, str], bytes]
CONTENT = b"some layer" * 1000
BLOB = Descriptor("application/octet-stream", sha256(CONTENT), len(CONTENT))
FULL = {
    "errors": [
        {
            "code": "UNKNOWN",
            "message": "unknown error",
            "detail": {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Err": 28}},
        }
    ]
}


class Server:
    """Answers each request by `script`'s next entry for its method and path, then by `usual`."""

    def __init__(self) -> None:
        self.script: dict[str, list[Answer | None]] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.uploaded: list[bytes] = []
        self.check: Callable[[str, dict[str, str]], Answer | None] = lambda line, headers: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _any(self) -> None:
                line = f"{self.command} {self.path}"
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append(line)
                outer.headers.append(dict(self.headers))
                entries = outer.script.get(f"{self.command} {self.path.partition('?')[0]}", [])
                if entries:
                    answer = entries.pop(0)
                    if answer is None:  # cut the connection
                        self.connection.shutdown(socket.SHUT_RDWR)
                        self.close_connection = True
                        return
                else:
                    refused = outer.check(line, dict(self.headers))
                    answer = refused or outer.usual(line, body)
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                self.close_connection = "Content-Length" in headers  # cut in the middle

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def usual(self, line: str, body: bytes) -> Answer:
        if line.startswith("POST"):
            return 202, {"Location": "/v2/team/x/blobs/uploads/1?_state=a"}, b""
        if line.startswith("PUT"):
            self.uploaded.append(body)
            return 201, {}, b""
        return 404, {}, b""

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def repository(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HttpRepository:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return HttpRepository(f"{server.host}/team/x", pauses=(0.01, 0.01, 0.01))


def _login(server: Server, directory: Path, entry: dict[str, str]) -> None:
    (directory / "config.json").write_text(json.dumps({"auths": {server.host: entry}}))


def _problem(function: Callable[[], Any], code: int = 69) -> str:
    with pytest.raises(UserError) as raised:
        function()
    assert raised.value.exit_code == code
    (problem,) = raised.value.findings
    return str(problem)


# ---- another attempt, or not ---------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [(429, {}, b""), (500, {}, b""), (503, {}, b"busy"), None])
def test_what_may_pass_is_tried_again(
    server: Server, repository: HttpRepository, trouble: Answer | None
) -> None:
    repository.tags()  # it has answered before: a cut is a cut, not a wrong address
    server.script["POST /v2/team/x/blobs/uploads/"] = [trouble]
    server.script["PUT /v2/team/x/blobs/uploads/1"] = [trouble, trouble]
    repository.push_blob(BLOB, bytes_source(CONTENT))
    assert server.uploaded == [CONTENT]
    assert sum(line.startswith("PUT") for line in server.requests) == 3
    assert sum(line.startswith("POST") for line in server.requests) == 4


def test_after_several_times_it_is_told(server: Server, repository: HttpRepository) -> None:
    error = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}).encode()
    server.script["HEAD /v2/team/x/manifests/v1"] = [(503, {}, b"")] * 4
    server.script["GET /v2/team/x/tags/list"] = [(429, {}, error)] * 4
    assert _problem(lambda: repository.digest("v1")) == (
        f"{server.host}/team/x:v1: answers 503 Service Unavailable, 4 times "
        "(run the same command again: it continues from here)"
    )
    assert "answers 429 TOOMANYREQUESTS slow down, 4 times" in _problem(repository.tags)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 413])
def test_a_refusal_is_told_at_once(server: Server, repository: HttpRepository, code: int) -> None:
    error = json.dumps({"errors": [{"code": "DENIED", "message": "no"}]}).encode()
    server.script["POST /v2/team/x/blobs/uploads/"] = [(code, {}, error)]
    problem = _problem(lambda: repository.push_blob(BLOB, bytes_source(CONTENT)))
    assert f"{code} DENIED no" in problem
    assert ("docker login" in problem) == (code in (401, 403))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [(507, {}, b""), (500, {}, json.dumps(FULL).encode()), (500, {}, b"no space left on device")],
)
def test_a_full_registry_is_told_at_once(
    server: Server, repository: HttpRepository, answer: Answer
) -> None:
    server.script["PUT /v2/team/x/blobs/uploads/1"] = [answer]
    problem = _problem(lambda: repository.push_blob(BLOB, bytes_source(CONTENT)))
    assert "the registry is full" in problem
    assert len(server.requests) == 2


def test_nobody_there() -> None:
    repository = HttpRepository("localhost:1/team/x", pauses=(100.0,))
    assert _problem(repository.tags) == (
        "localhost:1/team/x: does not answer: connection refused (--registry)"
    )


def test_the_registry_says_how_long_to_wait(
    server: Server, repository: HttpRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(repository.stop, "wait", waited.append)
    server.script["GET /v2/team/x/tags/list"] = [(429, {"Retry-After": "7"}, b"")] * 2
    repository.tags()
    assert waited == [7.0, 7.0]


def test_a_long_wait_is_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    said: list[str] = []
    repository = HttpRepository(f"{server.host}/team/x", pauses=(0.01, 0.01), say=said.append)
    monkeypatch.setattr(repository.stop, "wait", lambda seconds: False)
    error = json.dumps({"errors": [{"code": "TOOMANYREQUESTS"}]}).encode()
    server.script["GET /v2/team/x/tags/list"] = [
        (429, {"Retry-After": "90"}, error),
        (503, {}, b""),
    ]
    repository.tags()
    assert said == [f"{server.host}/team/x:list: answers 429 TOOMANYREQUESTS; next attempt in 90 s"]


def test_a_document_that_is_cut_is_read_again(server: Server, repository: HttpRepository) -> None:
    body = json.dumps({"tags": ["v1"]}).encode()
    cut: Answer = (200, {"Content-Length": str(len(body))}, body[:-3])
    server.script["GET /v2/team/x/tags/list"] = [cut, cut, (200, {}, body)]
    assert repository.tags() == ["v1"]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("piece", [-1, 1000])
def test_a_blob_that_is_cut_is_continued(
    server: Server, repository: HttpRepository, ranges: bool, piece: int
) -> None:
    content = bytes(range(250)) * 2000
    cuts = [150_000, 350_000]

    def answer(line: str, headers: dict[str, str]) -> Answer:
        begin = int(headers.get("Range", "bytes=0-")[6:-1]) if ranges else 0
        end = cuts.pop(0) if cuts else len(content)
        length = str(len(content) - begin)
        return 206 if begin else 200, {"Content-Length": length}, content[begin:end]

    server.check = answer
    with repository.open_blob(sha256(content)) as blob:
        read = b"".join(iter(lambda: blob.read(piece), b"")) if piece > 0 else blob.read()
    assert read == content
    assert len(server.requests) == 3


def test_a_blob_that_is_always_cut(server: Server, repository: HttpRepository) -> None:
    digest = sha256(CONTENT)
    cut: Answer = (200, {"Content-Length": "100"}, b"")
    server.script[f"GET /v2/team/x/blobs/{digest}"] = [cut] * 4
    with repository.open_blob(digest) as blob:
        problem = _problem(blob.read)
    assert "the connection was cut" in problem
    assert "4 times" in problem


def test_each_pause_is_longer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    repository = HttpRepository(f"{server.host}/team/x")
    waited: list[float] = []
    monkeypatch.setattr(repository.stop, "wait", waited.append)
    server.script["GET /v2/team/x/tags/list"] = [(500, {}, b"")] * 7
    with pytest.raises(UserError):
        repository.tags()
    assert len(waited) == 6
    assert waited == sorted(waited)
    assert waited[-1] > 10 * waited[0]


# ---- credentials ---------------------------------------------------------------------------------


def _basic(line: str, headers: dict[str, str]) -> Answer | None:
    wanted = "Basic " + base64.b64encode(b"ci:secret").decode()
    if headers.get("Authorization") == wanted:
        return None
    return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""


def test_a_password(server: Server, repository: HttpRepository, tmp_path: Path) -> None:
    _login(server, tmp_path, {"auth": base64.b64encode(b"ci:secret").decode()})
    server.check = _basic
    repository.push_blob(BLOB, bytes_source(CONTENT))
    assert server.uploaded == [CONTENT]


def test_many_at_once_log_in(server: Server, repository: HttpRepository, tmp_path: Path) -> None:
    from images.registry.transfer import run_all

    _login(server, tmp_path, {"auth": base64.b64encode(b"ci:secret").decode()})
    server.check = _basic
    assert run_all(range(30), lambda n: repository.digest(f"v{n}"), repository.stop) == [None] * 30


def test_a_wrong_password(server: Server, repository: HttpRepository, tmp_path: Path) -> None:
    _login(server, tmp_path, {"auth": base64.b64encode(b"ci:other").decode()})
    server.check = _basic
    problem = _problem(lambda: repository.digest("v1"))
    assert "the registry refuses these credentials: 401" in problem
    assert f"docker login {server.host}" in problem
    assert "other" not in problem


class Tokens:
    """A token server as registries have one: a token for each scope, which may run out."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.valid = "first"

    def __call__(self, line: str, headers: dict[str, str]) -> Answer | None:
        if line.startswith(("GET /token", "POST /token")):
            good = headers.get("Authorization", "").startswith("Basic") or "POST" in line
            return (200, {}, json.dumps({"token": self.valid}).encode()) if good else (401, {}, b"")
        if headers.get("Authorization") == f"Bearer {self.valid}":
            return None
        actions = "pull" if line.startswith(("GET", "HEAD")) else "pull,push"
        challenge = (
            f'Bearer realm="http://{self.server.host}/token",service="registry",'
            f'scope="repository:team/x:{actions}"'
        )
        return 401, {"WWW-Authenticate": challenge}, b""


@pytest.mark.parametrize(
    "entry",
    [{"auth": base64.b64encode(b"ci:secret").decode()}, {"identitytoken": "refresh"}],
    ids=["password", "identity token"],
)
def test_a_token(
    server: Server, repository: HttpRepository, tmp_path: Path, entry: dict[str, str]
) -> None:
    _login(server, tmp_path, entry)
    server.check = Tokens(server)
    assert repository.digest("v1") is None
    repository.push_blob(BLOB, bytes_source(CONTENT))
    assert server.uploaded == [CONTENT]
    asked = [line for line in server.requests if "/token" in line]
    assert len(asked) == 2  # to read, and to write


def test_a_token_that_runs_out_in_an_upload(
    server: Server, repository: HttpRepository, tmp_path: Path
) -> None:
    _login(server, tmp_path, {"auth": base64.b64encode(b"ci:secret").decode()})
    server.check = tokens = Tokens(server)
    repository.push_blob(BLOB, bytes_source(CONTENT))

    def run_out(line: str, headers: dict[str, str]) -> Answer | None:
        if line.startswith("PUT") and tokens.valid == "first":
            tokens.valid = "second"
        return tokens(line, headers)

    server.check = run_out
    repository.push_blob(BLOB, bytes_source(CONTENT))
    assert server.uploaded == [CONTENT, CONTENT]


# ---- answers -------------------------------------------------------------------------------------


def test_all_pages_of_tags(server: Server, repository: HttpRepository) -> None:
    def page(*tags: str) -> bytes:
        return json.dumps({"tags": tags}).encode()

    following = {"Link": '</v2/team/x/tags/list?n=1000&last=b>; rel="next"'}
    server.script["GET /v2/team/x/tags/list"] = [(200, following, page("b", "a")),
                                                 (200, {}, page("c"))]  # fmt: skip
    assert repository.tags() == ["a", "b", "c"]


# ---- digests -------------------------------------------------------------------------------------


def test_a_manifest_that_is_not_what_was_asked_for(
    server: Server, repository: HttpRepository
) -> None:
    wanted, other = sha256(b"{}"), b'{"other": 1}'
    server.script[f"GET /v2/team/x/manifests/{wanted}"] = [(200, {}, other)]
    told = {"Docker-Content-Digest": wanted}
    server.script["GET /v2/team/x/manifests/v1"] = [(200, told, other)]
    for reference, at in ((wanted, f"@{wanted}"), ("v1", ":v1")):
        assert _problem(partial(repository.manifest, reference), 65) == (
            f"{server.host}/team/x{at}: the registry's copy has the digest {sha256(other)}, not "
            f"{wanted} (it is damaged there: publish it again, or to another repository)"
        )


@pytest.mark.parametrize("piece", [-1, 1000])
@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-1], CONTENT + b"!", b""])
def test_a_blob_that_is_not_what_was_asked_for(
    server: Server, repository: HttpRepository, content: bytes, piece: int
) -> None:
    def read() -> bytes:
        with repository.open_blob(BLOB.digest) as file:
            return b"".join(iter(lambda: file.read(piece), b""))

    place = f"GET /v2/team/x/blobs/{BLOB.digest}"
    server.script[place] = [(200, {}, CONTENT), (200, {}, content)]
    assert read() == CONTENT
    problem = _problem(read, 65)
    assert problem.startswith(f"{server.host}/team/x@{BLOB.digest}: the registry's copy has the ")


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-1], CONTENT + b"!"])
def test_a_blob_that_was_damaged_here_is_not_pushed(
    server: Server, repository: HttpRepository, content: bytes
) -> None:
    problem = _problem(lambda: repository.push_blob(BLOB, bytes_source(content)), 65)
    assert problem == (
        f"{server.host}/team/x@{BLOB.digest}: what is to be pushed has the digest "
        f"{sha256(content)}, not {BLOB.digest} "
        "(it is damaged here: remove build/oci, and build it again)"
    )


def test_what_was_damaged_on_its_way(server: Server, repository: HttpRepository) -> None:
    error = json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "did not match"}]})
    server.script["PUT /v2/team/x/blobs/uploads/1"] = [(400, {}, error.encode())]
    problem = _problem(lambda: repository.push_blob(BLOB, bytes_source(CONTENT)), 65)
    assert "the registry refuses: 400 DIGEST_INVALID did not match" in problem
    manifest = Manifest("application/vnd.oci.image.manifest.v1+json", b"{}")
    kept = {"Docker-Content-Digest": sha256(b"other")}
    server.script["PUT /v2/team/x/manifests/v1"] = [(201, kept, b"")]
    problem = _problem(lambda: repository.push_manifest("v1", manifest), 65)
    assert f"the registry's copy has the digest {sha256(b'other')}, not" in problem


# ---- other answers -------------------------------------------------------------------------------


def test_a_registry_that_deletes_by_digest_alone(
    server: Server, repository: HttpRepository
) -> None:
    server.script["DELETE /v2/team/x/manifests/tmp"] = [(400, {}, b""), (202, {}, b"")]
    assert (repository.delete_tag("tmp"), repository.delete_tag("tmp")) == (False, True)


def test_who_accounts_for_referrers(server: Server, repository: HttpRepository) -> None:
    server.script["PUT /v2/team/x/manifests/v1"] = [(201, {"OCI-Subject": "sha256:1"}, b"")]
    manifest = Manifest("application/vnd.oci.image.manifest.v1+json", b"{}")
    assert repository.push_manifest("v1", manifest) is True
    assert repository.push_manifest("v1", manifest) is False


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("localhost:5000/a/b:v1", "localhost:5000/a/b", "v1"),
        ("registry.example.com/a", "registry.example.com/a", ""),
        ("docker.io/library/x:1", "docker.io/library/x", "1"),
    ],
)
def test_references(text: str, repository: str, tag: str) -> None:
    assert Reference.parse(text, "SRC") == Reference(repository, tag)
    digest = sha256(b"")
    assert Reference.parse(f"{text}@{digest}", "SRC") == Reference(repository, tag, digest)


@pytest.mark.parametrize(
    "text", ["", "a", "team/x:v1", "https://registry.example.com/x", "localhost/X", "localhost/a@b",
             "localhost/a:b c", "localhost/", "/a", "-x.y/a b"]
)  # fmt: skip
def test_no_references(text: str) -> None:
    with pytest.raises(UserError) as raised:
        Reference.parse(text, "SRC")
    assert raised.value.exit_code == 64
