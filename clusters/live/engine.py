"""A node's Docker engine, reached by the node's context: the calls that cluster commands need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from docker import APIClient, DockerClient
from docker.context import ContextAPI
from docker.errors import APIError, NotFound
from docker.utils import parse_repository_tag

from clusters.live.parallel import each
from clusters.model import Cluster, Node
from common.errors import EX_DATAERR, Finding, did_you_mean, user_error
from entrypoints.findings import one_line

CONNECT_TIMEOUT = 20.0  # seconds for an engine to answer at all
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class EngineError(Exception):
    """A request to an engine failed."""


class Unreachable(EngineError):
    """The engine does not answer."""


class Rejected(EngineError):
    """The engine rejects a request."""


@dataclass(frozen=True)
class ContainerInfo:
    """A container as its engine describes it. Times are the engine's, empty for never.

    `state`: created, running, paused, restarting, removing, exited or dead. `health`: starting,
    healthy, unhealthy, or empty without a HEALTHCHECK; `probe`: output of its last probe.
    `error`: why the engine could not start it.
    """

    id: str
    name: str
    state: str
    health: str = ""
    exit_code: int = 0
    restarts: int = 0
    created: str = ""
    started: str = ""
    finished: str = ""
    out_of_memory: bool = False
    error: str = ""
    probe: str = ""
    image: str = ""
    stop_timeout: int = 10
    labels: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return self.state == "running" and self.health in ("", "healthy")


class Engine:
    """The calls that cluster commands make. Raises only Unreachable and Rejected."""

    def __init__(self, api: APIClient) -> None:
        self._api = api

    def containers(self, label: str) -> list[ContainerInfo]:
        with _engine_errors():
            found = self._api.containers(all=True, filters={"label": label})
        info = (self.container(one["Id"]) for one in found)
        return [one for one in info if one]

    def container(self, name: str) -> ContainerInfo | None:
        """The container with a name or an id, or None."""
        with _engine_errors():
            try:
                about = self._api.inspect_container(name)
            except NotFound:
                return None
        return _state(about)

    def image(self, reference: str) -> str | None:
        """The id of a local image, or None."""
        with _engine_errors():
            try:
                return str(self._api.inspect_image(reference)["Id"])
            except NotFound:
                return None

    def pull(self, reference: str) -> None:
        repository, tag = parse_repository_tag(reference)
        with _engine_errors():
            for event in self._api.pull(repository, tag or "latest", stream=True, decode=True):
                if "error" in event:
                    raise Rejected(one_line(event["error"]))

    def create(self, name: str, body: Mapping[str, Any]) -> str:
        with _engine_errors():
            return str(self._api.create_container_from_config(body, name)["Id"])

    def start(self, id: str) -> None:
        with _engine_errors():
            self._api.start(id)

    def stop(self, id: str, timeout: int) -> None:
        """Stop a container, and kill it after `timeout` seconds. A missing one is fine."""
        with _engine_errors(), _ignore_missing():
            self._api.stop(id, timeout=timeout)

    def remove(self, id: str, force: bool = False) -> None:
        with _engine_errors(), _ignore_missing():
            self._api.remove_container(id, force=force)

    def log(self, id: str, lines: int) -> list[str]:
        """The last lines, printable; empty when the engine keeps no log."""
        try:
            with _engine_errors():
                text = self._api.logs(id, tail=lines).decode(errors="replace")
        except Rejected:
            return []
        plain = (_COLOURS.sub("", line).rstrip("\r") for line in text.split("\n"))
        return [one_line(line) for line in plain if line.strip()]

    def exit_code(self, info: ContainerInfo) -> int | None:
        """The exit code of the run before its last restart."""
        with _engine_errors():
            since, until = (
                int(parse_time(text).timestamp()) for text in (info.created, info.started)
            )
            filters = {"container": info.id, "event": "die"}
            events = self._api.events(since, until + 1, filters, decode=True)
            codes = [event["Actor"]["Attributes"].get("exitCode") for event in events]
        return int(codes[-1]) if codes and codes[-1] else None


Connect = Callable[[str], Engine]


def connect(context: str) -> Engine:
    """The engine of a context or an address; empty for the local one."""
    with _engine_errors():
        if not context:
            return Engine(DockerClient.from_env(use_ssh_client=True).api)
        if "://" in context:
            return Engine(APIClient(context, use_ssh_client=True))
        known = ContextAPI.get_context(context)
        if known is None or not known.Host:
            names = [one.Name for one in ContextAPI.contexts()]
            raise Unreachable(f"no docker context '{context}'; {did_you_mean(context, names)}")
        return Engine(APIClient(known.Host, tls=known.TLSConfig or False, use_ssh_client=True))


def named_nodes(cluster: Cluster) -> tuple[Node, ...]:
    """The nodes of a cluster. Raises UserError (65) when Kubernetes chooses them."""
    if any(node.placed for node in cluster.nodes.values()):
        fix = "use kubectl, or name the nodes in the file"
        raise user_error(f"{cluster.file}: nodes", "Kubernetes chooses them", fix, EX_DATAERR)
    return tuple(cluster.nodes.values())


def connect_all(
    nodes: Iterable[Node], connect: Connect, timeout: float = CONNECT_TIMEOUT
) -> tuple[dict[str, Engine], list[Finding]]:
    """Node's name → its engine, one for each context; and findings about unreachable nodes."""
    nodes = tuple(nodes)
    contexts = tuple(dict.fromkeys(node.context for node in nodes))

    def ask(context: str) -> Engine | str:
        try:
            return connect(context)
        except EngineError as error:
            return str(error)

    silence = f"no answer within {timeout:.0f} s"
    answers = dict(zip(contexts, each(ask, contexts, timeout), strict=True))
    engines: dict[str, Engine] = {}
    findings: list[Finding] = []
    for node in nodes:
        answer = answers[node.context]
        if answer is None or isinstance(answer, str):
            where = node.context or "this host"
            what = f"the Docker engine of {where} cannot be reached: {answer or silence}"
            findings.append(Finding(node.name, what, "see `docker context ls`"))
        else:
            engines[node.name] = answer
    return engines, findings


