"""Baking: what is asked of BuildKit, and a failure that says what to do."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from images.build.bake import bake
from images.build.progress import Progress
from tests import ROOT

SAMPLE = Path(__file__).parent / "samples" / "failed.rawjson"
TARGETS = {
    "b": {"context": ".", "target": "image", "tags": ["x:b"]},
    "a": {"context": ".", "target": "image", "tags": ["x:a"]},
}
Problems = Callable[..., list[str]]


@pytest.fixture
def baked(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(**options: Any) -> dict[str, Any]:
        return bake(TARGETS, tmp_path / "bake", Progress(io.StringIO()), **options)

    return run


def _failed_step(*log: str, error: str = "exit code: 1", name: str = "[layer-x 1/1] RUN y") -> str:
    data = base64.b64encode("".join(f"{line}\n" for line in log).encode()).decode()
    events = [
        {"vertexes": [{"digest": "1", "name": name, "started": "2026-01-05T10:00:00Z"}]},
        {"logs": [{"vertex": "1", "data": data}]},
        {
            "vertexes": [
                {
                    "digest": "1",
                    "name": name,
                    "completed": "2026-01-05T10:00:01Z",
                    "error": error,
                }
            ]
        },
    ]
    return "".join(json.dumps(event, indent=2) + "\n" for event in events)


# ---- what is asked -------------------------------------------------------------------------------

WRITE = (
    'while [ "$1" != --metadata-file ]; do shift; done; '
    """printf '{"a": {"containerimage.digest": "sha256:1"}}' > "$2" """
)


def test_all_targets_are_baked_at_once(
    docker: Any, tmp_path: Path, baked: Callable[..., dict[str, Any]]
) -> None:
    docker.answers("buildx bake *", run=WRITE)
    assert baked() == {"a": {"containerimage.digest": "sha256:1"}}
    file, metadata = (tmp_path / "bake" / f"{name}.json" for name in ("bake", "metadata"))
    assert docker.calls() == [
        f"buildx bake --progress=rawjson --file {file} --metadata-file {metadata}"
    ]
    assert json.loads(file.read_text()) == {
        "group": {"default": {"targets": ["a", "b"]}},
        "target": TARGETS,
    }


def test_the_file_does_not_depend_on_the_order_of_the_targets(docker: Any, tmp_path: Path) -> None:
    docker.answers("buildx bake *")
    texts = []
    for targets in (TARGETS, dict(reversed(TARGETS.items()))):
        bake(targets, tmp_path / "bake", Progress(io.StringIO()))
        texts.append((tmp_path / "bake" / "bake.json").read_text())
    assert texts[0] == texts[1]


def test_a_builder_and_no_cache(docker: Any, baked: Callable[..., dict[str, Any]]) -> None:
    docker.answers("buildx bake *")
    baked(builder="remote", no_cache=True)
    assert docker.calls()[0].endswith(" --builder remote --no-cache")


def test_an_earlier_runs_metadata_is_not_taken_for_this_ones(
    docker: Any, tmp_path: Path, baked: Callable[..., dict[str, Any]]
) -> None:
    docker.answers("buildx bake *")
    (tmp_path / "bake").mkdir()
    (tmp_path / "bake" / "metadata.json").write_text('{"a": {"containerimage.digest": "old"}}')
    assert baked() == {}


def test_progress_is_read_from_the_stream(docker: Any, tmp_path: Path) -> None:
    docker.answers("buildx bake *", err=SAMPLE.read_text())
    progress = Progress(io.StringIO())
    bake(TARGETS, tmp_path / "bake", progress)
    assert progress.stage_seconds()["tools"] == pytest.approx(3.5)


def test_a_step_lost_with_another_builds_session_runs_again(
    docker: Any, tmp_path: Path, baked: Callable[..., dict[str, Any]]
) -> None:
    """BuildKit ran it for a build that was interrupted."""
    lost, once = tmp_path / "lost", tmp_path / "once"
    lost.write_text(_failed_step(error="no active sessions") + "ERROR: failed to solve\n")
    fails = f"[ -e {once} ] || {{ touch {once}; cat {lost} >&2; exit 1; }}; "
    docker.answers("buildx bake *", run=fails + WRITE)
    assert baked() == {"a": {"containerimage.digest": "sha256:1"}}
    assert len(docker.calls()) == 2


def test_a_session_that_is_lost_again_is_an_error(
    docker: Any, baked: Callable[..., dict[str, Any]]
) -> None:
    docker.answers("buildx bake *", code=1, err=_failed_step(error="no active sessions"))
    with pytest.raises(UserError, match="layer-x: no active sessions"):
        baked()
    assert len(docker.calls()) == 2


# ---- ended from outside --------------------------------------------------------------------------

BUILDX = "echo $$ > {here}/docker.pid; sleep 300 & echo $! > {here}/buildx.pid; wait"
BUILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
from pathlib import Path
from invoke import Exit
from commands.command import ending
from images.build.bake import bake
from images.build.progress import Progress
try:
    with ending():
        bake({"a": {"context": "."}}, Path(sys.argv[1]), Progress())
except Exit as ended:
    sys.exit(ended.code)
"""


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_nothing_that_a_build_started_outlives_it(
    docker: Any, tmp_path: Path, ending: signal.Signals, code: int
) -> None:
    docker.answers("buildx bake *", run=BUILDX.format(here=tmp_path))
    command = [sys.executable, "-c", BUILD, str(tmp_path / "bake")]
    with subprocess.Popen(command, cwd=ROOT) as build:
        pids = [_read_soon(tmp_path / f"{name}.pid") for name in ("docker", "buildx")]
        assert all(map(_runs, pids))
        build.send_signal(ending)
        assert build.wait(30) == code
    assert not any(map(_runs, pids))


