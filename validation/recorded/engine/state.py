"""The state of a server: its counters, the prompts for the decode side, and its exit code."""

from __future__ import annotations

import json
import queue
import socket
import sys
import threading
import uuid
from typing import Any

from engine.options import Options

COUNTERS = (
    "prompt_tokens",
    "generation_tokens",
    "external_prefix_cache_queries",
    "external_prefix_cache_hits",
)


class TransferFailed(Exception):
    """The prompt could not be fetched from the prefill side."""


class State:
    """`broken`: a member of the group is lost. `ended` receives the exit code."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ready = threading.Event()
        self.broken = threading.Event()
        self.ended: queue.Queue[int] = queue.Queue()
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.requests = 0
        self._lock = threading.Lock()
        self._kept: dict[str, int] = {}

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def count(self, **added: int) -> None:
        with self._lock:
            for name, number in added.items():
                self.counts[name] += number

    # ---- transfer --------------------------------------------------------------------------------

    @property
    def role(self) -> str:
        """kv_producer, kv_consumer, kv_both, or empty without a transfer."""
        return str(self.options.transfer.get("kv_role") or "")

    def ports(self) -> range:
        """The ports of Mooncake's connector: one for each device of every local rank."""
        options = self.options
        each = options.tp * options.pp
        first = int(self.options.transfer.get("kv_port") or 14579) + options.start_rank * each
        return range(first, first + options.dp_local * each)

    def open_transfer(self) -> None:
        """Listen on the kv ports of a producer. Raises OSError if one is in use."""
        if self.role == "kv_producer":
            for port in self.ports():
                listener = socket.create_server(("0.0.0.0", port))
                threading.Thread(
                    target=self._serve_transfers, args=(listener,), daemon=True
                ).start()

    def keep(self, tokens: int) -> dict[str, Any]:
        """Keep a prompt, and return the parameters to fetch it with."""
        name = uuid.uuid4().hex
        with self._lock:
            self._kept[name] = tokens
        options = self.options
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": options.transfer.get("engine_id"),
            "remote_request_id": name,
            "remote_block_ids": list(range(-(-tokens // 128))),
            "remote_host": local_address(),
            "remote_port": self.ports().start,
        }

    def fetch(self, told: dict[str, Any], tokens: int) -> None:
        """Fetch a prompt. Raises TransferFailed."""
        where = f"{told.get('remote_host')}:{told.get('remote_port')}"
        try:
            address = (str(told["remote_host"]), int(told["remote_port"]))
            with socket.create_connection(address, timeout=5) as link:
                link.sendall((str(told["remote_request_id"]) + "\n").encode())
                answer = json.loads(link.makefile().readline() or "null")
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise TransferFailed(f"transfer from {where} failed: {error}") from None
        if answer != tokens:
            raise TransferFailed(f"{where} has {answer} tokens of the prompt, {tokens} are needed")
        self.count(external_prefix_cache_queries=tokens, external_prefix_cache_hits=tokens)

    def _serve_transfers(self, listener: socket.socket) -> None:
        while True:
            link, _ = listener.accept()
            with link:
                link.settimeout(5)
                try:
                    name = link.makefile().readline().strip()
                    with self._lock:
                        tokens = self._kept.pop(name, None)
                    link.sendall((json.dumps(tokens) + "\n").encode())
                except OSError as error:
                    self.say(f"transfer: {error}")


def local_address() -> str:
    """The address as in vLLM: VLLM_HOST_IP, else that of the default route."""
    import os

    given = os.environ.get("VLLM_HOST_IP")
    if given:
        return given
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
