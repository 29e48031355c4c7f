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

# The address comes from the downward API, and the interface follows from it; in the node's network,
# the interface comes from the file.
ADDRESS = "LOCAL_IP"
INTERFACE = "NIC"


def entries(
    cluster: Cluster,
    container: Container,
    given: Iterable[str] = (),
    instead: Mapping[str, Entry] | None = None,
) -> list[Entry]:
    """The container's variables as entries of a pod, each name once.

    `given`: names that are set elsewhere. `instead`: entries that replace the container's; new
    names come first, so that the others may refer to them.
    """
    left_out = {*given, *(() if cluster.kubernetes.host_network else (INTERFACE,))}
    instead = instead or {}
    result = {name: entry for name, entry in instead.items() if name not in container.env}
    result |= {name: entry(name, text) for name, text in container.env.items()}
    if ADDRESS in result:
        result[ADDRESS] = field_reference(ADDRESS, "status.podIP")
    result |= instead
    for secret in cluster.secrets:
        if secret.variable in container.secrets:
            reference = {"name": secret.secret, "key": secret.key}
            source = {"secretKeyRef": reference}
            result[secret.variable] = {"name": secret.variable, "valueFrom": source}
    return [entry for name, entry in result.items() if name not in left_out]


def entry(name: str, text: str) -> Entry:
    if name == "RECIPE" and recipes.is_text(text):
        text = _readable(text)
    return {"name": name, "value": escape(text)}


def field_reference(name: str, path: str) -> Entry:
    """An entry from the downward API."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def escape(text: str) -> str:
    """The text that Kubernetes expands to `text`: it replaces $(NAME), and $$ by $."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def numbered_template(texts: Sequence[str], variable: str) -> str | None:
    """A text that expands to the n-th of `texts` when `variable` is n.

    None when the texts differ in more than that number.
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
    """A JSON recipe over several lines; other text unchanged."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
