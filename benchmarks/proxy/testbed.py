"""The testbed: servers and proxies as containers in the host's network, pinned to CPUs."""

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
READY_TIMEOUT = 120.0  # seconds for a proxy; the example imports vLLM
IDLE = 0.3  # seconds without a new request, after which a measurement is complete


@dataclass(frozen=True)
class Processors:
    """The CPUs of the proxy, and those of the client and the servers."""

    proxy: tuple[int, ...]
    rest: tuple[int, ...]

    @classmethod
    def split(cls, all_: Sequence[int], proxy: int) -> Processors:
        """Give the first `proxy` CPUs to the proxy; a machine without more shares them."""
        return cls(tuple(all_[:proxy]), tuple(all_[proxy:]) or tuple(all_))


@dataclass(frozen=True)
class Target:
    """Where the client sends, and the container of the proxy, if any. `two`: it does both hops."""

    port: int
    two: bool
    container: Any = None

    def cpu(self) -> float:
        return cpu_seconds(self.container) if self.container else 0.0


class Testbed:
    """The containers of the benchmark."""

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
            healthcheck={"test": ["NONE"]},  # the image's expects the entrypoint
            volumes={str(BACKEND): {"bind": "/backend.py", "mode": "ro"}},
        )

    def start(self, way: Way) -> Target:
        """Start a proxy with the image's own entrypoint, as in docs/run.md."""
        if not way.proxy:
            return Target(self.servers, True)
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
        # An image on a stand-in for CANN would refuse to start.
        environment["CANN_STANDIN"] = "0"
        command = [*arguments, *way.arguments]
        container = self._run(command, self.processors.proxy, environment=environment)
        return Target(port, False, container)

    def wait(self, target: Target) -> None:
        """Wait for a completion. Raises UserError (70) with the proxy's log if there is none."""
        end = time.monotonic() + READY_TIMEOUT
        failure = ""
        while time.monotonic() < end:
            try:
                probe.Client(target.port, self.servers, target.two).whole(f"ready-{time.time_ns()}")
                return
            except (OSError, ValueError) as error:
                failure = str(error)
            if target.container:
                target.container.reload()
                if target.container.status == "exited":
                    break
            time.sleep(0.2)
        log = target.container.logs(tail=15).decode() if target.container else ""
        raise user_error("a proxy", f"is not ready: {failure}\n{log}", "", EX_SOFTWARE)

    def counts(self, run: str = "") -> dict[str, Any]:
        """What reached the servers since the last call; waits until no more requests arrive.

        `run`: the prefix of the prompts that count as waiting; earlier runs may have left some.
        """
        before, end = None, time.monotonic() + probe.TIMEOUT
        while time.monotonic() < end:
            now = probe.get(self.servers, "/counts")
            if now == before:
                break
            before = now
            time.sleep(IDLE)
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
def open_testbed(image: str, processors: Processors) -> Iterator[Testbed]:
    """Start the servers; removes all containers at the end. Raises UserError (69)."""
    try:
        client = docker.from_env(timeout=120)
        client.images.get(image)
    except NotFound:
        fix = "build it with `invoke build`"
        raise user_error(image, "is not in Docker", fix, EX_UNAVAILABLE) from None
    except DockerException as error:
        raise user_error("the Docker engine", str(error), "", EX_UNAVAILABLE) from None
    bed = Testbed(client, image, processors)
    try:
        bed.serve()
        yield bed
    except APIError as error:
        raise user_error("the Docker engine", str(error.explanation), "", EX_UNAVAILABLE) from None
    finally:
        bed.close()
        client.close()


def cpu_seconds(container: Any) -> float:
    """CPU seconds that all processes of a container have used."""
    stats = container.client.api.stats(container.id, stream=False, one_shot=True)
    return int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def memory(container: Any) -> int:
    """Bytes of memory that a container uses."""
    stats = container.client.api.stats(container.id, stream=False, one_shot=True)
    return int(stats["memory_stats"]["usage"])


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def pin_to(processors: Sequence[int]) -> None:
    """Pin this process and its children to these CPUs."""
    os.sched_setaffinity(0, processors)
