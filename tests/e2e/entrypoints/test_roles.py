"""The image knows its roles: the reference's commands, planned and really started in it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from tests.e2e.conftest import Image, docker

CASES: list[dict[str, Any]] = json.loads((ROOT / "tests" / "cases" / "serve.json").read_text())
NAMES = [case["name"] for case in CASES]

# Written where `vllm` is found first: it notes how it was started, and then serves as vLLM would.
RECORDER = """\
#!/opt/vllm/bin/python
import http.server, json, os, pathlib, sys
os.chdir("/tmp")
pathlib.Path("health").touch()  # what SimpleHTTPRequestHandler then serves
record = {"argv": sys.argv, "env": dict(os.environ), "parent": os.getppid()}
pathlib.Path("/record", os.environ["CASE"] + ".json").write_text(json.dumps(record))
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def flags(argv: list[str]) -> dict[str, Any]:
    """`vllm serve MODEL --flag value …` as the cases have it: true for a switch, JSON as JSON."""
    found: dict[str, Any] = {}
    name = ""
    for token in argv[3:]:
        if token.startswith("--"):
            name = token
            assert name not in found
            found[name] = True
        else:
            found[name] = json.loads(token) if token.startswith("{") else token
    return found


def check_command(case: dict[str, Any], argv: list[str]) -> None:
    assert argv[1:3] == ["serve", case["model"]]
    assert flags(argv) == case["flags"]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_plan_in_the_image(case: dict[str, Any], a3: Image) -> None:
    plan = json.loads(a3.run("plan", "--format", "json", env=case["inputs"]).stdout)
    check_command(case, plan["argv"])
    assert case["env"].items() <= plan["env"].items()
    assert plan["role"] == case["inputs"]["ROLE"]


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("record")


@pytest.fixture(scope="session")
def docker_compose_file(tmp_path_factory: pytest.TempPathFactory, a3: Image, record: Path) -> str:
    """Every case as a service: the real image, the real entrypoint, a recorded vllm."""
    directory = tmp_path_factory.mktemp("compose")
    vllm = directory / "vllm"
    vllm.write_text(RECORDER)
    vllm.chmod(0o755)
    # The stand-in refuses to serve, and rightly; here nothing is served by it.
    # There is no NPU, and nobody leads the headless nodes.
    environment = {"CANN_STANDIN": "0", "PREFLIGHT": "off", "WAIT_TIMEOUT": "0"}
    service = {
        "image": a3.tag,
        "volumes": [f"{vllm}:/opt/vllm/bin/vllm:ro", f"{record}:/record"],
    }
    services = {
        case["name"]: {
            **service,
            "environment": {**environment, **case["inputs"], "CASE": case["name"]},
        }
        for case in CASES
    }
    path = directory / "compose.yaml"
    path.write_text(yaml.safe_dump({"services": services}))
    return str(path)


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return ["up --detach"]


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return "ascend-images-roles"


@pytest.fixture(scope="session")
def started(docker_services: Any, record: Path) -> dict[str, dict[str, Any]]:
    """Case → how its vllm was started."""

    def all_there() -> bool:
        return {path.stem for path in record.glob("*.json")} == set(NAMES)

    docker_services.wait_until_responsive(check=all_there, timeout=60, pause=0.2)
    time.sleep(0.2)
    return {path.stem: json.loads(path.read_text()) for path in record.glob("*.json")}


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_exec_in_the_image(
    case: dict[str, Any], started: dict[str, dict[str, Any]], a3: Image
) -> None:
    one = started[case["name"]]
    check_command(case, one["argv"])
    assert one["parent"] == 1  # the entrypoint is the server: only the init is above it
    baked = a3.run("-c", "printf %s $LD_LIBRARY_PATH", entrypoint="sh").stdout
    for name, value in case["env"].items():
        assert one["env"][name] == value.replace("$LD_LIBRARY_PATH", baked)


def test_a_stand_in_refuses_to_serve(a3: Image) -> None:
    answer = a3.run(env=CASES[0]["inputs"], check=False)
    assert answer.returncode == 78
    assert "stand-in" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_other_commands_run_as_they_are(a3: Image) -> None:
    assert a3.run("echo", "hello").stdout == "hello\n"


def test_a_wrong_role_is_one_line(a3: Image) -> None:
    answer = a3.run(env={"ROLE": "prefil"}, check=False)
    assert answer.returncode in (64, 78)
    answer = a3.run("plan", env={"ROLE": "prefil"}, check=False)
    assert answer.returncode == 64
    assert "prefill" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_argument_wins_over_variable_over_recipe(a3: Image) -> None:
    env = {**CASES[0]["inputs"], "PORT": "9000", "HCCL_BUFFSIZE": "1024"}
    plan = json.loads(a3.run("plan", "--format", "json", "--max-num-seqs", "7", env=env).stdout)
    assert flags(plan["argv"])["--port"] == "9000"
    assert flags(plan["argv"])["--max-num-seqs"] == "7"
    assert plan["env"].get("HCCL_BUFFSIZE", "1024") == "1024"


def test_the_image_lists_its_recipes_and_roles(a3: Image) -> None:
    recipes = json.loads(a3.run("recipes", "--format", "json").stdout)
    assert "qwen3-235b-a22b-w8a8/pd-3node-a3" in json.dumps(recipes)
    roles = json.loads(a3.run("roles", "--format", "json").stdout)
    for role in ("single", "leader", "headless", "prefill", "decode"):
        assert role in json.dumps(roles)


def test_every_case_is_up_at_once(docker_services: Any, started: dict[str, Any]) -> None:
    running = docker("ps", "--filter", "name=ascend-images-roles", "--format", "{{.Names}}").stdout
    assert len(running.split()) == len(CASES)  # pytest-docker takes them down after the session
