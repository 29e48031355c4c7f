"""From a launch to the running server: check the machine, wait for peers, exec the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from entrypoints.findings import ERROR, WARNING, Refused
from entrypoints.launch.model import Launch
from entrypoints.messages import refused
from entrypoints.running import process

# Seconds. Longer than vLLM waits for its engines, so that a late leader is not a failure here.
WAIT_TIMEOUT = 1800

Say = Callable[[str], None]


def start(launch: Launch, environ: Mapping[str, str], say: Say) -> int:
    """Run the server and return its exit code under SUPERVISE=1; otherwise exec it.

    Raises Refused: 78 when the machine does not fit, 69 when a peer is not there in time.
    """
    if environ.get("CANN_STANDIN") == "1" and launch.place is not None:
        raise refused("stand-in")
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
        from entrypoints.running import signals

        with signals.exit_on_signal(say, "ray"):
            for command in launch.before:
                _run(command, env, say)
            if timeout:
                from entrypoints.running import ray

                ray.wait(launch.npus, timeout, lambda: ray.status(env), say)
    say(f"start: {launch.title}")
    from entrypoints.running import health

    health.save(health.state_of(launch))
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
    process.execute(launch.argv, env)


def _preflight(launch: Launch, env: Mapping[str, str], mode: str, say: Say) -> None:
    if mode == "off":
        return
    from entrypoints import preflight

    findings = preflight.run(preflight.needs(launch, env))
    warned = (WARNING,) if mode == "enforce" else (WARNING, ERROR)
    for one in findings:
        if one.severity in warned:
            say(f"warning: {one.line()}")
    if mode == "enforce" and any(one.severity == ERROR for one in findings):
        raise Refused(findings)


def _run(command: Sequence[str], env: Mapping[str, str], say: Say) -> None:
    import subprocess

    say(f"run: {' '.join(command)}")
    try:
        code = subprocess.run(list(command), env=dict(env), check=False).returncode
    except OSError as error:
        reason = error.strerror or str(error)
        raise refused("cannot-run.not-started", command=command[0], reason=reason) from error
    if code:
        raise refused("failed", command=" ".join(command[:2]), code=code)
