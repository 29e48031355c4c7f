"""Ray: the cluster's commands, and the wait until it is complete."""

from __future__ import annotations

import re
from collections.abc import Callable

from entrypoints.launch.context import Context
from entrypoints.launch.environment import environment, facts
from entrypoints.launch.plan import Launch, Peer
from entrypoints.launch.topology import Place
from entrypoints.problems import PEER, Problem, Refused

HEAD_PORT = 6379
_NPUS = re.compile(r"^\s*[\d.]+/([\d.]+) NPU\s*$", re.MULTILINE)


def port(node: Context) -> int:
    """The port of the Ray head."""
    return node.settings.ray_port or HEAD_PORT


def start_head(node: Context) -> list[str]:
    """The command that makes this node the head."""
    own = ["--node-ip-address", node.address.local_ip] if node.address.local_ip else []
    return ["ray", "start", "--head", "--port", str(port(node)), *own, *_further(node)]


def worker(node: Context, place: Place, problems: list[Problem]) -> Launch:
    """Joins the head and stays until it is gone (`--block`). What is wrong goes to `problems`."""
    if node.appended:
        fix = "give arguments of `ray start` by RAY_ARGS, those of `vllm serve` to the head"
        where = node.appended[0].name
        message = "a Ray worker takes no argument of `vllm serve`"
        problems.append(Problem("bad-argument", where, message, fix))
    env, expands = environment(node, place, {}, facts(node, place, 0), problems)
    head, own = node.settings.leader_ip or "", node.address.local_ip or ""
    return Launch(
        role=node.role.name,
        title=f"role ray-worker, head {head}:{port(node)}, release {node.release.name}",
        env=env,
        expands=expands,
        argv=(
            *("ray", "start", f"--address={head}:{port(node)}", f"--node-ip-address={own}"),
            *("--block", *_further(node)),
        ),
        ports={},
        warnings=(),
        context=node,
        place=place,
        peers=(Peer("the Ray head", head, port(node)),),
        multi_node=True,
    )


def _further(node: Context) -> list[str]:
    if not node.settings.ray_args:
        return []
    import shlex

    try:
        return shlex.split(node.settings.ray_args)
    except ValueError as error:
        fix = "quote it as for a shell"
        raise Refused([Problem("bad-value", "RAY_ARGS", str(error), fix)]) from error


def npus(status: str) -> int:
    """How many NPUs the cluster has, from the text of `ray status`."""
    return sum(int(float(number)) for number in _NPUS.findall(status))


def wait(
    needed: int,
    timeout: float,
    status: Callable[[], str],
    say: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Returns once the cluster has `needed` NPUs. Raises Refused (69) after `timeout` seconds."""
    start, have, told = clock(), -1, 0.0
    while True:
        now, before = clock() - start, have
        have = npus(status())
        if have >= needed:
            say(f"ray: {have} NPUs are there")
            return
        if now >= timeout:
            message = f"the cluster has {have} of {needed} NPUs after {timeout:.0f} s"
            fix = "start ROLE=ray-worker on the other nodes, or raise WAIT_TIMEOUT"
            raise Refused([Problem("ray-incomplete", "NODES", message, fix, exit_code=PEER)])
        if have != before or now - told >= 30:
            say(f"ray: {have} of {needed} NPUs, {timeout - now:.0f} s left")
            told = now
        sleep(2)
