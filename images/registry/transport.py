"""HTTP to registries: credentials for one address only, answers of bounded size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from common.errors import EX_UNAVAILABLE, one_line, user_error
from images.registry import documents, limits

TIMEOUT = (10, 300)  # to connect, and for each piece of an answer
CONNECTIONS = 8
REDIRECTS = 5
READING = ("GET", "HEAD")
LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")
SCHEMES = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Answer:
    """The answer of a server, with either `body` or `stream`."""

    address: str
    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes = b""
    stream: requests.Response | None = None

    @property
    def ok(self) -> bool:
        return self.status < 400

    @cached_property
    def json(self) -> Any:
        """None if the body is not JSON."""
        try:
            return documents.load(self.body)
        except ValueError:
            return None

    @property
    def next(self) -> str:
        """The address of the next page; empty on the last one."""
        links = requests.utils.parse_header_links(self.headers.get("Link", ""))
        return str(next((one["url"] for one in links if one.get("rel") == "next"), ""))


class Transport:
    """A pool of connections. `certificates`: a CA bundle in place of the default one."""

    def __init__(self, certificates: str = "", *, proxies: bool = True) -> None:
        self.session = _Session()
        self.session.trust_env = proxies
        self._certificates = certificates or None
        for scheme in SCHEMES:
            self.session.mount(f"{scheme}://", HTTPAdapter(pool_maxsize=CONNECTIONS))

    def send(
        self,
        method: str,
        address: str,
        kind: str,
        where: str,
        *,
        authorization: str = "",
        home: str = "",
        stream: bool = False,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        """Send a request; if it reads, follow redirects.

        `authorization` is sent only to the scheme, host and port of `home` (default: of `address`).
        `kind` is the kind of document in the answer, `where` names it in errors.

        Raises UserError: 65 if the document is too large, 69 if an address is refused.
        """
        address = resolved(address, "")
        home = home or address
        for _ in range(REDIRECTS + 1):
            response = self.session.request(
                method,
                address,
                auth=_Header(authorization if same_origin(address, home) else ""),
                headers={"Accept-Encoding": "identity", **(headers or {})},
                timeout=TIMEOUT,
                verify=self._certificates,
                stream=True,
                **more,
            )
            if method not in READING or not response.is_redirect:
                return _answer(response, address, kind, where, stream)
            response.close()
            address = resolved(address, response.headers["Location"])
        raise user_error(where, f"redirects more than {REDIRECTS} times", "", EX_UNAVAILABLE)


def _answer(
    response: requests.Response, address: str, kind: str, where: str, stream: bool
) -> Answer:
    head = (address, response.status_code, response.reason or "", response.headers)
    if stream and response.ok:
        return Answer(*head, stream=response)
    with response:
        pieces = response.iter_content(limits.PIECE)
        if response.ok:
            return Answer(*head, limits.joined(pieces, kind, where))
        return Answer(*head, next(pieces, b""))


def resolved(address: str, place: str) -> str:
    """The absolute form of an address in an answer of `address`.

    Raises UserError (69) for plain HTTP after HTTPS, and for what is not an HTTP address.
    """
    try:
        found = urljoin(address, place)
        scheme, host, _ = _origin(found)
    except ValueError:
        found = scheme = host = ""
    where, leads = urlsplit(address).netloc, f"{address} leads to {one_line(found or place)}"
    if not host or scheme not in SCHEMES:
        raise user_error(where, f"{leads}, which is not an HTTP address", "", EX_UNAVAILABLE)
    if scheme == "http" and address.startswith("https:"):
        fix = "let the registry, or the proxy before it, name its HTTPS address"
        raise user_error(where, f"{leads}, from HTTPS to plain HTTP", fix, EX_UNAVAILABLE)
    return found


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses have the same scheme, host and port."""
    return _origin(one) == _origin(other)


def is_loopback(address: str) -> bool:
    try:
        return bool(LOOPBACK.fullmatch(urlsplit(address).hostname or ""))
    except ValueError:
        return False


def _origin(address: str) -> tuple[str, str, int | None]:
    """Raises ValueError."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or SCHEMES.get(parts.scheme)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests then neither follows a redirect nor reads its body."""
        return None


class _Header(AuthBase):
    """Sets the header, so that requests does not use credentials of ~/.netrc or a URL."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.value:
            request.headers["Authorization"] = self.value
        return request
