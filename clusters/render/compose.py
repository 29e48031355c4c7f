"""A cluster as Compose files, one for each host: Compose knows one engine."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Any

import yaml

from clusters.deployment import Deployment
from clusters.model import Secret
from clusters.runtime.options import COMPOSE, merge, translate
from clusters.runtime.spec import Spec, by_node, specs
from entrypoints.findings import one_line

_NO_WRAP = 2**31 - 1


def files(deployment: Deployment) -> dict[str, str]:
    """`compose.<node>.yaml` of every node; `compose.yaml` for a cluster of one node."""
    known = specs(deployment)
    cluster = deployment.cluster
    extra = translate(cluster.options, COMPOSE, f"{cluster.file}: options")
    result = {}
    for name, here in by_node(deployment).items():
        file = "compose.yaml" if len(cluster.nodes) == 1 else f"compose.{name}.yaml"
        services = {one.name: _service(known[one.name], extra) for one in here}
        title = one_line(f"{cluster.name}: {name}, {cluster.nodes[name].address}")
        start = " ".join(
            [*_secret_assignments(known[one.name] for one in here), "docker compose -f", file]
        )
        head = f"# {title}\n# start it: {start} up -d\n"
        document = {"name": cluster.name, "services": services}
        result[file] = head + yaml.dump(
            document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_NO_WRAP
        )
    return result


def _service(spec: Spec, extra: dict[str, Any]) -> dict[str, Any]:
    service: dict[str, Any] = {
        "container_name": spec.name,
        "image": _text(spec.image),
        "labels": {name: _text(value) for name, value in spec.labels.items()},
        "network_mode": "host",
        "restart": _text(spec.restart),
        "stop_grace_period": f"{spec.stop_timeout}s",
    }
    if spec.shm_gib:
        service["shm_size"] = f"{spec.shm_gib}g"
    if spec.taken.devices:
        service["devices"] = [_text(f"{one}:{one}") for one in spec.taken.devices]
    if spec.taken.mounts:
        service["volumes"] = [
            {
                "type": "bind",
                "source": _text(one.source),
                "target": _text(one.target),
                "read_only": one.read_only,
                "bind": {"create_host_path": False},
            }
            for one in spec.taken.mounts
        ]
    service["environment"] = {name: _text(value) for name, value in spec.env.items()}
    service["environment"] |= {one.variable: _reference(one) for one in spec.secrets}
    if spec.words:
        service["command"] = [_text(word) for word in spec.words]
    if spec.after:
        service["depends_on"] = list(spec.after)
    return merge(service, _escaped(extra))


class _Text(str):
    """A value to quote: YAML readers differ on what is a number or a boolean."""


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, value: _Text) -> yaml.ScalarNode:
    style = "'" if '"' in value and value.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style=style)


_Dumper.add_representer(_Text, _represent)


def _text(value: str) -> _Text:
    """The text with $ escaped, which starts a variable in Compose."""
    return _Text(value.replace("$", "$$"))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    return [_escaped(one) for one in value] if isinstance(value, list) else value


def _reference(secret: Secret) -> _Text:
    """A reference to Compose's own environment; see _secret_assignments for files."""
    return _Text(f"${{{secret.env or secret.variable}:?is a secret: set it first}}")


def _secret_assignments(here: Iterator[Spec]) -> list[str]:
    """Assignments to put before the command, for secrets in files."""
    files = {one.variable: one.file for spec in here for one in spec.secrets if one.file}
    return [f'{variable}="$(cat {quote(file)})"' for variable, file in files.items()]
