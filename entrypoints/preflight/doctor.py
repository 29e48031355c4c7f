"""The checks of a host, outside any container."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from entrypoints.findings import ERROR, WARNING, Finding, Refused
from entrypoints.inputs import data, stack
from entrypoints.preflight import chips, devices, driver, examine, fabric, host, report, weights
from entrypoints.preflight.docker import options
from entrypoints.preflight.inspection import (
    Inspection,
    Needs,
    check,
    failed,
    inspect,
    ok,
    ranges,
    skipped,
    warning,
)
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
    findings += [one.complete(message(), here.facts) for one, message in _IN_A_CONTAINER]
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


_NONE = failed(
    "no /dev/davinci* is here", "install the driver and load it; `dmesg` says why it does not load"
)
_FEWER = warning(
    "{have} are here ({numbers}), but {platform} has {all}",
    "see npu-smi info for the others, or plan with fewer",
)
_ALL = ok("{have} are here ({numbers})")


@check(
    devices.count.code, devices.count.what, devices.count.source, *(_NONE, _FEWER, _ALL), npu=True
)
def _count(here: Inspection) -> Iterator[Finding]:
    platform, have, numbers = here.needs.platform, len(here.nodes), ranges(here.nodes)
    if not have:
        yield _NONE()
    elif platform and have != platform.devices:
        expected = {"platform": platform.description, "all": platform.devices}
        yield _FEWER(have=have, numbers=numbers, **expected)
    else:
        yield _ALL(have=have, numbers=numbers)


_CHOOSE = ok("choose NIC and LOCAL_IP from: {interfaces}")
_NO_ADDRESS = warning(
    "none has an IPv4 address",
    "give an IPv4 address to the interface by which the nodes reach each other",
    "vllm-ascend#4103",
)


@check(host.nic.code, host.nic.what, "", _CHOOSE, _NO_ADDRESS)
def _interfaces(here: Inspection) -> Iterator[Finding]:
    found = [f"{name} {ip}" for name, ip in here.machine.addresses() if not ip.startswith("127.")]
    yield _CHOOSE(interfaces=", ".join(found)) if found else _NO_ADDRESS()


_VERSION = ok("{answer}")
_SILENT = warning(
    "does not answer: {answer}",
    "install and start it, or give this user access to its socket",
    "docker version",
)


@check("docker", "Docker engine", "", _VERSION, _SILENT)
def _docker(here: Inspection) -> Iterator[Finding]:
    answer = here.ask("docker", "version", "--format", "{{.Server.Version}}")
    words = " ".join(answer.text.split())[-200:]
    yield (_VERSION if answer.code == 0 else _SILENT)(answer=words)


def _options(here: Inspection) -> list[str]:
    """Add the group of the devices, to which a user other than root must belong."""
    state = here.machine.stat(f"/dev/davinci{here.nodes[0]}")
    group = [f"--group-add {state.st_gid}"] if state and state.st_gid else []
    return ["--net=host", "--shm-size=16g", *options(here, existing=True), *group]


_SEVERAL_NODES = {
    *(fabric.addresses.code, fabric.network.code),
    *(message.code for message in fabric.network.messages),
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
_IN_A_CONTAINER = (
    (host.shared_memory, skipped("a container has its own: give docker run --shm-size=16g")),
    (host.ports, skipped("they follow from the role: `preflight` in the container checks them")),
    (weights.weights, skipped("they follow from MODEL: `preflight` in the container checks them")),
)
