"""The roles of a node. No other module lists them."""

from __future__ import annotations

from entrypoints.inputs import data
from entrypoints.record import NamedTuple


class Role(NamedTuple):
    """One role: an entry of env/roles.yaml, which explains the fields."""

    name: str
    summary: str
    needs: tuple[str, ...] = ()
    group: str = ""
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
    name: Role(name, **{**entry, "needs": tuple(entry.get("needs", ()))})
    for name, entry in data.read(data.path_of("roles.yaml")).items()
}

# The groups that a recipe describes; every other node is a further node of one of them.
GROUPS = tuple(name for name, role in ROLES.items() if role.group == name)
