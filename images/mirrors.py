"""Where a build fetches from: mirrors, certificates and credentials, passed as secrets."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import Finding, UserError

HOST_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Mirrors:
    """Settings of the machine that builds. None of them reaches a layer or a cache key."""

    pip_index: str = ""
    torch_index: str = ""
    apt_mirror: str = ""
    dnf_mirror: str = ""
    registry_mirror: str = ""
    certificates: str = ""
    netrc: str = ""
    proxies: tuple[tuple[str, str], ...] = ()
    wheels: str = ""  # a directory in the stages that replaces every index

    @classmethod
    def of(cls, environ: Mapping[str, str], **given: str | None) -> Mirrors:
        """Read options, and for those not given the usual environment variables.

        Raises UserError (64) for a file that does not exist.
        """
        defaults = {
            "pip_index": environ.get("UV_DEFAULT_INDEX") or environ.get("PIP_INDEX_URL", ""),
            "torch_index": environ.get("TORCH_CPU_INDEX", ""),
            "apt_mirror": environ.get("APT_MIRROR", ""),
            "dnf_mirror": environ.get("DNF_MIRROR", ""),
            "registry_mirror": environ.get("REGISTRY_MIRROR", ""),
            "certificates": environ.get("SSL_CERT_FILE") or _existing(HOST_CERTIFICATES),
            "netrc": environ.get("NETRC") or _existing(str(Path.home() / ".netrc")),
        }
        values = {name: given.get(name) or default for name, default in defaults.items()}
        problems = [
            Finding(f"--{name}", f"no such file: {values[name]}")
            for name in ("certificates", "netrc")
            if values[name] and not Path(values[name]).is_file()
        ]
        if problems:
            raise UserError(problems)
        # The address of an archive on the mirror serves as well: packages.sh and rootfs append it.
        values["apt_mirror"] = re.sub(r"(/(debian|ubuntu))?/*$", "", values["apt_mirror"])
        proxies = tuple((name, environ[name]) for name in PROXIES if environ.get(name))
        return cls(**values, proxies=proxies)

    def image(self, reference: str) -> str:
        """Rewrite a reference: `HOST=MIRROR` replaces the host, `MIRROR` is prepended."""
        host, separator, mirror = self.registry_mirror.rstrip("/").partition("=")
        if separator:
            return (
                mirror + reference[len(host) :] if reference.startswith(f"{host}/") else reference
            )
        return f"{host}/{reference}" if host else reference

    @property
    def settings(self) -> dict[str, str]:
        """The variables that pip, uv and the scripts read."""
        offline = "1" if self.wheels else ""
        settings = {
            "PIP_INDEX_URL": self.pip_index,
            "UV_DEFAULT_INDEX": self.pip_index,
            "UV_INDEX": self.torch_index,
            "UV_INDEX_STRATEGY": "unsafe-best-match" if self.torch_index else "",
            "APT_MIRROR": self.apt_mirror,
            "DNF_MIRROR": self.dnf_mirror,
            "PIP_FIND_LINKS": self.wheels,
            "UV_FIND_LINKS": self.wheels,
            "PIP_NO_INDEX": offline,
            "UV_OFFLINE": offline,
            **dict(self.proxies),
        }
        return {name: value for name, value in settings.items() if value}

    def secrets(self, directory: Path) -> list[str]:
        """Write the files of the secrets, and return bake's `secret` entries."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in self.settings.items()]
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "mirrors"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(descriptor, 0o600)  # for a file that exists already
        with os.fdopen(descriptor, "w") as file:
            file.writelines(lines)
        files = {"mirrors": str(path), "ca": self.certificates, "netrc": self.netrc}
        return [f"id={name},src={path}" for name, path in files.items() if path]


def _existing(path: str) -> str:
    return path if Path(path).is_file() else ""
