"""The roles of a node. No other module lists them."""

from __future__ import annotations

from entrypoints.record import NamedTuple

_ADDRESS = "LOCAL_IP or NIC"


class Role(NamedTuple):
    """`program`: what runs in the end, `vllm`, `ray` (a worker) or `proxy`.

    `group`: the recipe's group whose settings it takes; empty for a headless node, which names it.
    `networked`: communicates with other nodes, so LOCAL_IP and NIC are needed.
    `follows`: joins a leader, so LEADER_IP is needed.
    `kv_role`: its side of the KV transfer, which makes a kv-transfer-config necessary.
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    group: str
    program: str = "vllm"
    networked: bool = True
    follows: bool = False
    kv_role: str = ""

    @property
    def headless(self) -> bool:
        """Runs engines without an HTTP API."""
        return self.program == "vllm" and self.follows

    @property
    def ray(self) -> bool:
        """Its devices are Ray's."""
        return self.group == "ray-head"


ROLES = {
    role.name: role
    for role in (
        Role("single", "one node serves alone", (), "single", networked=False),
        Role("leader", "rank 0 of a group of nodes; serves HTTP", (_ADDRESS,), "leader"),
        Role(
            "headless",
            "a further node of a group; follows its leader and serves no HTTP",
            ("NODE_RANK", "LEADER_IP", "GROUP when the group is prefill or decode"),
            "",
            follows=True,
        ),
        Role(
            "prefill",
            "rank 0 of a prefill instance; sends its KV cache to decode",
            (_ADDRESS,),
            "prefill",
            kv_role="kv_producer",
        ),
        Role(
            "decode",
            "rank 0 of a decode instance; receives the KV cache from prefill",
            (_ADDRESS,),
            "decode",
            kv_role="kv_consumer",
        ),
        Role(
            "proxy",
            "sends each request to a prefill and then to a decode server",
            ("PREFILL_ENDPOINTS", "DECODE_ENDPOINTS"),
            "",
            program="proxy",
            networked=False,
        ),
        Role(
            "ray-head",
            "starts a Ray cluster and serves on all its NPUs",
            (_ADDRESS, "NODES"),
            "ray-head",
        ),
        Role(
            "ray-worker",
            "joins a Ray cluster with the NPUs of this node",
            ("LEADER_IP",),
            "ray-head",
            program="ray",
            follows=True,
        ),
    )
}

# The groups that a recipe describes; every other node is a further node of one of them.
GROUPS = tuple(name for name, role in ROLES.items() if role.group == name)
