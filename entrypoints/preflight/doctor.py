"""The checks of a host, outside any container."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from entrypoints.findings import ERROR, WARNING, Finding, Refused
from entrypoints.inputs import data, stack
from entrypoints.messages import finding
from entrypoints.preflight import chips, devices, driver, examine, fabric, host, report
from entrypoints.preflight.docker import options
from entrypoints.preflight.inspection import Inspection, Needs, check, complete, inspect, ranges
from entrypoints.preflight.machine import MACHINE, Machine
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class Report(NamedTuple):
    """`options`: those of docker run for the devices and files that exist on this host."""

    findings: list[Finding]
    options: list[str]

    @property
    def failed(self) -> bool:
        return report.failed(self.findings)

    def text(self) -> str:
        """The findings, then the options one per line, to paste after `docker run`."""
        findings = report.text(self.findings).rstrip()
        if not self.options:
            return findings
        lines = " \\\n".join(f"  {option}" for option in self.options)
        return f"{findings}\n\ndocker run options for this host:\n{lines}"

    def as_data(self) -> dict[str, Any]:
        """The report for JSON."""
        return {**report.as_data(self.findings), "docker_options": self.options}


def run(
    platform: str | None = None,
    release: str | None = None,
    environ: Mapping[str, str] | None = None,
    machine: Machine = MACHINE,
) -> Report:
    """Check a host that is to serve with images of the platform, by default its own.

    Raises Refused (64) for an unknown platform or release.
    """
    findings: list[Finding] = []
    known = stack.platform(platform, findings)
    wanted = stack.release(release, findings)
    if wanted is None or findings:
        raise Refused(findings)
    env = _environment(os.environ if environ is None else environ)
    here = _inspect(known, wanted, env, machine)
    if known is None and here.nodes:
        here = _inspect(_detected(here), wanted, env, machine)
    findings = [_graded(found) for found in examine(here, _CHECKS)]
    findings += [complete(finding(message), here.facts) for message in _IN_A_CONTAINER]
    return Report(findings, _options(here) if here.nodes else [])


def _inspect(
    platform: stack.Platform | None,
    release: stack.Release,
    env: Mapping[str, str],
    machine: Machine,
) -> Inspection:
    """Every device of the host, and the network of its NPUs."""
    needs = Needs(platform, release, 1, None, True, None, None, {}, "", env)
    here = inspect(needs, machine)
    devices = max(len(here.nodes), 1) if platform is None or platform.devices else 0
    return here._replace(needs=needs._replace(devices=devices))


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Add the driver's libraries, which npu-smi needs, to LD_LIBRARY_PATH."""
    folders = data.read(data.path_of("preflight.yaml"))["driver"]["library_folders"]
    searched = [*filter(None, [environ.get("LD_LIBRARY_PATH")]), *folders]
    return {**environ, "LD_LIBRARY_PATH": ":".join(searched)}


def _detected(here: Inspection) -> stack.Platform | None:
    found = chips.find(here)
    return stack.platform(found.platform, []) if isinstance(found, chips.Chips) else None


def _graded(found: Finding) -> Finding:
    """A failure that matters only when several nodes serve together is a warning here."""
    failed = found.severity == ERROR and found.code in _SEVERAL_NODES
    return found._replace(severity=WARNING) if failed else found


@check("devices", npu=True)
def _count(here: Inspection) -> Iterator[Finding]:
    platform, have, numbers = here.needs.platform, len(here.nodes), ranges(here.nodes)
    if not have:
        yield finding("devices.none-on-host")
    elif platform and have != platform.devices:
        expected = {"platform": platform.description, "all": platform.devices}
        yield finding("devices.fewer", have=have, numbers=numbers, **expected)
    else:
        yield finding("devices.all", have=have, numbers=numbers)


@check("nic")
def _interfaces(here: Inspection) -> Iterator[Finding]:
    found = [f"{name} {ip}" for name, ip in here.machine.addresses() if not ip.startswith("127.")]
    message = "nic.choose" if found else "nic.none-has-address"
    yield finding(message, interfaces=", ".join(found))


@check("docker")
def _docker(here: Inspection) -> Iterator[Finding]:
    answer = here.ask("docker", "version", "--format", "{{.Server.Version}}")
    words = " ".join(answer.text.split())[-200:]
    yield finding("docker.version" if answer.code == 0 else "docker.silent", answer=words)


def _options(here: Inspection) -> list[str]:
    """Add the group of the devices, to which a user other than root must belong."""
    state = here.machine.stat(f"/dev/davinci{here.nodes[0]}")
    group = [f"--group-add {state.st_gid}"] if state and state.st_gid else []
    return ["--net=host", "--shm-size=16g", *options(here, existing=True), *group]


_SEVERAL_NODES = {
    *("hccn-conf", "hccn-address"),
    *("fabric", "fabric-link", "fabric-health", "fabric-tls"),
}
_CHECKS = (
    _count,
    devices.control,
    chips.platform,
    driver.version,
    driver.libraries,
    driver.install,
    fabric.addresses,
    fabric.network,
    _interfaces,
    _docker,
    host.clock,
)
# What only a container has.
_IN_A_CONTAINER = ("shared-memory.of-a-container", "ports.of-a-role", "weights.of-a-model")
