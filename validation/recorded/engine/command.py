"""The command line: refuse what the real parser refuses, else start a server."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence

from engine import api, group, on_ray
from engine.options import Options
from engine.state import State
from entrypoints.findings import Finding
from entrypoints.inputs import arguments, catalogue, stack

USAGE = 2  # as argparse


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    if argv[:1] != ["serve"] or argv[1:2] == [] or argv[1].startswith("-"):
        return _refuse("the recorded engine supports only `vllm serve MODEL [flags]`")
    problems: list[Finding] = []
    release = stack.release(environ.get("VLLM_ASCEND_RELEASE"), problems)
    if release is None:
        return _refuse(problems[0].line())
    known = catalogue.load(release)
    given = arguments.parse(argv[2:], known.aliases, problems)
    given = [catalogue.resolve(flag, known) for flag in given]
    catalogue.check_flags(given, "", known, problems)
    if problems:
        return _refuse("; ".join(problem.line() for problem in problems))
    flags = arguments.merge({}, given, known.repeatable)
    return serve(_options(argv[1], flags, environ))


def serve(options: Options) -> int:
    signal.signal(signal.SIGTERM, lambda *_: _end("SIGTERM", 0))
    signal.signal(signal.SIGINT, lambda *_: _end("SIGINT", 0))
    state = State(options)
    _say(f"recorded vllm: {json.dumps(options.configuration)}")
    try:
        members = on_ray.Workers(state) if options.on_ray else group.Group(state)
        if options.headless or options.node_rank:
            threading.Thread(target=members.follow, daemon=True).start()
        else:
            state.open_transfer()
            server = api.bind(state)
            members.gather()
            state.ready.set()
            server.server_activate()
            threading.Thread(target=server.serve_forever, daemon=True).start()
            _say(f"Application startup complete on {options.host}:{options.port}")
    except OSError as error:
        _say(f"error: {error}")
        return 1
    code = state.ended.get()
    _say(f"ends with {code}")
    return code


def _options(model: str, flags: arguments.Flags, environ: Mapping[str, str]) -> Options:
    def text(name: str, default: str = "") -> str:
        return arguments.value_of(flags, f"--{name}") or default

    def number(name: str, default: int) -> int:
        return int(text(name) or default)

    dp = number("data-parallel-size", 1)
    rank = text("data-parallel-rank")
    names = flags["--served-model-name"][-1].values if "--served-model-name" in flags else (model,)
    transfer = arguments.json_of(flags, "--kv-transfer-config")
    return Options(
        model=model,
        names=names,
        host=text("host", "0.0.0.0"),
        port=number("port", 8000),
        tp=number("tensor-parallel-size", 1),
        pp=number("pipeline-parallel-size", 1),
        dp=dp,
        dp_local=1 if rank else number("data-parallel-size-local", dp),
        start_rank=int(rank) if rank else number("data-parallel-start-rank", 0),
        headless="--headless" in flags,
        external=bool(rank),
        address=text("data-parallel-address", "127.0.0.1"),
        rpc_port=number("data-parallel-rpc-port", 29550),
        nodes=number("nnodes", 1),
        node_rank=number("node-rank", 0),
        master=(text("master-addr", "127.0.0.1"), number("master-port", 29501)),
        longest=number("max-model-len", 4096),
        key=text("api-key") or environ.get("VLLM_API_KEY", ""),
        on_ray=text("distributed-executor-backend") == "ray",
        transfer=transfer if isinstance(transfer, dict) else {},
    )


def _refuse(message: str) -> int:
    print(f"vllm serve: error: {message}", file=sys.stderr)
    return USAGE


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _end(name: str, code: int) -> None:
    _say(f"{name}: ends")
    os._exit(code)