def _read_soon(path: Path) -> int:
    end = time.monotonic() + 30
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < end, f"{path.name} did not start"
        time.sleep(0.01)
    return int(path.read_text())


def _runs(pid: int) -> bool:
    """Whether it runs; one that ended and waits for its parent to ask does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# ---- failures ------------------------------------------------------------------------------------


def test_the_step_that_failed_and_what_to_do(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]]
) -> None:
    docker.answers("buildx bake *", err=SAMPLE.read_text(), code=1)
    (problem,) = problems_of(baked, 70)
    assert problem.startswith(
        "layer-libraries: error: Failed to fetch `numpy` | Hash mismatch for `numpy==1.26.4` | "
        "sha256:aaaa | sha256:bbbb (the file of the index differs from the lock: run invoke lock "
    )


@pytest.mark.parametrize(
    ("log", "remedy"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "invoke lock"),
        ("  Hash mismatch for `torch==2.8.0`", "do not trust an index that changes packages"),
        ("write /out/x: no space left on device", "docker builder prune"),
        ("tar: write error: No space left on device", "docker builder prune"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "--certificates FILE"),
        ("invalid peer certificate: UnknownIssuer", "--certificates FILE"),
        ("x509: certificate signed by unknown authority", "--certificates FILE"),
        ("exec /bin/sh: exec format error", "build on such a machine (--builder)"),
        ("dns error: failed to lookup address information", "--pip-index"),
        ("Temporary failure in name resolution", "--apt-mirror"),
        ("E: Could not connect to deb.example.com:80", "--apt-mirror"),
    ],
)
def test_the_remedy_for_what_a_step_said(
    docker: Any,
    problems_of: Problems,
    baked: Callable[..., dict[str, Any]],
    log: str,
    remedy: str,
) -> None:
    docker.answers("buildx bake *", err=_failed_step("working", log), code=1)
    (problem,) = problems_of(baked, 70)
    assert problem.startswith("layer-x: ")
    assert log.strip() in problem
    assert remedy in problem


def test_a_failure_nobody_foresaw_is_told_in_its_own_words(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]]
) -> None:
    docker.answers("buildx bake *", err=_failed_step(*map(str, range(20))), code=1)
    assert problems_of(baked, 70) == ["layer-x: 12 | 13 | 14 | 15 | 16 | 17 | 18 | 19"]


def test_a_step_without_a_log_is_told_by_its_error(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]]
) -> None:
    error = "failed to push: unexpected media type application/vnd.oci.image.layer.v1.tar+zstd"
    docker.answers(
        "buildx bake *", err=_failed_step(error=error, name="exporting to image"), code=1
    )
    (problem,) = problems_of(baked, 70)
    assert problem == (
        f"export: {error} (this registry does not accept zstd layers: --compression gzip)"
    )


def test_several_failures_are_told_at_once(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]]
) -> None:
    steps = [
        {"digest": str(n), "name": f"[layer-{n} 1/1] RUN x", "error": error}
        for n, error in enumerate(("boom", "bang", "context canceled"))
    ]
    docker.answers("buildx bake *", err=json.dumps({"vertexes": steps}, indent=2) + "\n", code=1)
    assert problems_of(baked, 70) == ["layer-0: boom", "layer-1: bang"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ERROR: failed to solve: no such blob", "docker buildx bake: ERROR: failed to solve: "),
        ("", "layer-0: failed to create lease: context canceled"),
    ],
)
def test_where_every_step_was_cancelled_buildx_says_why(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]], words: str, told: str
) -> None:
    error = "failed to create lease: context canceled"
    steps = [{"digest": "0", "name": "[layer-0 1/1] RUN x", "error": error}]
    event = json.dumps({"vertexes": steps}, indent=2)
    docker.answers("buildx bake *", err=f"{event}\n{words}\n", code=1)
    (problem,) = problems_of(baked, 70)
    assert problem.startswith(told)


@pytest.mark.parametrize(
    "words",
    [
        "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
        "Is the docker daemon running?",
        'ERROR: no builder "remote" found',
        pytest.param(
            "ERROR: permission denied while trying to connect to the Docker daemon socket at "
            "unix:///var/run/docker.sock",
        ),
    ],
)
def test_no_engine(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]], words: str
) -> None:
    docker.answers("buildx bake *", err=f"{words}\n", code=1)
    (problem,) = problems_of(baked, 69)
    assert problem.startswith(f"docker: no engine answers: {words}")


@pytest.mark.usefixtures("no_docker")
def test_no_docker_at_all(problems_of: Problems, baked: Callable[..., dict[str, Any]]) -> None:
    assert problems_of(baked, 69) == ["docker: is not installed (./setup.sh installs it)"]


def test_a_failure_before_any_step(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]]
) -> None:
    docker.answers("buildx bake *", err="Dockerfile:1\nERROR: unknown instruction: FRM\n", code=1)
    assert problems_of(baked, 70) == ["docker buildx bake: ERROR: unknown instruction: FRM"]


def test_a_warning_is_no_cause(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]]
) -> None:
    log = ("WARNING: an error may follow", "error: this one")
    docker.answers("buildx bake *", err=_failed_step(*log), code=1)
    assert problems_of(baked, 70) == ["layer-x: error: this one"]


def test_the_remedy_for_what_buildx_itself_said(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]]
) -> None:
    words = "ERROR: failed to copy files: write /var/lib/x: no space left on device"
    docker.answers("buildx bake *", err=f"{words}\n", code=1)
    (problem,) = problems_of(baked, 70)
    assert "docker builder prune" in problem


def test_a_failure_without_a_word(
    docker: Any, problems_of: Problems, baked: Callable[..., dict[str, Any]]
) -> None:
    docker.answers("buildx bake *", code=1)
    assert problems_of(baked, 70) == ["docker buildx bake: failed without output"]
