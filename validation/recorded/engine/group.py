"""The nodes of a server: they connect to the leader, and notice when one of them is lost.

As in vLLM, the leader serves only when every rank has connected, and then closes its rpc port;
a follower waits silently; the leader refuses nodes with other sizes.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from typing import Any

from engine.state import State

RETRY = 0.2
TIMEOUT = 300.0  # vLLM's five minutes for the front end


class Group:
    def __init__(self, state: State) -> None:
        self.state, self.options = state, state.options
        self._links: list[socket.socket] = []

    @property
    def _rendezvous(self) -> tuple[str, int]:
        options = self.options
        return options.master if options.nodes > 1 else (options.address, options.rpc_port)

    def gather(self) -> None:
        """Wait, as the leader, until every rank or node has connected."""
        options = self.options
        wanted = options.nodes if options.nodes > 1 else options.dp
        have = {0} if options.nodes > 1 else self._ranks(options.start_rank, options.dp_local)
        if options.start_rank:  # one rank under external data parallel
            threading.Thread(target=self.follow, daemon=True).start()
            self.state.ready.wait()
        if options.start_rank or len(have) == wanted:
            return
        with socket.create_server(("0.0.0.0", self._rendezvous[1])) as listener:
            while len(have) < wanted:
                link, address = listener.accept()
                hello = link.makefile().readline()
                if not hello:  # a probe of the port
                    continue
                come = json.loads(hello)
                if come.get("configuration") != options.configuration:
                    self._fail(link, f"Configuration mismatch detected for engine {address[0]}")
                new = set(range(come["first"], come["first"] + come["count"]))
                if new & have or not new <= set(range(wanted)):
                    self._fail(link, f"HELLO message from remote engine {min(new)}, not expected")
                have |= new
                self._links.append(link)
                self.state.say(f"{address[0]} came with {sorted(new)}: {len(have)} of {wanted}")
        for link in self._links:
            link.sendall(b"ready\n")
            threading.Thread(target=self._watch, args=(link,), daemon=True).start()

    def follow(self) -> None:
        """Run as a follower until the leader is lost."""
        options = self.options
        first, count = options.start_rank, options.dp_local
        if options.nodes > 1:
            first, count = options.node_rank, 1
        hello = {"first": first, "count": count, "configuration": options.configuration}
        link = self._connect()
        if link is None:
            self.state.say("Did not receive response from front-end process within 5 minutes")
            self.state.ended.put(0)
            return
        link.sendall((json.dumps(hello) + "\n").encode())
        threading.Thread(target=self._core, args=(link,), daemon=True).start()
        lines = link.makefile()
        if not lines.readline():
            self.state.say("the leader is gone before it was ready")
            self.state.ended.put(1)
            return
        self.state.say("ready")
        self.state.ready.set()
        lines.readline()
        self.state.say("the leader is gone")
        self.state.broken.set()
        time.sleep(30)  # vLLM's followers also stay for a while
        self.state.ended.put(1)

    def _core(self, link: socket.socket) -> None:
        """Start a process with the title and the connection of vLLM's engine core.

        The entrypoint checks the health of a headless node by it.
        """
        title = f"VLLM::EngineCore_DP{self.options.start_rank}"
        core = subprocess.Popen(  # reads until this process is gone
            [title], executable="/bin/cat", stdin=subprocess.PIPE, pass_fds=[link.fileno()]
        )
        self.state.say(f"engine core has died: {core.wait()}")
        self.state.ended.put(1)

    def _connect(self) -> socket.socket | None:
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            try:
                link = socket.create_connection(self._rendezvous, timeout=2)
            except OSError:
                time.sleep(RETRY)
            else:
                link.settimeout(None)
                link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                return link
        return None

    def _watch(self, link: socket.socket) -> None:
        link.makefile().readline()
        self.state.say("a member of the group is gone")
        self.state.broken.set()

    def _fail(self, link: Any, message: str) -> None:
        self.state.say(message)
        link.close()
        raise OSError(message)

    @staticmethod
    def _ranks(first: int, count: int) -> set[int]:
        return set(range(first, first + count))
