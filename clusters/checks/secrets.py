"""Secrets: values written as plain text, and API keys that the proxy must know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clusters.checks.definitions import check
from clusters.checks.facts import Facts, Found, effective_environment
from clusters.deployment import Container
from clusters.model import Cluster, Path
from entrypoints import printing
from entrypoints.findings import Message

_KEY = "VLLM_API_KEY"
_PROXY_KEY = "OPENAI_API_KEY"


@check("proxy-key")
def proxy_key(facts: Facts, missing: Message, other: Message) -> Found:
    """The proxy passes on one key, which every server has to accept."""
    proxy = facts.deployment.proxy
    if proxy is None:
        return
    have = _key(proxy, _PROXY_KEY) or _key(proxy, _KEY)
    for server in (server for serving in facts.serving for server in serving.servers):
        if server.place.role.headless:
            continue
        container = server.container
        wanted = server.value("--api-key") or _key(container, _KEY)
        if not wanted or wanted == have or (have and printing.MASK in (wanted, have)):
            continue
        path = facts.path_of_any(("--api-key", container), (_KEY, container))
        yield path, (other if have else missing)(server=container.name)


def _key(container: Container, name: str) -> str:
    """A key as text; the mask for one given by reference, which cannot be compared."""
    if name in container.secrets:
        return printing.MASK
    return effective_environment(container).get(name, "")


@check("open-text-secret")
def plain_text(facts: Facts, message: Message) -> Found:
    for path, name in _secrets(facts.cluster):
        yield path, message(name=name)


def _secrets(cluster: Cluster) -> Iterator[tuple[Path, str]]:
    """Path and name of every value whose name says that it is a secret."""
    recipe = cluster.recipe if isinstance(cluster.recipe, Mapping) else {}
    yield from _in_settings(("recipe",), recipe)
    for name, role in recipe.get("roles", {}).items():
        yield from _in_settings(("recipe", "roles", name), role or {})
    yield from _in_settings((), cluster.settings)
    for instance in cluster.instances.values():
        at: Path = ("instances", instance.name)
        yield from _in_settings(at, instance.settings)
        yield from _in_words((*at, "arguments"), instance.arguments)
        for node, override in instance.overrides.items():
            yield from _in_mapping((*at, "overrides", node, "env"), override.env)
            yield from _in_words((*at, "overrides", node, "arguments"), override.arguments)
    if cluster.proxy:
        yield from _in_mapping(("proxy", "env"), cluster.proxy.env)
        yield from _in_words(("proxy", "arguments"), cluster.proxy.arguments)
    for index, word in enumerate(cluster.options):
        name, assigned, value = word.removeprefix("--env=").removeprefix("-e").partition("=")
        if assigned and value and printing.is_secret(name):
            yield ("options", index), name


def _in_settings(at: Path, settings: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for key in ("env", "args"):
        yield from _in_mapping((*at, key), settings.get(key) or {})


def _in_mapping(at: Path, values: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for name, value in values.items():
        if value and printing.is_secret_key(name) and not str(value).startswith("$"):
            yield (*at, name), name


def _in_words(at: Path, words: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    for index, (word, masked) in enumerate(zip(words, printing.masked(words), strict=True)):
        if word != masked:
            yield (
                (*at, index),
                words[index - 1] if masked == printing.MASK else word.partition("=")[0],
            )
