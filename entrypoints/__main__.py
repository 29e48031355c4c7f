"""The command line of the entrypoint: run the server of ROLE, or a command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from entrypoints.findings import MACHINE, Refused, did_you_mean
from entrypoints.messages import refused

# What a command prints, and its exit code.
Answer = tuple[str, int]


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command line. Returns the exit code, unless it execs."""
    command = argv[0] if argv else ""
    try:
        if command in ("-h", "--help"):
            return _print(_help())
        if command in COMMANDS:
            text, code = COMMANDS[command](argv[1:], environ)
            return _print(text) or code
        if not command.startswith("-") and argv:
            return _exec(argv, environ)
        return _start(argv, environ)
    except Refused as error:
        for one in error.findings:
            _say(f"error: {one.line()}")
        return error.exit_code


def _start(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrypoints.plan import plan
    from entrypoints.running.start import start

    launch = plan(environ, argv[1:] if argv[:1] == ["--"] else argv)
    return start(launch, environ, _say)


def _exec(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exec any other command; 127 when it is not found, 126 when it cannot be run.

    The command also gets the variables that upstream's image sets. The container's own win.
    """
    from entrypoints.inputs import stack
    from entrypoints.running.process import execute

    release = stack.release(environ.get("VLLM_ASCEND_RELEASE"), [])
    platform = stack.platform(environ.get("ASCEND_PLATFORM"), [])
    own = stack.upstream_env(release, platform) if release else {}
    execute(argv, {**own, **environ}, COMMANDS)


def _plan(args: Sequence[str], environ: Mapping[str, str]) -> Answer:
    if args[:1] in (["-h"], ["--help"]):
        return _help(), 0
    form, rest = _format(args, ("text", "json", "env"))
    from entrypoints import printing
    from entrypoints.plan import plan

    launch = plan(environ, rest)
    text = {"text": printing.plan_text, "json": printing.plan_json, "env": printing.plan_env}[form](
        launch
    )
    return text, 0


def _preflight(args: Sequence[str], environ: Mapping[str, str]) -> Answer:
    """Check the machine for what would run; 78 when a check fails."""
    form, rest = _format(args, ("text", "json"))
    from entrypoints import preflight
    from entrypoints.plan import plan
    from entrypoints.preflight import report

    launch = plan(environ, rest)
    found = preflight.run(preflight.needs(launch, launch.environment(environ)))
    if form == "json":
        text = json.dumps(report.as_data(found), indent=2) + "\n"
    else:
        text = report.text(found)
    return text, MACHINE if report.failed(found) else 0


def _health(args: Sequence[str], environ: Mapping[str, str]) -> Answer:
    """Whether the server here is ready (0), or starting or broken (1)."""
    form = _only_format(args)
    from entrypoints.plan import plan
    from entrypoints.running import health

    found = health.now(lambda: health.state_of(plan(environ)))
    code = 0 if found.state == "ready" else 1
    return health.as_json(found) if form == "json" else health.text(found), code


def _dryrun(args: Sequence[str], environ: Mapping[str, str]) -> Answer:
    """Ask the image's vLLM and vllm-ascend whether this node would start; 65 when it would not."""
    from entrypoints.dryrun import command

    if args[:1] in (["-h"], ["--help"]):
        return command.HELP, 0
    form, rest = _format(args, ("text", "json"))
    return command.run(rest, environ, form)


def _recipes(args: Sequence[str], _: Mapping[str, str]) -> Answer:
    form, names = _format(args, ("text", "json"))
    for name in names:
        if name.startswith("-"):
            raise refused("bad-argument.not-a-name", argument=name)
    from entrypoints import library

    found = library.find(names)
    if form == "json":
        return library.as_json(found), 0
    return library.details(found) if names else library.table(found), 0


def _roles(args: Sequence[str], _: Mapping[str, str]) -> Answer:
    form = _only_format(args)
    from entrypoints import printing

    return printing.roles_json() if form == "json" else printing.roles_text(), 0


COMMANDS: dict[str, Callable[[Sequence[str], Mapping[str, str]], Answer]] = {
    "plan": _plan,
    "dryrun": _dryrun,
    "preflight": _preflight,
    "health": _health,
    "recipes": _recipes,
    "roles": _roles,
}


def _help() -> str:
    from entrypoints import printing

    return printing.help_text()


def _format(args: Sequence[str], known: Sequence[str]) -> tuple[str, list[str]]:
    """The value of --format, and the other arguments. Ignores everything after `--`."""
    form, rest = known[0], list[str]()
    words = list(args)
    while words:
        word = words.pop(0)
        if word == "--":
            return form, rest + words
        if word == "--format":
            form = words.pop(0) if words else ""
        elif word.startswith("--format="):
            form = word[len("--format=") :]
        else:
            rest.append(word)
        if form not in known:
            raise refused("bad-argument.not-a-format", form=form, known=did_you_mean(form, known))
    return form, rest


def _only_format(args: Sequence[str]) -> str:
    form, rest = _format(args, ("text", "json"))
    if rest:
        raise refused("bad-argument.only-format", argument=rest[0])
    return form


def _print(text: str) -> int:
    """Write to stdout. Bytes of the environment that are not UTF-8 stay as they are."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "backslashreplace")
    try:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
