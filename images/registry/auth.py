"""Credentials for a registry: Docker's configuration, and tokens."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Mapping
from functools import cached_property
from urllib.parse import urlencode

from common.errors import EX_UNAVAILABLE, one_line, user_error
from images.registry.transport import READING, Transport, is_loopback

PARAMETER = re.compile(r'(\w+)="([^"]*)"')
TOKEN = re.compile(r"[!-~]+")


class Login:
    """Answers a registry's challenges; keeps one token for reading and one for writing."""

    def __init__(self, host: str, root: str, transport: Transport) -> None:
        self.host = host
        self._root = root
        self._transport = transport
        self._headers: dict[bool, str] = {}
        self._lock = threading.Lock()

    def of(self, method: str) -> str:
        """The Authorization for a request; empty before the first challenge."""
        return self._headers.get(method in READING, "")

    def answer(self, method: str, used: str, challenge: str) -> bool:
        """Answer the challenge to a request that `used` a login. False: there is no other login."""
        kind, _, rest = challenge.partition(" ")
        with self._lock:
            if self.of(method) == used:  # else another thread has just done it
                self._headers[method in READING] = (
                    self._bearer(dict(PARAMETER.findall(rest)))
                    if kind.lower() == "bearer"
                    else self._basic
                )
            return self.of(method) not in ("", used)

    def _bearer(self, challenge: Mapping[str, str]) -> str:
        """Raises UserError (69) for a realm without HTTPS that is not on loopback."""
        scopes = challenge.get("scope", "").split()
        asked = [("service", challenge.get("service", "")), *(("scope", one) for one in scopes)]
        realm = challenge.get("realm", "")
        local = self._root.startswith("http:") and realm.startswith("http:") and is_loopback(realm)
        if not (local or realm.startswith("https:")):
            what = f"asks for credentials at '{one_line(realm)}', which is not HTTPS"
            fix = "let the registry name a realm (token server) with HTTPS"
            raise user_error(self.host, what, fix, EX_UNAVAILABLE)
        if refresh := self._account.get("IdentityToken"):
            form = [("grant_type", "refresh_token"), ("refresh_token", refresh)]
            form += [("client_id", "invoke"), *asked[:1], ("scope", " ".join(scopes))]
            given = self._transport.send("POST", realm, "token", realm, data=form)
        else:
            address = f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"
            basic = self._basic
            given = self._transport.send("GET", address, "token", realm, authorization=basic)
        found = given.json if given.status == 200 else None
        token = isinstance(found, dict) and (found.get("token") or found.get("access_token"))
        return f"Bearer {token}" if isinstance(token, str) and TOKEN.fullmatch(token) else ""

    @property
    def _basic(self) -> str:
        account = {name.lower(): value for name, value in self._account.items()}
        if not account.get("username"):
            return ""
        both = f"{account['username']}:{account.get('password', '')}".encode()
        return f"Basic {base64.b64encode(both).decode()}"

    @cached_property
    def _account(self) -> dict[str, str]:
        """The credentials of `docker login`, from the file or a credential helper."""
        from docker import auth, errors  # loads paramiko, which few commands need

        try:
            return dict(auth.load_config().resolve_authconfig(self.host) or {})
        except errors.DockerException as error:
            raise user_error(
                self.host, f"no credentials: {error}", f"docker login {self.host}", EX_UNAVAILABLE
            ) from None