def _state(about: Mapping[str, Any]) -> ContainerInfo:
    state, config = about["State"], about["Config"]
    health = state.get("Health") or {}
    probes = health.get("Log") or [{}]
    status = health.get("Status", "")
    return ContainerInfo(
        id=about["Id"],
        name=about["Name"].lstrip("/"),
        state=state["Status"],
        health="" if status == "none" else status,
        exit_code=state["ExitCode"],
        restarts=about.get("RestartCount", 0),
        created=about["Created"],
        started=_time(state["StartedAt"]),
        finished=_time(state["FinishedAt"]),
        out_of_memory=state.get("OOMKilled", False),
        error=one_line(state.get("Error", "")),
        probe=one_line(probes[-1].get("Output", "").strip()),
        image=about["Image"],
        stop_timeout=config.get("StopTimeout") or 10,
        labels=config.get("Labels") or {},
        env=tuple(config.get("Env") or ()),
    )


def parse_time(text: str) -> datetime:
    """Parse a time of the engine (UTC, nanoseconds) to the second."""
    return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)


def _time(text: str) -> str:
    return "" if text.startswith("0001-") else text


@contextmanager
def _engine_errors() -> Iterator[None]:
    """Raise Rejected for an error of the engine, Unreachable for any other error."""
    try:
        yield
    except EngineError:
        raise
    except APIError as error:
        raise Rejected(one_line(error.explanation or str(error))) from None
    except Exception as error:  # of docker, requests, urllib3, paramiko and the ssh client
        raise Unreachable(one_line(str(error) or type(error).__name__)) from None


@contextmanager
def _ignore_missing() -> Iterator[None]:
    try:
        yield
    except NotFound:
        return
    except APIError as error:
        # removal already under way, or --rm
        if error.status_code != 409 or "in progress" not in str(error.explanation):
            raise
