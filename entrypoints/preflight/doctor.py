"""The same look at a host, outside any container."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from entrypoints.inputs import data, stack
from entrypoints.preflight import chips, devices, driver, examine, fabric, finding, host, weights
from entrypoints.preflight.docker import options
from entrypoints.preflight.finding import FAILED, WARNING, Finding
from entrypoints.preflight.look import Check, Look, Needs, look, several
from entrypoints.preflight.machine import MACHINE, Machine
from entrypoints.problems import Problem, Refused
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class Report(NamedTuple):
    """`options` are those of docker run: the devices and files that exist on this host."""

    findings: list[Finding]
    options: list[str]

    @property
    def failed(self) -> bool:
        return finding.failed(self.findings)

    def text(self) -> str:
        """The findings, then the options, one a line, to be pasted after `docker run`."""
        findings = finding.text(self.findings).rstrip()
        if not self.options:
            return findings
        lines = " \\\n".join(f"  {option}" for option in self.options)
        return f"{findings}\n\ndocker run options for this host:\n{lines}"

    def as_data(self) -> dict[str, Any]:
        """The same for JSON."""
        return {**finding.as_data(self.findings), "docker_options": self.options}


def run(
    platform: str | None = None,
    release: str | None = None,
    environ: Mapping[str, str] | None = None,
    machine: Machine = MACHINE,
) -> Report:
    """Looks at a host that is to serve with images of the platform, by default what it has.

    Raises Refused (64) for an unknown platform or release.
    """
    problems: list[Problem] = []
    known = stack.platform(platform, problems)
    wanted = stack.release(release, problems)
    if wanted is None or problems:
        raise Refused(problems)
    env = _environment(os.environ if environ is None else environ)
    here = _look(known, wanted, env, machine)
    if known is None and here.nodes:
        here = _look(_detected(here), wanted, env, machine)
    findings = [_as_seen_here(found) for found in examine(here, _CHECKS)]
    findings += [check.skipped(why) for check, why in _ELSEWHERE]
    return Report(findings, _options(here) if here.nodes else [])


def _look(
    platform: stack.Platform | None,
    release: stack.Release,
    env: Mapping[str, str],
    machine: Machine,
) -> Look:
    """Every device of the host, and the network of its NPUs."""
    needs = Needs(platform, release, 1, None, True, None, None, {}, "", env)
    here = look(needs, machine)
    devices = max(len(here.nodes), 1) if platform is None or platform.devices else 0
    return here._replace(needs=needs._replace(devices=devices))


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """A host's shell seldom has the driver's libraries in LD_LIBRARY_PATH; npu-smi needs them."""
    folders = data.read(data.path_of("preflight.yaml"))["driver"]["library_folders"]
    searched = [*filter(None, [environ.get("LD_LIBRARY_PATH")]), *folders]
    return {**environ, "LD_LIBRARY_PATH": ":".join(searched)}


def _detected(look: Look) -> stack.Platform | None:
    found = chips.find(look)
    name = found.platform if isinstance(found, chips.Chips) else None
    return stack.platform(name, [])


def _as_seen_here(found: Finding) -> Finding:
    """Whether several nodes will serve together is not known here: what only they need, warns."""
    alone = found.code not in (check.code for check in _FABRIC)
    return found if alone or found.state != FAILED else found._replace(state=WARNING)


def _count(check: Check, look: Look) -> Iterator[Finding]:
    source, platform, have = look.facts["device_source"], look.needs.platform, len(look.nodes)
    if not have:
        fix = "install the driver and load it; `dmesg` says why it does not load"
        yield check.failed("no /dev/davinci* is here", fix, source)
    elif platform and have != platform.devices:
        message = f"{have} are here ({several(look.nodes)}), {platform.description} has"
        fix = "see npu-smi info for the others, or plan with fewer"
        yield check.warning(f"{message} {platform.devices}", fix, source)
    else:
        yield check.ok(f"{have} are here ({several(look.nodes)})")


def _interfaces(check: Check, look: Look) -> Iterator[Finding]:
    here = [f"{name} {ip}" for name, ip in look.machine.addresses() if not ip.startswith("127.")]
    if here:
        yield check.ok(f"choose NIC and LOCAL_IP from: {', '.join(here)}")
    else:
        fix = "give the interface that the nodes reach each other by an IPv4 address"
        yield check.warning("none has an IPv4 address", fix, "vllm-ascend#4103")


def _engine(check: Check, look: Look) -> Iterator[Finding]:
    answer = look.ask("docker", "version", "--format", "{{.Server.Version}}")
    words = " ".join(answer.text.split())[-200:]
    if answer.code == 0:
        yield check.ok(words)
    else:
        fix = "install and start it, or give this user access to its socket"
        yield check.warning(f"does not answer: {words}", fix, "docker version")


def _options(look: Look) -> list[str]:
    """With the group of the devices, which a user other than root needs to be in."""
    state = look.machine.stat(f"/dev/davinci{look.nodes[0]}")
    group = [f"--group-add {state.st_gid}"] if state and state.st_gid else []
    return ["--net=host", "--shm-size=16g", *options(look, existing=True), *group]


_FABRIC = (
    fabric.FILE,
    fabric.TOOL,
    fabric.LINK,
    fabric.NET_HEALTH,
    fabric.TLS,
    fabric.STALE,
)
_CHECKS = (
    Check(devices.DEVICES.code, devices.DEVICES.what, _count, npu=True),
    devices.CONTROL,
    chips.PLATFORM,
    driver.VERSION,
    driver.LIBRARIES,
    driver.INSTALL,
    fabric.FILE,
    fabric.TOOL,
    Check(host.NIC.code, host.NIC.what, _interfaces),
    Check("docker", "Docker engine", _engine),
    host.CLOCK,
)
# What only a container has, and who looks at it there.
_ELSEWHERE = (
    (host.SHARED_MEMORY, "a container has its own: give docker run --shm-size=16g"),
    (host.PORTS, "they follow from the role: `preflight` in the container looks at them"),
    (weights.WEIGHTS, "they follow from MODEL: `preflight` in the container looks at them"),
)
