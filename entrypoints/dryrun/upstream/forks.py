"""Work in a forked process, which inherits the imports and leaves nothing behind."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any


class Ended(Exception):
    """The process ended without an answer."""


class Fork:
    """A process that calls `work` and sends back what it returns."""

    def __init__(self, work: Callable[..., Any], *args: Any) -> None:
        reader, writer = os.pipe()
        self.process = os.fork()
        if self.process:
            os.close(writer)
            self.pipe = os.fdopen(reader, "rb")
            return
        try:
            answer = pickle.dumps(work(*args))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)

    def result(self) -> Any:
        """Wait for the result. Raises Ended when there is none."""
        with self.pipe:
            answer = self.pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        if code:
            raise Ended(f"its process ended with {code}")
        return pickle.loads(answer)
