"""The variables of a pod, from those of a compiled container."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clusters.deployment import Container
from clusters.model import Cluster
from entrypoints.inputs import recipes

Entry = dict[str, Any]

# The pod's address is the downward API's, and its interface follows from that. With the node's
# network the interface is the one that the file names.
ADDRESS = "LOCAL_IP"
INTERFACE = "NIC"


def entries(
    cluster: Cluster,
    container: Container,
    given: Iterable[str] = (),
    instead: Mapping[str, Entry] | None = None,
) -> list[Entry]:
    """The container's variables as Kubernetes takes them, each name once.

    `given`: names that are set elsewhere. `instead`: entries that replace the container's; what it
    has not comes first, so that the others may refer to it.
    """
    left_out = {*given, *(() if cluster.kubernetes.host_network else (INTERFACE,))}
    instead = instead or {}
    made = {name: entry for name, entry in instead.items() if name not in container.env}
    made |= {name: entry(name, text) for name, text in container.env.items()}
    if ADDRESS in made:
        made[ADDRESS] = field_reference(ADDRESS, "status.podIP")
    made |= instead
    for secret in cluster.secrets:
        if secret.variable in container.secrets:
            reference = {"name": secret.secret, "key": secret.key}
            source = {"secretKeyRef": reference}
            made[secret.variable] = {"name": secret.variable, "valueFrom": source}
    return [entry for name, entry in made.items() if name not in left_out]


def entry(name: str, text: str) -> Entry:
    if name == "RECIPE" and recipes.is_text(text):
        text = _readable(text)
    return {"name": name, "value": escape(text)}


def field_reference(name: str, path: str) -> Entry:
    """By the downward API."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def escape(text: str) -> str:
    """What Kubernetes, which replaces $(NAME) and takes $$ for $, makes `text` of."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def numbered_template(texts: Sequence[str], variable: str) -> str | None:
    """One text that comes to the first of `texts` where `variable` is 0, and so on.

    None when they differ by more than that number.
    """
    first = texts[0]
    if all(text == first for text in texts):
        return escape(first)
    for found in re.finditer("0", first):
        before, after = first[: found.start()], first[found.end() :]
        if all(text == f"{before}{number}{after}" for number, text in enumerate(texts)):
            return f"{escape(before)}$({variable}){escape(after)}"
    return None


def _readable(text: str) -> str:
    """A recipe in JSON over several lines; what is no JSON stands as it was written."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
