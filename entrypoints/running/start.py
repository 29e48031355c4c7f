"""From a launch to the running server: check the machine, wait for peers, become the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from entrypoints.launch.plan import Launch
from entrypoints.problems import MACHINE, Problem, Refused
from entrypoints.running import process

# Seconds. Longer than vLLM's own wait for its engines, so that a late leader is no failure here.
WAIT_TIMEOUT = 1800

Say = Callable[[str], None]


def start(launch: Launch, environ: Mapping[str, str], say: Say) -> int:
    """Returns the server's exit code under SUPERVISE=1; otherwise becomes the server.

    Raises Refused: 78 when the machine does not fit, 69 when a peer is not there in time.
    """
    if environ.get("CANN_STANDIN") == "1" and launch.place is not None:
        message = "this image holds a stand-in for CANN, so no server can start from it"
        fix = "use an image built on CANN; the proxy, `plan` and other commands do work here"
        raise Refused([Problem("stand-in", "image", message, fix, exit_code=MACHINE)])
    for warning in launch.warnings:
        say(f"warning: {warning.line()}")
    settings = launch.context.settings
    env = launch.environment(environ)
    _preflight(launch, env, settings.preflight or "enforce", say)
    timeout = WAIT_TIMEOUT if settings.wait_timeout is None else settings.wait_timeout
    if launch.peers and timeout:
        from entrypoints.running import wait

        wait.wait(launch.peers, timeout, say)
    if launch.before:
        from entrypoints.running import stopping

        with stopping.at_once(say, "ray"):
            for command in launch.before:
                _run(command, env, say)
            if timeout:
                _wait_for_npus(launch.npus, timeout, env, say)
    say(f"start: {launch.title}")
    from entrypoints.running import health

    health.save(health.watch(launch))
    if settings.supervise:
        from entrypoints.running import supervise

        return supervise.run(
            launch.argv,
            env,
            drain=settings.drain_timeout,
            leader=launch.leader,
            say=say,
            scheme=launch.scheme,
        )
    process.become(launch.argv, env)


def _preflight(launch: Launch, env: Mapping[str, str], mode: str, say: Say) -> None:
    if mode == "off":
        return
    from entrypoints import preflight
    from entrypoints.preflight.finding import FAILED, WARNING

    findings = preflight.run(preflight.needs(launch, env))
    told = (WARNING,) if mode == "enforce" else (WARNING, FAILED)
    for finding in findings:
        if finding.state in told:
            say(f"warning: {finding.line()}")
    bad = [finding.problem() for finding in findings if finding.state == FAILED]
    if bad and mode == "enforce":
        raise Refused(bad)


def _run(command: Sequence[str], env: Mapping[str, str], say: Say) -> None:
    import subprocess

    say(f"run: {' '.join(command)}")
    try:
        code = subprocess.run(list(command), env=dict(env), check=False).returncode
    except OSError as error:
        message, fix = error.strerror or str(error), f"use an image that holds {command[0]}"
        raise Refused([Problem("cannot-run", command[0], message, fix, "", MACHINE)]) from error
    if code:
        message, fix = f"ended with code {code}", "its own output above says why"
        raise Refused([Problem("failed", " ".join(command[:2]), message, fix, "", MACHINE)])


def _wait_for_npus(needed: int, timeout: float, env: Mapping[str, str], say: Say) -> None:
    import subprocess
    import time

    from entrypoints.launch import ray

    def status() -> str:
        done = subprocess.run(["ray", "status"], env=dict(env), capture_output=True, text=True)
        return done.stdout

    ray.wait(needed, timeout, status, say, time.monotonic, time.sleep)
