"""`dryrun`: ask the image's own vLLM and vllm-ascend whether this node would start."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from entrypoints.dryrun import report, request
from entrypoints.dryrun.request import Options
from entrypoints.findings import DATA, Refused
from entrypoints.launch.network import Host
from entrypoints.messages import refused
from entrypoints.plan import plan
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from entrypoints.dryrun.report import Report

HELP = """\
usage: dryrun [--format text|json] [--no-model] [--hbm GIB] [--allowance GIB] [FLAGS ...]

Ask this image's own vLLM and vllm-ascend whether the node of ROLE would start, with the same
variables and flags as a start. No NPU is touched, nothing is downloaded, and only a folder under
the temporary directory is written.

  --no-model       configuration only; do not build the model of each distinct rank
  --hbm GIB        memory of a device (default: what torch sees of the platform's)
  --allowance GIB  memory for activations, graphs and HCCL (default: an estimate)
  --nodes          read several nodes from stdin: [{"name", "variables", "arguments"}, ...]

exit codes: 0 would start, 65 upstream refuses, 64 variable or argument, 78 not an image to ask
"""

# The entrypoint's own interpreter ignores the paths that CANN and vLLM need.
_CODE = (
    "import sys; sys.path.append({home!r});"
    " from entrypoints.dryrun.upstream.__main__ import main; sys.exit(main())"
)
# The image's byte code is not checked against its sources; a patched source is to be found here.
_SOURCES = ("--check-hash-based-pycs", "always")
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(args: Sequence[str], environ: Mapping[str, str], form: str) -> tuple[str, int]:
    """The report and the exit code for the command's arguments."""
    options, several, rest = _options(args)
    nodes = _nodes(environ) if several else [("", dict(environ), list(rest))]
    if several and rest:
        raise refused(
            "bad-argument.nodes", why=f"give {rest[0]!r} in the nodes, not beside --nodes"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="dryrun-") as folder:
            reports = [
                _planned(name, variables, words, options, folder)
                for name, variables, words in nodes
            ]
            _ask(reports, options, environ)
    except OSError as error:
        raise refused("no-scratch", why=error.strerror or error) from None
    found = [one.as_data() for one in reports]
    text = report.as_json(found) if form == "json" else report.text(found)
    return text, DATA if any(one["refused"] for one in found) else 0


def _options(args: Sequence[str]) -> tuple[Options, bool, list[str]]:
    options, several, rest = Options(), False, list[str]()
    words = list(args)
    while words:
        word = words.pop(0)
        flag, joined, value = word.partition("=")
        if word == "--nodes":
            several = True
        elif word == "--no-model":
            options = options._replace(model=False)
        elif flag in ("--hbm", "--allowance"):
            given = value if joined else (words.pop(0) if words else "")
            number = _gib(flag, given)
            if flag == "--hbm":
                options = options._replace(hbm=number)
            else:
                options = options._replace(allowance=number)
        else:
            rest.append(word)
    return options, several, rest


def _gib(flag: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number < 1 << 20:
        raise refused("bad-argument.gib", flag, value=value, flag=flag)
    return number


def _nodes(environ: Mapping[str, str]) -> list[tuple[str, dict[str, str], list[str]]]:
    """Read the nodes from stdin. Their variables override the image's environment."""
    try:
        given = json.load(sys.stdin)
        if not isinstance(given, list):
            raise TypeError(f"it is a {type(given).__name__}")
        return [
            (
                str(one["name"]),
                {**environ, **{str(k): str(v) for k, v in one["variables"].items()}},
                [str(word) for word in one.get("arguments", ())],
            )
            for one in given
        ]
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise refused("bad-argument.nodes", why=error) from None


def _planned(
    name: str, variables: Mapping[str, str], tokens: Sequence[str], options: Options, folder: str
) -> Report:
    """Plan a node. Upstream's answer is still missing in the report."""
    try:
        launch = plan({**variables, "JEMALLOC": "0"}, tokens, _host(variables))
        if not launch.serves:
            return report.of_nothing(name, launch)
        return report.of_plan(name, launch, request.make(launch, variables, options, folder))
    except Refused as error:
        return report.of_refusal(name, variables, error)


def _host(variables: Mapping[str, str]) -> Host:
    """The network of the node, not of this machine."""
    address = variables.get("LOCAL_IP") or "127.0.0.1"
    nic = variables.get("NIC") or "eth0"
    return Host(lambda: [(nic, address)], lambda _: address)


def _ask(reports: list[Report], options: Options, environ: Mapping[str, str]) -> None:
    """Ask upstream about the nodes that serve, and add its answers to their reports."""
    asked = [one for one in reports if one.request is not None]
    if not asked:
        return
    wanted = {
        "model": options.model,
        "parallel": max(1, len(os.sched_getaffinity(0))),
        "nodes": [one.request.as_data() for one in asked if one.request],
    }
    for answer in _answers(json.dumps(wanted), environ):
        if "unusable" in answer:
            raise refused("unusable-image", why=answer["unusable"])
        if "node" in answer:
            asked[answer.pop("node")].answer = answer


def _answers(wanted: str, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Run upstream's code in a process and yield its answers.

    If the process fails, the last answer is `unusable` with the last line of its log.
    """
    import shutil

    python = shutil.which("python", path=environ.get("PATH")) or sys.executable
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [python, *_SOURCES, "-c", _CODE.format(home=_HOME)],
            env={**environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(wanted)  # if it has already ended, its exit code tells
        with process.stdout as stdout:
            for line in stdout:
                yield json.loads(line)
        if process.wait():
            log.seek(0)
            last = log.read().strip().splitlines()[-1:] or ["no output"]
            yield {"unusable": last[0]}
