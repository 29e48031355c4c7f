"""Secrets: where they are written openly, and who has to know them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clusters.checks.facts import Check, Facts, Found, effective_environment
from clusters.deployment import Container
from clusters.model import Cluster, Path
from common.errors import ERROR, WARNING
from entrypoints import show

_KEY = "VLLM_API_KEY"
_PROXY_KEY = "OPENAI_API_KEY"
_SECRET = show.MASK


def open_text(facts: Facts) -> Iterator[Found]:
    for path, name in _written(facts.cluster):
        yield Found(
            path,
            f"the value of {name} stands in this file as text",
            "give it by reference, under secrets:",
        )


def _written(cluster: Cluster) -> Iterator[tuple[Path, str]]:
    """Where a value is written whose name says that it is a secret."""
    recipe = cluster.recipe if isinstance(cluster.recipe, Mapping) else {}
    yield from _settings(("recipe",), recipe)
    for name, role in recipe.get("roles", {}).items():
        yield from _settings(("recipe", "roles", name), role or {})
    yield from _settings((), cluster.settings)
    for instance in cluster.instances.values():
        at: Path = ("instances", instance.name)
        yield from _settings(at, instance.settings)
        yield from _words((*at, "arguments"), instance.arguments)
        for node, override in instance.overrides.items():
            yield from _mapping((*at, "overrides", node, "env"), override.env)
            yield from _words((*at, "overrides", node, "arguments"), override.arguments)
    if cluster.proxy:
        yield from _mapping(("proxy", "env"), cluster.proxy.env)
        yield from _words(("proxy", "arguments"), cluster.proxy.arguments)
    for index, word in enumerate(cluster.options):
        name, assigned, value = word.removeprefix("--env=").removeprefix("-e").partition("=")
        if assigned and value and show.is_secret(name):
            yield ("options", index), name


def _settings(at: Path, settings: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for key in ("env", "args"):
        yield from _mapping((*at, key), settings.get(key) or {})


def _mapping(at: Path, values: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for name, value in values.items():
        if value and show.is_secret_key(name) and not str(value).startswith("$"):
            yield (*at, name), name


def _words(at: Path, words: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    shown = list(show.masked(words))
    for index, (word, masked) in enumerate(zip(words, shown, strict=True)):
        if word != masked:
            yield (*at, index), words[index - 1] if masked == show.MASK else word.partition("=")[0]


def proxy_key(facts: Facts) -> Iterator[Found]:
    """The proxy passes on one key, and every server has to take it."""
    proxy = facts.deployment.proxy
    if proxy is None:
        return
    have = _key(proxy, _PROXY_KEY) or _key(proxy, _KEY)
    for serving in facts.serving:
        for server in serving.servers:
            if server.place.role.headless:
                continue
            container = server.container
            wanted = server.value("--api-key") or _key(container, _KEY)
            if not wanted or wanted == have or (have and _SECRET in (wanted, have)):
                continue
            has = "another" if have else "none"
            yield Found(
                facts.said_as(("--api-key", container), (_KEY, container)),
                f"{container.name} asks for a key, and the proxy has {has}",
                f"give {_KEY} under secrets:, which is for all",
            )


def _key(container: Container, name: str) -> str:
    """A key as text; one by reference cannot be compared."""
    if name in container.secrets:
        return _SECRET
    return effective_environment(container).get(name, "")


CHECKS = (
    Check(
        "proxy-key",
        ERROR,
        "servers with an API key that the proxy does not have",
        "vllm-router 0.1.17: it sends OPENAI_API_KEY",
        proxy_key,
    ),
    Check(
        "open-text-secret",
        WARNING,
        "a secret that stands in the file as text",
        "docs/clusters.md",
        open_text,
    ),
)
