"""The docker run commands for each role of an image, from its recipes."""

from __future__ import annotations

import shlex
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from entrypoints.findings import Refused
from entrypoints.inputs import data, recipes, stack
from entrypoints.inputs.recipes import SIDES, Block, Recipe
from entrypoints.inputs.roles import ROLES, Role
from entrypoints.launch.model import Launch
from entrypoints.plan import plan
from entrypoints.preflight import docker
from entrypoints.preflight.inspection import Inspection, Needs
from entrypoints.preflight.machine import MACHINE
from images.inspect.model import Image

FUNCTION = "ascend"
NIC = "eth0"
UNBROKEN = "\N{NO-BREAK SPACE}"  # keeps an option and its value on one line


@dataclass(frozen=True)
class Node:
    """One node of a recipe. `problems` explain why it cannot start; `launch` is None then."""

    role: str
    where: str
    command: str
    ports: Mapping[str, int | list[int]]
    problems: tuple[str, ...] = ()
    launch: Launch | None = None


@dataclass(frozen=True)
class Deployment:
    """A recipe and its nodes. `problems` explain why it cannot be read; it has no nodes then."""

    recipe: str
    description: str
    nodes: tuple[Node, ...] = ()
    problems: tuple[str, ...] = ()


def function(image: Image) -> str:
    """A shell function with docker's options for the host; empty if the platform is unknown."""
    platform = stack.platform(image.labels.get("ascend.platform"), [])
    if platform is None:
        return ""
    release = stack.release(image.environment.get("VLLM_ASCEND_RELEASE"), [])
    if release is None:
        return ""
    needs = Needs(platform, release, platform.devices, None, True, None, None, {}, "", {})
    here = Inspection(needs, MACHINE, data.read(data.path_of("preflight.yaml")), ())
    given = ["--net=host --shm-size=16g", *docker.options(here), "-v /data/weights:/weights:ro"]
    wrapped = textwrap.wrap(
        " ".join(one.replace(" ", UNBROKEN) for one in (*given, '"$@"')),
        90,
        break_on_hyphens=False,
        break_long_words=False,
    )
    lines = " \\\n".join(f"    {line.replace(UNBROKEN, ' ')}" for line in wrapped)
    return f"{FUNCTION}() {{\n  docker run \\\n{lines}\n}}"


def deployments(image: Image) -> list[Deployment]:
    """Every recipe in the image for the image's platform."""
    platform = image.labels.get("ascend.platform", "")
    found = (_deployment(image, name, text) for name, text in (image.recipes or {}).items())
    return [one for one, platforms in found if not platforms or platform in platforms]


def _deployment(image: Image, name: str, text: str) -> tuple[Deployment, tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            recipe = recipes.load(str(path))
        except Refused as refused:
            lines = tuple(one.line().replace(str(path), name) for one in refused.findings)
            return Deployment(name, "", problems=lines), ()
        stated = recipe.on(image.environment.get("VLLM_ASCEND_RELEASE", ""))
        nodes = tuple(_Planner(image, stated._replace(name=name), path).nodes())
    return Deployment(name, recipe.description, nodes), recipe.platforms


class _Planner:
    """Plans each node of a recipe as its container would."""

    def __init__(self, image: Image, recipe: Recipe, path: Path) -> None:
        self.image, self.recipe, self.path = image, recipe, path

    def nodes(self) -> Iterator[Node]:
        apis: dict[str, str] = {}
        for index, (group, block) in enumerate(self.recipe.groups.items()):
            leader, *others = [f"10.0.0.{10 * index + 11 + n}" for n in range(block.nodes or 1)]
            first = self._node(ROLES[group], leader, self._leads(ROLES[group], block))
            apis[group] = f"{leader}:{first.ports.get('api', '')}"
            yield first
            for rank, address in enumerate(others, 1):
                role = ROLES["ray-worker" if ROLES[group].ray else "headless"]
                yield self._node(role, address, self._follows(role, group, rank, leader))
        if all(side in apis for side in SIDES):
            proxy = {f"{side.upper()}_ENDPOINTS": apis[side] for side in SIDES}
            yield self._node(
                ROLES["proxy"], "anywhere, without devices", {"ROLE": "proxy", **proxy}
            )

    def _leads(self, role: Role, block: Block) -> dict[str, str]:
        model = f"/weights/{self.recipe.model.rpartition('/')[2]}"
        given = {"ROLE": role.name, "RECIPE": self.recipe.name, "MODEL": model}
        return {**given, "NIC": NIC} if role.networked else given

    def _follows(self, role: Role, group: str, rank: int, leader: str) -> dict[str, str]:
        given = {**self._leads(role, Block()), "LEADER_IP": leader}
        if role.headless:
            given |= {"NODE_RANK": str(rank), **({"GROUP": group} if group in SIDES else {})}
        return given

    def _node(self, role: Role, where: str, given: Mapping[str, str]) -> Node:
        program = f"{FUNCTION} -d" if role.program != "proxy" else "docker run -d --net=host"
        words = [f"-e {name}={shlex.quote(value)}" for name, value in given.items()]
        command = " \\\n  ".join([program, *words, shlex.quote(self.image.reference)])
        try:
            launch = self._plan(where, given)
        except Refused as refused:
            lines = [
                one.line().replace(str(self.path), self.recipe.name) for one in refused.findings
            ]
            return Node(role.name, where, command, {}, tuple(lines))
        return Node(role.name, where, command, launch.ports, launch=launch)

    def _plan(self, where: str, given: Mapping[str, str]) -> Launch:
        environ = {**self.image.environment, **given}
        if "RECIPE" in given:
            environ["RECIPE"] = str(self.path)
        if "NIC" in given:
            environ["LOCAL_IP"] = where
        return plan(environ)
