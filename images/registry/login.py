"""A registry's credentials: Docker's configuration, and the tokens that a registry asks for."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Mapping
from functools import cached_property

import requests
from docker import auth
from docker import errors as docker_errors
from requests.auth import AuthBase

from common.errors import EX_UNAVAILABLE, user_error

PARAMETER = re.compile(r'(\w+)="([^"]*)"')
READING = ("GET", "HEAD")


class Login:
    """Answers a registry's challenges; a token for reading and one for writing are kept."""

    def __init__(self, host: str, session: requests.Session) -> None:
        self.host = host
        self._session = session
        self._headers: dict[bool, str] = {}
        self._lock = threading.Lock()

    def of(self, method: str) -> Header:
        return Header(self._headers.get(method in READING, ""))

    def answer(self, method: str, used: Header, challenge: str) -> bool:
        """Take up the challenge to a request; False when there is nothing but what it `used`."""
        reading = method in READING
        kind, _, rest = challenge.partition(" ")
        with self._lock:
            if self.of(method).value == used.value:  # else another thread has just done it
                self._headers[reading] = (
                    self._bearer(dict(PARAMETER.findall(rest)))
                    if kind.lower() == "bearer"
                    else self._basic
                )
            return self.of(method).value not in ("", used.value)

    def _bearer(self, challenge: Mapping[str, str]) -> str:
        scopes = challenge.get("scope", "").split()
        asked = [("service", challenge.get("service", "")), *(("scope", one) for one in scopes)]
        realm = challenge.get("realm", "")
        if refresh := self._account.get("IdentityToken"):
            form = [("grant_type", "refresh_token"), ("refresh_token", refresh)]
            form += [("client_id", "invoke"), *asked[:1], ("scope", " ".join(scopes))]
            given = self._session.post(realm, data=form, timeout=60, auth=Header(""))
        else:
            given = self._session.get(realm, params=asked, timeout=60, auth=Header(self._basic))
        if not given.ok:
            return ""
        token = given.json()
        return f"Bearer {token.get('token') or token.get('access_token')}"

    @property
    def _basic(self) -> str:
        account = {name.lower(): value for name, value in self._account.items()}
        if not account.get("username"):
            return ""
        both = f"{account['username']}:{account.get('password', '')}".encode()
        return f"Basic {base64.b64encode(both).decode()}"

    @cached_property
    def _account(self) -> dict[str, str]:
        """What `docker login` kept for the host, in the file or with a credential helper."""
        try:
            known = auth.load_config()
            return dict(known.resolve_authconfig(self.host) or {})
        except docker_errors.DockerException as error:
            raise user_error(
                self.host, f"no credentials: {error}", f"docker login {self.host}", EX_UNAVAILABLE
            ) from None


class Header(AuthBase):
    """Sets the header itself, so that requests does not take credentials from ~/.netrc."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.value:
            request.headers["Authorization"] = self.value
        return request
