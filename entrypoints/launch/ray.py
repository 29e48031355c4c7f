"""The commands of a Ray cluster."""

from __future__ import annotations

from entrypoints.findings import Finding
from entrypoints.launch.context import Context
from entrypoints.launch.environment import environment, references_here
from entrypoints.launch.model import Launch, Peer
from entrypoints.launch.topology import Place
from entrypoints.messages import finding, refused

HEAD_PORT = 6379


def port(node: Context) -> int:
    """The port of the Ray head."""
    return node.settings.ray_port or HEAD_PORT


def start_head(node: Context) -> list[str]:
    """The command that starts the Ray head on this node."""
    own = ["--node-ip-address", node.address.local_ip] if node.address.local_ip else []
    return ["ray", "start", "--head", "--port", str(port(node)), *own, *_further(node)]


def worker(node: Context, place: Place, findings: list[Finding]) -> Launch:
    """The launch of a worker, which stays until its head is gone (`--block`).

    Errors go to `findings`.
    """
    if node.appended:
        findings.append(finding("bad-argument.not-of-ray", node.appended[0].name))
    known = references_here(node, place, 0)
    env, expands, sources = environment(node, place, {}, known, findings)
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
        context=node,
        place=place,
        peers=(Peer("the Ray head", head, port(node)),),
        multi_node=True,
        sources=sources,
    )


def _further(node: Context) -> list[str]:
    if not node.settings.ray_args:
        return []
    import shlex

    try:
        return shlex.split(node.settings.ray_args)
    except ValueError as error:
        raise refused("bad-value.bad-quotes", error=error) from error
