"""Generate a large cluster file: a proxy, a quarter of the nodes prefill, the rest decode pairs."""

from __future__ import annotations

HEAD = """\
name: large
release: v0.13.0rc1
platform: a3
nic: eth0
recipe: qwen3-235b-a22b-w8a8/pd-3node-a3
weights: /data/weights
ports: {kv: 36000}
nodes:
"""


def text(nodes: int) -> str:
    """The text of the file; a node without a pair is unused."""
    names = [f"node{n}" for n in range(nodes)]
    prefills = nodes // 4
    decodes = (nodes - prefills - 1) // 2
    prefill = names[1 : prefills + 1]
    decode = names[prefills + 1 : prefills + 1 + 2 * decodes]
    lines = (f"  {name}: 10.0.{n // 250}.{n % 250 + 1}" for n, name in enumerate(names))
    return "\n".join(
        (
            HEAD + "\n".join(lines),
            "instances:",
            f"  prefill: {{nodes: [{', '.join(prefill)}], replicas: {prefills}}}",
            "  decode:",
            f"    nodes: [{', '.join(decode)}]",
            f"    replicas: {decodes}",
            "    args: {max-num-seqs: 96}",
            "proxy: {node: node0}",
            "",
        )
    )
