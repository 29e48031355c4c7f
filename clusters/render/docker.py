"""A cluster as `docker run` commands: a shell script for each node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote

from clusters.deployment import Deployment
from clusters.model import Node, Secret
from clusters.runtime.spec import Spec, by_node, specs
from entrypoints.findings import one_line
from entrypoints.inputs.arguments import is_flag


def files(deployment: Deployment) -> dict[str, str]:
    """`<node>.sh` of every node, which can be pasted into a shell there."""
    known = specs(deployment)
    cluster = deployment.cluster
    return {
        f"{name}.sh": _script(cluster.name, cluster.nodes[name], [known[c.name] for c in here])
        for name, here in by_node(deployment).items()
    }


def _script(cluster: str, node: Node, here: list[Spec]) -> str:
    title = one_line(f"{cluster}: {node.name}, {node.address}")
    commands = " &&\n".join(command(spec) for spec in here)
    return f"#!/bin/sh\n# {title}\n{commands}\n"


def command(spec: Spec) -> str:
    """One command for a POSIX shell, which fails when a secret is missing."""
    checks = [f"cat {quote(one.file)} >/dev/null &&\n" for one in spec.secrets if one.file]
    secrets = [f"{one.variable}={_value(one)} \\\n" for one in spec.secrets]
    lines = " \\\n  ".join(" ".join(map(quote, words)) for words in _lines(spec))
    return "".join([*checks, *secrets, lines])


def _lines(spec: Spec) -> Iterator[tuple[str, ...]]:
    """The words of the command, grouped by line."""
    yield "docker", "run", "-d", "--name", spec.name
    for name, value in spec.labels.items():
        yield "--label", f"{name}={value}"
    yield "--network", "host", "--restart", spec.restart, "--stop-timeout", str(spec.stop_timeout)
    if spec.shm_gib:
        yield ("--shm-size", f"{spec.shm_gib}g")
    for device in spec.taken.devices:
        yield "--device", device
    for mount in spec.taken.mounts:
        fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
        yield "--mount", _csv([*fields, *(["readonly"] if mount.read_only else [])])
    for name, value in spec.env.items():
        yield "-e", f"{name}={value}"
    for secret in spec.secrets:
        yield "-e", secret.variable
    yield from _grouped(spec.options)
    yield (spec.image,)
    yield from _grouped(spec.words)


def _grouped(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Each flag with its values."""
    group: list[str] = []
    for word in words:
        if group and is_flag(word):
            yield tuple(group)
            group = []
        group.append(word)
    if group:
        yield tuple(group)


def _csv(fields: list[str]) -> str:
    """A CSV record: docker parses the value of --mount as CSV."""
    return ",".join(
        '"' + field.replace('"', '""') + '"' if any(c in field for c in ',"\n') else field
        for field in fields
    )


def _value(secret: Secret) -> str:
    """A shell word: a variable of the shell, which must be set, or the content of a file."""
    if secret.file:
        return f'"$(cat {quote(secret.file)})"'
    return f'"${{{secret.env}:?is a secret: set it first}}"'
