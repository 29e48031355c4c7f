"""The servers and the proxies: containers in the host's network, each on its processors."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from benchmarks.proxy import probe
from benchmarks.proxy.cases import ROUTER, Way
from common.errors import EX_SOFTWARE, EX_UNAVAILABLE, user_error

BACKEND = Path(__file__).parent / "backend.py"
PYTHON = "/opt/vllm/bin/python"
SIDES = ("prefill", "prefill", "decode", "decode", "both")
PATIENCE = 120.0  # seconds until a proxy is ready; the example imports vLLM
QUIET = 0.3  # seconds without a new request, after which a way is done


@dataclass(frozen=True)
class Processors:
    """The proxy's, and those of the client and the servers."""

    proxy: tuple[int, ...]
    rest: tuple[int, ...]

    @classmethod
    def split(cls, all_: Sequence[int], proxy: int) -> Processors:
        """The first `proxy` for the proxy; a machine with no more than that shares them."""
        return cls(tuple(all_[:proxy]), tuple(all_[proxy:]) or tuple(all_))


@dataclass(frozen=True)
class Place:
    """Where a way begins, and its container, if it has one."""

    port: int
    two: bool
    container: Any = None

    def cpu(self) -> float:
        return cpu_seconds(self.container) if self.container else 0.0


class Stage:
    """What runs while the benchmark does."""

    def __init__(self, client: Any, image: str, processors: Processors) -> None:
        self._client, self._image, self.processors = client, image, processors
        self._containers: list[Any] = []
        self._ports = free_ports(len(SIDES))
        self.servers = self._ports[-1]

    def serve(self) -> None:
        """Start the servers; `backend` is their container."""
        pairs = [f"{port}={side}" for port, side in zip(self._ports, SIDES, strict=True)]
        self.backend = self._run(
            ["/backend.py", *pairs],
            self.processors.rest,
            entrypoint=[PYTHON],
            healthcheck={"test": ["NONE"]},  # the image's asks for what an entrypoint has started
            volumes={str(BACKEND): {"bind": "/backend.py", "mode": "ro"}},
        )

    def start(self, way: Way) -> Place:
        """Start a proxy by the image's own entrypoint, as docs/run.md does."""
        if not way.proxy:
            return Place(self.servers, True)
        port, metrics = free_ports(2)
        arguments = [f"--prometheus-port={metrics}"] if way.proxy == ROUTER else []
        places = list(zip(self._ports, SIDES, strict=True))
        sides = {
            f"{side.upper()}_ENDPOINTS": ",".join(
                f"127.0.0.1:{one}" for one, its in places if its == side
            )
            for side in ("prefill", "decode")
        }
        environment = {"ROLE": "proxy", "PROXY": way.proxy, "PORT": str(port), **sides}
        # An image on a stand-in for CANN refuses to start, which here is not CANN's to do.
        environment["CANN_STANDIN"] = "0"
        command = [*arguments, *way.arguments]
        container = self._run(command, self.processors.proxy, environment=environment)
        return Place(port, False, container)

    def wait(self, place: Place) -> None:
        """Until a completion comes through. Raises UserError (70) with its words when none does."""
        end = time.monotonic() + PATIENCE
        said = ""
        while time.monotonic() < end:
            try:
                probe.Client(place.port, self.servers, place.two).whole(f"ready-{time.time_ns()}")
                return
            except (OSError, ValueError) as error:
                said = str(error)
            if place.container:
                place.container.reload()
                if place.container.status == "exited":
                    break
            time.sleep(0.2)
        words = place.container.logs(tail=15).decode() if place.container else ""
        raise user_error("a proxy", f"is not ready: {said}\n{words}", "", EX_SOFTWARE)

    def counts(self, run: str = "") -> dict[str, Any]:
        """What reached the servers since it was last asked, once nothing more comes.

        `run`: how the prompts start that are counted as kept: others have left theirs.
        """
        before, end = None, time.monotonic() + probe.TIMEOUT
        while time.monotonic() < end:
            now = probe.get(self.servers, "/counts")
            if now == before:
                break
            before = now
            time.sleep(QUIET)
        return dict(probe.get(self.servers, f"/counts?reset={run}"))

    def close(self) -> None:
        for one in self._containers:
            with suppress(NotFound, APIError):
                one.remove(force=True)

    def _run(self, command: Sequence[str], cpus: Sequence[int], **options: Any) -> Any:
        container = self._client.containers.create(
            self._image,
            list(command),
            network_mode="host",
            cpuset_cpus=",".join(map(str, cpus)),
            **options,
        )
        self._containers.append(container)
        container.start()
        return container


@contextmanager
def stage(image: str, processors: Processors) -> Iterator[Stage]:
    """Everything on it goes at the end. Raises UserError (69) without the engine or the image."""
    try:
        client = docker.from_env(timeout=120)
        client.images.get(image)
    except NotFound:
        fix = "make it with `invoke build`"
        raise user_error(image, "is no image of the engine", fix, EX_UNAVAILABLE) from None
    except DockerException as error:
        raise user_error("the Docker engine", str(error), "", EX_UNAVAILABLE) from None
    made = Stage(client, image, processors)
    try:
        made.serve()
        yield made
    except APIError as error:
        raise user_error("the Docker engine", str(error.explanation), "", EX_UNAVAILABLE) from None
    finally:
        made.close()
        client.close()


def cpu_seconds(container: Any) -> float:
    """Seconds of the processor that all processes of a container have used."""
    stats = container.client.api.stats(container.id, stream=False, one_shot=True)
    return int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def memory(container: Any) -> int:
    """Bytes that a container holds now."""
    stats = container.client.api.stats(container.id, stream=False, one_shot=True)
    return int(stats["memory_stats"]["usage"])


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def stay_on(processors: Sequence[int]) -> None:
    """Keep this process and those it starts on these processors."""
    os.sched_setaffinity(0, processors)
