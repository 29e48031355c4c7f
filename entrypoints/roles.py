"""The roles a node can have. Each is a row; nothing else in the package lists them."""

from __future__ import annotations

from typing import NamedTuple


class Role(NamedTuple):
    """`networked`: talks to other nodes, so LOCAL_IP and NIC are needed.

    `kv_role`: its side of the KV transfer, which makes a kv-transfer-config necessary.
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    networked: bool = True
    headless: bool = False
    kv_role: str = ""


ROLES = {
    role.name: role
    for role in (
        Role("single", "one node serves alone", (), networked=False),
        Role("leader", "rank 0 of a data parallel group; serves HTTP", ("LOCAL_IP or NIC",)),
        Role(
            "headless",
            "a further node of a group; follows its leader and serves no HTTP",
            ("NODE_RANK", "LEADER_IP", "GROUP when the group is prefill or decode"),
            headless=True,
        ),
        Role(
            "prefill",
            "rank 0 of a prefill instance; hands its KV cache to decode",
            ("LOCAL_IP or NIC",),
            kv_role="kv_producer",
        ),
        Role(
            "decode",
            "rank 0 of a decode instance; takes the KV cache from prefill",
            ("LOCAL_IP or NIC",),
            kv_role="kv_consumer",
        ),
    )
}

# What a recipe describes: a headless node is a further node of one of these.
GROUPS = tuple(name for name, role in ROLES.items() if not role.headless)
