"""Publish the small images of a directory, in a separate process that a test can kill.

The processes are forks of one that has imported everything: a test starts a hundred.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from common.errors import UserError
from images.build.inputs import Inputs
from images.publish import publish
from images.publish.publish import Image
from images.registry.client import HttpRepository
from images.registry.oci import MEDIA_TYPES, Layout
from tests.images.publish.publish_fakes import Part, built

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])


class Publishing:
    """A process that publishes, from the moment on at which it begins."""

    def __init__(self, *arguments: str, **env: str) -> None:
        self._answer, other = SERVER.Pipe(duplex=False)
        self._process = SERVER.Process(target=_run, args=(other, env, arguments))
        self._process.start()
        other.close()
        assert self._answer.recv() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        self._process.join(60)
        assert self.exit_code is not None

    def end(self) -> tuple[str, str]:
        """Wait for the end; what it printed, and what it said on stderr."""
        said = ("", "")
        try:
            assert self._answer.poll(60)
            said = self._answer.recv()
        except EOFError:  # it was killed
            pass
        self.wait()
        return said


def _run(answer: Connection, env: dict[str, str], arguments: tuple[str, ...]) -> None:
    os.environ.update(env)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(lambda: answer.send(None), *arguments)
        except Exception:
            traceback.print_exc()
            code = 1
    answer.send((out.getvalue(), err.getvalue()))
    sys.exit(code)


def main(begin: Callable[[], None], name: str, directory: str, types: str = "oci") -> int:
    what = json.loads((Path(directory) / "what.json").read_text())
    images = [Image(one["tag"], Inputs(**one["inputs"]), tuple(one["arches"]))
              for one in what["images"]]  # fmt: skip
    parts = [Part(**one) for one in what["parts"]]
    begin()
    repository = HttpRepository(name, pauses=(0.1, 0.2, 0.4))
    layout, media_types = Layout(Path(directory)), MEDIA_TYPES[types]
    try:
        steps = publish.plan(repository, images, built(parts), media_types)
        say = partial(print, file=sys.stderr)
        done = publish.Publisher(repository, layout, media_types, say).publish(steps)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps([{"tag": one.tag, "immutable": one.immutable_tag, "digest": one.digest,
                       "action": one.action} for one in done]))  # fmt: skip
    return 0
