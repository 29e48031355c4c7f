"""A cluster on the real engine: up, status, a node that fails, down; and a foreign container."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.checks import load_deployment
from clusters.live.engine import connect
from clusters.live.up import CALL
from clusters.render.docker import command
from clusters.runtime.spec import specs
from tests import ROOT
from tests.e2e.conftest import docker, invoke

CHECK = 'HEALTHCHECK --interval=1s --timeout=2s CMD ["/bin/sh", "-c", "[ -e /tmp/ready ]"]'
# A server as far as an engine can tell: healthy after a while, ends at once on SIGTERM.
SERVE = "trap 'exit 0' TERM; echo serving; : > /tmp/ready; while :; do sleep 0.1; done"


def tree(*programs: str) -> bytes:
    """A layer with programs of this machine and the libraries that they are linked with."""
    linked = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True)
    files = [*programs, *re.findall(r"(/\S+) \(", linked.stdout)]
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as archive:
        for file in dict.fromkeys(files):
            archive.add(file)
        archive.add("/bin/dash", "/bin/sh")
        for name in ("tmp", "proc", "dev"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(folder)
    return layer.getvalue()


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    tag = f"cluster-test:{uuid.uuid4().hex[:8]}"
    change = f"--change={CHECK}"
    subprocess.run(
        ["docker", "import", change, "-", tag],
        input=tree("/bin/dash", "/bin/sleep"),
        capture_output=True,
        check=True,
    )
    yield tag
    docker("rmi", "-f", tag)


class Cluster:
    """A cluster file of two nodes on this machine's engine."""

    def __init__(self, folder: Path, image: str) -> None:
        self.name = f"up-{uuid.uuid4().hex[:8]}"
        self.path, self.image = folder / "cluster.yaml", image
        self.write()

    def write(self, serve: str = SERVE, second: str = SERVE, restart: str = "no") -> None:
        document = {
            "name": self.name,
            "image": self.image,
            "platform": "a3",
            "nic": "eth0",
            "model": "/m",
            "sizes": {"tp": 1},
            "run": {"restart": restart, "shm": "1g", "drain_timeout": 1},
            "secrets": {"SITE_KEY": {"env": "OUR_KEY"}},
            "options": ["--ulimit", "nofile=1024:2048", "-v", f"{self.path.parent}:/here:ro"],
            "nodes": {"left": "10.0.0.1", "right": {"address": "10.0.0.2", "context": "default"}},
            "instances": {
                "one": {"role": "single", "nodes": ["left"], "command": ["sh", "-c", serve]},
                "two": {"role": "single", "nodes": ["right"], "command": ["sh", "-c", second]},
            },
        }
        self.path.write_text(json.dumps(document))

    def invoke(self, what: str, *options: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "OUR_KEY": "s3cret"}
        return invoke(f"cluster.{what}", str(self.path), *options, env=env)

    def up(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.invoke("up", "--no-devices", *options)

    def there(self) -> dict[str, str]:
        """Name → id of every container of the cluster."""
        label = f"label=ascend.cluster={self.name}"
        said = docker("ps", "-a", "--no-trunc", "--filter", label, "--format", "{{.Names}} {{.ID}}")
        return dict(line.split() for line in said.stdout.splitlines())


@pytest.fixture
def made(tiny: str, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, tiny)
    yield made
    docker("rm", "-f", *made.there().values(), check=False)


@pytest.fixture
def foreign(tiny: str) -> Iterator[str]:
    """A container of someone else, with the labels of another cluster."""
    id = docker("run", "-d", "--label=ascend.cluster=other", tiny, "sh", "-c", SERVE).stdout.strip()
    yield id
    docker("rm", "-f", id, check=False)


def runs(id: str) -> bool:
    return docker("inspect", "-f", "{{.State.Running}}", id).stdout.strip() == "true"


def test_up_status_change_and_down(made: Cluster, foreign: str) -> None:
    one, two = f"{made.name}-one-0", f"{made.name}-two-0"
    answer = made.up()
    assert answer.returncode == 0, answer.stderr
    assert f"{made.name}: 2 run, 2 ready" in answer.stdout
    assert f"left: {one}: running, healthy" in answer.stderr
    first = made.there()
    about = json.loads(docker("inspect", first[one]).stdout)[0]
    assert "SITE_KEY=s3cret" in about["Config"]["Env"]
    assert about["Config"]["StopTimeout"] == 31
    assert about["HostConfig"]["ShmSize"] == 1 << 30
    assert about["HostConfig"]["NetworkMode"] == "host"
    assert about["HostConfig"]["Ulimits"] == [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]
    assert "s3cret" not in answer.stdout + answer.stderr

    status = made.invoke("status", "--format", "json")
    assert status.returncode == 0, status.stderr
    rows = {row["container"]: row for row in json.loads(status.stdout)}
    assert {name: row["node"] for name, row in rows.items()} == {one: "left", two: "right"}
    assert {row["health"] for row in rows.values()} == {"healthy"}
    assert {row["log"] for row in rows.values()} == {"serving"}

    again = made.up()
    assert again.returncode == 0, again.stderr
    assert made.there() == first

    made.write(second=f": changed; {SERVE}")
    changed = made.up()
    assert changed.returncode == 0, changed.stderr
    assert f"{two}: replaced: its configuration has changed" in changed.stderr
    assert made.there()[one] == first[one]
    assert made.there()[two] != first[two]

    docker("kill", made.there()[two])
    assert made.invoke("status").returncode == 70

    assert made.invoke("down", "--format", "yaml").returncode == 64
    down = made.invoke("down", "--format", "json")
    assert down.returncode == 0, down.stderr
    assert [(row["container"], row["did"]) for row in json.loads(down.stdout)] == [
        (one, "stopped and removed"),
        (two, "removed"),
    ]
    assert made.there() == {}
    assert runs(foreign)


@pytest.mark.parametrize("restart", ["no", "on-failure"])
def test_a_node_that_fails_is_told_and_all_of_it_removed(
    made: Cluster, foreign: str, restart: str
) -> None:
    made.write(second="echo no such model; exit 65", restart=restart)
    answer = made.up()
    assert answer.returncode == 70
    assert f"error: right: {made.name}-two-0: exit code 65: the recipe is wrong" in answer.stderr
    assert "\n  no such model\n" in answer.stderr
    assert f"left: {made.name}-one-0: stopped and removed" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert made.there() == {}
    assert runs(foreign)


def test_what_the_rendered_command_started_is_left_alone(made: Cluster) -> None:
    for spec in specs(load_deployment(made.path), npus=False).values():
        env = {**os.environ, "OUR_KEY": "s3cret"}
        subprocess.run(["/bin/sh"], input=command(spec), text=True, env=env, check=True)
    before = made.there()
    same = [json.loads(docker("inspect", id).stdout)[0] for id in before.values()]
    answer = made.up()
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("kept, it runs as in the file") == 2
    assert made.there() == before

    docker("rm", "-f", *before.values())
    assert made.up().returncode == 0
    for one in same:
        other = json.loads(docker("inspect", one["Name"]).stdout)[0]
        other["Config"]["Labels"].pop(CALL)
        assert configured(other) == configured(one)


def configured(about: dict[str, Any]) -> dict[str, Any]:
    """What the engine was told; it writes what was left out as null or empty."""
    config = {**about["Config"], **about["HostConfig"]}
    config["Env"] = sorted(config["Env"])
    own = ("Hostname", "AttachStdout", "AttachStderr", "ConsoleSize")  # of the client, or the id
    return {key: value for key, value in config.items() if value and key not in own}


def test_the_exit_code_of_one_that_runs_again(tiny: str) -> None:
    once = f"[ -e /tmp/again ] || {{ : > /tmp/again; exit 65; }}; {SERVE}"
    id = docker("run", "-d", "--restart=on-failure", tiny, "sh", "-c", once).stdout.strip()
    try:
        engine = connect("")
        until = time.monotonic() + 120
        while time.monotonic() < until:
            seen = engine.container(id)
            if seen and seen.restarts and seen.state == "running":
                break
            time.sleep(0.1)
        assert seen
        assert (seen.state, seen.exit_code) == ("running", 0)
        assert engine.exit_code(seen) == 65
    finally:
        docker("rm", "-f", id)


def test_without_npus_the_engine_s_reason_is_told(made: Cluster) -> None:
    answer = made.invoke("up")
    assert answer.returncode == 70
    assert "the engine cannot start it" in answer.stderr
    assert made.there() == {}


def test_a_name_that_is_taken_by_another_stops_everything_first(made: Cluster, tiny: str) -> None:
    name = f"{made.name}-two-0"
    docker("run", "-d", "--name", name, tiny, "sh", "-c", SERVE)
    try:
        answer = made.up()
        assert answer.returncode == 69
        assert f"right: a container '{name}' exists, but not of this cluster" in answer.stderr
        assert made.there() == {}
        assert runs(name)
    finally:
        docker("rm", "-f", name)


def test_an_interrupt_removes_what_was_started(made: Cluster) -> None:
    made.write(second="trap 'exit 0' TERM; echo loading; while :; do sleep 0.1; done")
    command = [sys.executable, "-m", "invoke", "cluster.up", str(made.path), "--no-devices"]
    env = {**os.environ, "OUR_KEY": "s3cret"}
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    until = time.monotonic() + 120
    logs = ("logs", f"{made.name}-two-0")
    while "loading" not in docker(*logs, check=False).stdout and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "terminated" in said
    assert made.there() == {}


def test_engines_that_cannot_be_reached_are_told_at_once(made: Cluster) -> None:
    document = json.loads(made.path.read_text())
    document["nodes"]["left"] = {"address": "10.0.0.1", "context": "unix:///nowhere.sock"}
    document["nodes"]["right"]["context"] = "nowhere"
    made.path.write_text(json.dumps(document))
    for what in ("up", "status", "down"):
        answer = made.invoke(what)
        assert answer.returncode == 69, what
        assert "error: left: the Docker engine of unix:///nowhere.sock cannot" in answer.stderr
        assert "error: right: the Docker engine of nowhere cannot be reached: no" in answer.stderr
        assert "Traceback" not in answer.stderr


def test_an_engine_over_ssh(made: Cluster, tmp_path: Path) -> None:
    """With an `ssh` that runs the command here."""
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    fake.chmod(0o755)
    document = json.loads(made.path.read_text())
    document["nodes"]["right"]["context"] = "ssh://ops@right.example"
    made.path.write_text(json.dumps(document))
    env = {**os.environ, "OUR_KEY": "k", "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    for what, *options in (["up", "--no-devices"], ["status"], ["down"]):
        answer = invoke(f"cluster.{what}", str(made.path), *options, env=env)
        assert answer.returncode == 0, answer.stderr
    assert made.there() == {}
