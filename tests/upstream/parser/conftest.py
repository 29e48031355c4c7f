"""Every node that the recipes describe, and vLLM's own parser to show their commands to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from entrypoints import plan as launch
from entrypoints.findings import Finding, Refused
from entrypoints.inputs import data, recipes
from entrypoints.inputs.recipes import Block
from entrypoints.inputs.roles import ROLES
from images.locking.index import Wheels
from upstream.catalogues import parser_environment

ALWAYS = "0.13.0"  # the reference release's
STABLE = ("0.18.0", "0.23.0")  # the stable releases' after it
DEFAULT = data.read(data.path_of("defaults.yaml"))["release"]


RELEASES: dict[str, str] = {  # name -> its vLLM
    name: data.read(data.path_of("releases", f"{name}.yaml"))["vllm"]
    for name in data.names("releases")
}


def is_asked(version: str) -> bool:
    """Whether the tests ask this vLLM: ALWAYS and STABLE, another where `invoke flags` has made
    its environment, and with PARSER_RELEASES=all every one."""
    every = os.environ.get("PARSER_RELEASES") == "all"
    return version in (ALWAYS, *STABLE) or every or parser_environment.is_ready(version)


ASKED = [name for name, vllm in RELEASES.items() if is_asked(vllm)]
VERSIONS = sorted({RELEASES[name] for name in ASKED})


class Command(NamedTuple):
    """A node of a recipe on a release: its command, or why it has none."""

    node: str
    argv: tuple[str, ...]
    refused: tuple[Finding, ...] = ()


def commands(release: str) -> list[Command]:
    """Every node that every recipe describes, on every platform it is for."""
    found = []
    for name in recipes.names():
        recipe = recipes.load(name).on(release)
        for group, block in recipe.groups.items():
            for platform in recipe.platforms or data.names("platforms"):
                for environ in nodes(group, block):
                    node = " ".join([name, platform, *environ.values()])
                    environ |= {"RECIPE": name, "ASCEND_PLATFORM": platform}
                    environ |= {"LOCAL_IP": "10.0.0.1", "NIC": "eth0"}
                    environ |= {"VLLM_ASCEND_RELEASE": release}
                    found.append(command(node, environ))
    return found


def nodes(group: str, block: Block) -> Iterator[dict[str, str]]:
    """Rank 0 of a group, a further node, and ranks of external data parallel where it has them."""
    role = ROLES[group]
    yield {"ROLE": group}
    if (block.nodes or 1) > 1 and not role.ray:
        yield {"ROLE": "headless", "GROUP": group, "NODE_RANK": "1", "LEADER_IP": "10.0.0.9"}
    if role.kv_role and (block.sizes.dp or 1) > 1:
        yield {"ROLE": group, "DP_RANK": "0"}
        yield {"ROLE": group, "DP_RANK": "1", "LEADER_IP": "10.0.0.9"}


def command(node: str, environ: dict[str, str]) -> Command:
    try:
        return Command(node, tuple(launch.plan(environ).argv))
    except Refused as refused:
        return Command(node, (), refused.findings)


def verdicts(version: str, argvs: Sequence[Sequence[str]]) -> list[str | None]:
    """For each `vllm serve` command None, or why this vLLM refuses it.

    A process of 6 s at least, so ask for much at once. Makes the version's environment.
    """
    python = parser_environment.environment(version, Wheels.of(os.environ), print)
    asked = json.dumps([argv[argv.index("serve") :] for argv in argvs])
    answers: list[str | None] = json.loads(parser_environment.ask(python, "verdicts", asked))
    assert len(answers) == len(argvs)
    return answers
