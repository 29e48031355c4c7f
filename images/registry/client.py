"""One repository of a registry, over the distribution protocol.

Plain HTTP rather than a program such as oras: every status can be handled, a killed client leaves
no child that still moves a tag, and one connection serves hundreds of requests.
"""

from __future__ import annotations

import io
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, NoReturn, Protocol, TypeVar, cast

import requests

from common.errors import EX_DATAERR, EX_UNAVAILABLE, UserError, one_line, user_error
from common.terminal import Say
from images.registry import documents
from images.registry.auth import Login
from images.registry.bodies import DigestReader, Download, Retryable, Stopped, Upload
from images.registry.oci import DIGEST, MANIFESTS, Descriptor, Manifest
from images.registry.transport import Answer, Transport, is_loopback, resolved, same_origin

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each new attempt
LONG = 3.0  # seconds; a longer pause is reported
FULL = re.compile(r'no space left|ENOSPC|"Err":\s*28\b|insufficient storage', re.IGNORECASE)
HOST = re.compile(r"localhost|[\w-]+(\.[\w-]+)+|[\w.-]+:\d+|\[[0-9a-f:]+\](:\d+)?", re.ASCII)
NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
HUB = "docker.io"
NO_DIGEST = f"sha256:{'0' * 64}"

CONNECTION = re.compile(
    r"Connection \w+|Broken pipe|name resolution|Name or service not known|"
    r"without response|timed out",
    re.IGNORECASE,
)

T = TypeVar("T")
Source = Callable[[], AbstractContextManager[BinaryIO]]  # opens a blob, anew for each attempt


class Referrers(Protocol):
    """A source of manifests and of what refers to them, such as signatures."""

    def manifest(self, reference: str) -> Manifest | None: ...

    def referrers(self, digest: str) -> list[Descriptor] | None:
        """What refers to a manifest; None if the registry lacks the referrers API."""


class Repository(Referrers, Protocol):
    """What publishing needs of a registry. Every method raises UserError (69) if it refuses."""

    name: str
    stop: threading.Event  # set: uploads and pauses end at once

    def digest(self, reference: str) -> str | None:
        """The digest of a tag or digest; None if it is missing."""

    def blob_size(self, digest: str) -> int | None: ...

    def open_blob(self, digest: str) -> AbstractContextManager[BinaryIO]: ...

    def push_blob(self, blob: Descriptor, source: Source, mount_from: str = "") -> None: ...

    def push_manifest(self, reference: str, manifest: Manifest) -> bool:
        """Return whether the registry records the manifest's subject."""

    def tags(self) -> list[str]: ...

    def delete_tag(self, tag: str) -> bool:
        """Return False if the registry only deletes by digest."""

    def delete_manifest(self, digest: str) -> None:
        """Delete a manifest and every tag of it."""


@dataclass(frozen=True)
class Reference:
    """`registry.example.com/team/name`, with an optional tag or digest."""

    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str, option: str) -> Reference:
        """Raises UserError."""
        name, _, digest = text.partition("@")
        head, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            head, tag = name, ""
        host, _, path = head.partition("/")
        parts = ((HOST, host), (NAME, path), (TAG, tag or "none"), (DIGEST, digest or NO_DIGEST))
        if not all(pattern.fullmatch(part) for pattern, part in parts):
            raise user_error(
                option,
                f"'{text}' is not an image in a registry",
                "registry.example.com/team/name; Docker Hub is docker.io",
            )
        return cls(head, tag, digest)


class HttpRepository:
    """A repository of a real registry, with the credentials of the Docker configuration."""

    def __init__(
        self,
        name: str,
        *,
        certificates: str = "",
        pauses: Sequence[float] = PAUSES,
        say: Say = lambda line: None,
    ) -> None:
        self.name = name
        self.say = say
        self.pauses = pauses
        self.host, _, self.path = name.partition("/")
        hub = self.host == HUB
        local = is_loopback(f"http://{self.host}")
        self._root = (
            f"{'http' if local else 'https'}://{'registry-1.docker.io' if hub else self.host}/v2/"
        )
        if hub and "/" not in self.path:
            self.path = f"library/{self.path}"
        self.transport = Transport(certificates, proxies=not local)
        self._login = Login(self.host, self._root, self.transport)
        self._answered = False
        self.stop = threading.Event()

    def digest(self, reference: str) -> str | None:
        answer = self._request("HEAD", f"manifests/{reference}", accept=MANIFESTS)
        if answer.status == 404:
            return None
        named = answer.headers.get("Docker-Content-Digest", "")
        if DIGEST.fullmatch(named):
            return named
        found = self.manifest(reference)
        return found.digest if found else None

    def manifest(self, reference: str) -> Manifest | None:
        answer = self._request("GET", f"manifests/{reference}", accept=MANIFESTS)
        if answer.status == 404:
            return None
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        found = Manifest(media_type, answer.body)
        named = answer.headers.get("Docker-Content-Digest", found.digest)
        wanted = reference if DIGEST.fullmatch(reference) else named
        if found.digest != wanted:
            raise self._damaged_in_registry(reference, found.digest, wanted)
        return found

    def blob_size(self, digest: str) -> int | None:
        answer = self._request("HEAD", f"blobs/{digest}")
        if answer.status == 404:
            return None
        size = answer.headers.get("Content-Length", "")
        return int(size) if size.isdecimal() else -1

    @contextmanager
    def open_blob(self, digest: str) -> Iterator[BinaryIO]:
        """Where the connection is cut, a new request continues."""

        def begin(offset: int) -> requests.Response:
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            answer = self._send("GET", f"blobs/{digest}", stream=True, headers=headers)
            if answer.status == 404:
                raise user_error(self._at(digest), "is not in the registry", "", EX_UNAVAILABLE)
            if answer.stream is None:
                self._refuse(answer, digest)
            return answer.stream

        with closing(Download(begin, partial(self._retry, path=digest))) as body:
            damaged = partial(self._damaged_in_registry, digest, wanted=digest)
            yield cast(BinaryIO, DigestReader(cast(BinaryIO, body), digest, damaged))

    def push_blob(self, blob: Descriptor, source: Source, mount_from: str = "") -> None:
        """Upload in one piece: registries keep nothing of an interrupted upload."""
        query = f"?mount={blob.digest}&from={mount_from}" if mount_from else ""

        def attempt() -> None:
            begun = self._send("POST", f"blobs/uploads/{query}")
            if begun.status == 201:
                return  # mounted from the other repository
            if begun.status != 202:
                self._refuse(begun, blob.digest)
            place = resolved(begun.address, begun.headers.get("Location", ""))
            place += f"{'&' if '?' in place else '?'}digest={blob.digest}"
            damaged = partial(self._damaged_locally, blob.digest)
            with source() as file:
                sent = self._send("PUT", place, data=Upload(file, blob, damaged, self.stop))
            if sent.status not in (201, 204):
                self._refuse(sent, blob.digest)

        self._retry(attempt, blob.digest)

    def push_manifest(self, reference: str, manifest: Manifest) -> bool:
        answer = self._request(
            "PUT", f"manifests/{reference}", data=manifest.body, media_type=manifest.media_type
        )
        if answer.status == 404:
            self._refuse(answer, reference)
        kept = answer.headers.get("Docker-Content-Digest", manifest.digest)
        if kept != manifest.digest:
            raise self._damaged_in_registry(reference, kept, manifest.digest)
        return "OCI-Subject" in answer.headers

    def tags(self) -> list[str]:
        found: set[str] = set()
        read: set[str] = set()
        place = "tags/list?n=1000"
        while place and (answer := self._request("GET", place, kind="list of tags")).status != 404:
            try:
                listed = documents.parse(answer.body, "list of tags", self.name)
            except UserError as error:
                what = f"its answer {error.findings[0].message}"
                raise user_error(self.name, what, "is it a registry?", EX_UNAVAILABLE) from None
            found.update(listed.get("tags") or [])
            read.add(answer.address)
            place = resolved(answer.address, answer.next) if answer.next else ""
            if place in read:
                what = "names as the next page of its tags a page that was read already"
                raise user_error(self.name, what, "", EX_UNAVAILABLE)
        return sorted(found)

    def delete_tag(self, tag: str) -> bool:
        def attempt() -> bool:
            answer = self._send("DELETE", f"manifests/{tag}")
            if not answer.ok and answer.status not in (400, 404, 405):
                self._refuse(answer, tag)
            return answer.ok

        return self._retry(attempt, tag)

    def delete_manifest(self, digest: str) -> None:
        self._request("DELETE", f"manifests/{digest}")

    def referrers(self, digest: str) -> list[Descriptor] | None:
        answer = self._request("GET", f"referrers/{digest}", kind="list of referrers")
        if answer.status == 404:
            return None
        listed = documents.parse(answer.body, "list of referrers", self._at(digest))["manifests"]
        return [Descriptor.of(raw) for raw in listed or []]

    # ---- one request, and another attempt ----

    def _request(
        self,
        method: str,
        path: str,
        *,
        accept: Sequence[str] = (),
        media_type: str = "",
        **more: Any,
    ) -> Answer:
        """Return the answer, including 404; raise for any other refusal."""
        headers = {"Accept": ", ".join(accept)} if accept else {}
        headers |= {"Content-Type": media_type} if media_type else {}

        def attempt() -> Answer:
            answer = self._send(method, path, headers=headers, **more)
            if not answer.ok and answer.status != 404:
                self._refuse(answer, path)
            return answer

        return self._retry(attempt, path)

    def _retry(self, attempt: Callable[[], T], path: str) -> T:
        """Try; on a failure that may pass, retry after growing pauses."""
        for pause in (*self.pauses, None):
            try:
                return attempt()
            except Retryable as error:
                if pause is None:
                    raise user_error(
                        self._at(path),
                        f"{error}, {len(self.pauses) + 1} times",
                        "run the same command again: it continues from here",
                        EX_UNAVAILABLE,
                    ) from None
                pause = max(pause * random.uniform(0.75, 1.25), error.pause)
                if pause >= LONG:
                    self.say(f"{self._at(path)}: {error}; next attempt in {pause:.0f} s")
                self.stop.wait(pause)
            if self.stop.is_set():
                break
        raise Stopped

    def _send(self, method: str, place: str, *, kind: str = "manifest", **more: Any) -> Answer:
        """One request, logged in if the registry asks for it. Raises Retryable or UserError."""
        address = place if "://" in place else f"{self._root}{self.path}/{place}"

        def send(login: str) -> Answer:
            answer = self.transport.send(
                *(method, address, kind, self._at(place)),
                authorization=login,
                home=self._root,
                **more,
            )
            self._answered = True
            return answer

        try:
            login = self._login.of(method)
            answer = send(login)
            challenge = answer.headers.get("WWW-Authenticate", "")
            ours = answer.status == 401 and same_origin(answer.address, self._root)
            if ours and self._login.answer(method, login, challenge):
                if isinstance(more.get("data"), Upload):
                    raise Retryable("the registry asks for a new token")
                answer = send(self._login.of(method))
        except requests.exceptions.SSLError as error:
            words = f"its certificate is not trusted: {error}"
            raise user_error(self.name, words, "--certificates FILE", EX_UNAVAILABLE) from None
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise self._connection_error(error) from None
        except requests.RequestException as error:
            raise user_error(self.name, str(error), exit_code=EX_UNAVAILABLE) from None
        if (answer.status == 429 or answer.status >= 500) and not _is_full(answer):
            raise Retryable(f"answers {answer.status} {_error_text(answer)}", _retry_after(answer))
        return answer

    def _connection_error(self, error: Exception) -> Exception:
        """A broken connection is worth a retry; a host that never answered is not."""
        match = CONNECTION.search(str(error))
        words = match[0].lower() if match else type(error).__name__
        within = (requests.exceptions.ReadTimeout, requests.exceptions.ChunkedEncodingError)
        if self._answered or isinstance(error, within):
            return Retryable(f"the connection was cut: {words}")
        return user_error(self.name, f"does not answer: {words}", "--registry", EX_UNAVAILABLE)

    def _refuse(self, answer: Answer, path: str) -> NoReturn:
        words = f"{answer.status} {_error_text(answer)}".strip()
        where, code = self.name, EX_UNAVAILABLE  # of what concerns all of it; once is enough
        if answer.status in (401, 403):
            what = f"the registry refuses these credentials: {words}"
            fix = f"docker login {self.host}, with an account that may do this"
        elif _is_full(answer):
            what, fix = f"the registry is full: {words}", "free space there, then run this again"
        else:
            where, what, fix = self._at(path), f"the registry refuses: {words}", ""
            code = EX_DATAERR if "DIGEST_INVALID" in words else code
        raise user_error(where, what, fix, code)

    def _damaged_in_registry(self, reference: str, found: str, wanted: str) -> UserError:
        what = f"the registry's copy has the digest {found}, not {wanted}"
        fix = "it is damaged there: publish it again, or to another repository"
        return user_error(self._at(reference), what, fix, EX_DATAERR)

    def _damaged_locally(self, wanted: str, found: str) -> UserError:
        what = f"what is to be pushed has the digest {found}, not {wanted}"
        fix = "it is damaged here: remove build/oci, and build it again"
        return user_error(self._at(wanted), what, fix, EX_DATAERR)

    def _at(self, path: str) -> str:
        reference = path.partition("?")[0].rstrip("/").rpartition("/")[2]
        return f"{self.name}{'@' if ':' in reference else ':'}{reference}"


def _is_full(answer: Answer) -> bool:
    return answer.status == 507 or bool(FULL.search(answer.body.decode(errors="replace")))


def _error_text(answer: Answer) -> str:
    """The errors of a registry, in one line."""
    try:
        errors = answer.json["errors"]
        lines = [f"{one.get('code', '')} {one.get('message') or ''}".strip() for one in errors]
        return one_line("; ".join(dict.fromkeys(lines)))
    except (KeyError, TypeError, AttributeError):
        return one_line(answer.reason)


def _retry_after(answer: Answer) -> float:
    value = answer.headers.get("Retry-After", "")
    return min(float(value), 120.0) if value.isdigit() else 0.0


def referring(store: Referrers, digest: str) -> list[str]:
    """From the referrers API and the fallback tag: a registry may have been upgraded in between."""
    found = [one.digest for one in store.referrers(digest) or []]
    fallback = store.manifest(digest.replace(":", "-"))
    found += [one.digest for one in fallback.children] if fallback else []
    return list(dict.fromkeys(found))


def bytes_source(content: bytes) -> Source:
    """A blob in memory."""
    return lambda: closing(io.BytesIO(content))
