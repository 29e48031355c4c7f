"""cluster.plan: what the nodes share and in what they differ, as text, diff and data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clusters.deployment import Deployment
from clusters.ranges import compact
from clusters.show import output, plan
from clusters.show.containers import variables
from clusters.show.output import Line, wrap
from common.errors import UserError
from entrypoints import printing
from tests import ROOT
from tests.clusters.compiled_clusters import EXAMPLES, check_golden, compiled, example, invoke
from tests.clusters.hand_made_clusters import cluster, container, deployment, node

ALL = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
COMMAND_OF_ITS_OWN = """\
name: x
release: v0.13.0rc1
platform: a3
nic: eth0
model: m
nodes: {one: 10.0.0.1}
instances:
  serve: {role: single, nodes: [one], command: [serve-it, --api-key, hush, --port, "80"]}
"""


def text(made: Deployment, node: str = "") -> str:
    return output.join(plan.text(made, node))


# ---- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pd-3node", "ray", "kubernetes"])
def test_the_plan_of_an_example(name: str) -> None:
    check_golden(f"plan/{name}.txt", text(example(name)))


def test_a_second_node_is_the_lines_in_which_it_differs() -> None:
    shown = text(example("multi-node"))
    head, first, second = shown.split("\n\n  ")
    assert "serve: 2 containers, which share" in head
    assert "    vllm serve vllm-ascend/" in head
    assert "vllm serve" not in first + second
    assert second.partition("    command\n")[2].split() == [
        *("--headless", "--data-parallel-start-rank", "1")
    ]
    assert shown.count("--seed 1024") == 1


def test_what_all_say_alike_and_what_one_says_are_the_whole_command() -> None:
    """Nothing gets lost between what is shared and what is a node's own."""
    for one in plan.data(example("pd-3node"))["containers"]:
        whole = text(example("pd-3node"), one["node"])
        for row in printing.command_lines(one["argv"]):
            assert row in whole


def test_programs_that_differ_share_no_flags() -> None:
    """`ray start` of a worker and of the head, which then runs vllm, are shown each as a whole."""
    shown = text(example("ray"))
    assert shown.count("      ray start\n") == 2
    assert shown.count("      vllm serve ") == 1


def test_one_node_alone_is_shown_whole() -> None:
    shown = text(example("pd-3node"), "node3")
    assert "share" not in shown
    assert "    vllm serve vllm-ascend/Qwen3-235B-A22B-w8a8\n" in shown
    assert "      --headless\n" in shown
    assert "node2" not in shown


def test_an_unknown_node_is_refused_and_the_near_ones_named() -> None:
    with pytest.raises(
        UserError, match=r"'nod1' is not a node of this cluster \(did you mean"
    ) as e:
        text(example("pd-3node"), "nod1")
    assert e.value.exit_code == 64


@pytest.mark.parametrize("name", ALL)
def test_no_stand_in_address_is_shown(name: str) -> None:
    made = example(name)
    shown = text(made) + "\n".join(plan.diff(made)) + json.dumps(plan.data(made))
    assert "198.18." not in shown
    assert ("@prefill-0-0" in shown) == (name == "kubernetes")


def test_a_command_of_its_own_is_shown_as_it_stands() -> None:
    made = compiled(COMMAND_OF_ITS_OWN)
    assert "    serve-it\n      --api-key '***'\n      --port 80" in text(made)
    (one,) = plan.data(made)["containers"]
    assert one["argv"] == ["serve-it", "--api-key", "***", "--port", "80"]


def test_a_refused_container_is_shown_as_far_as_it_goes() -> None:
    """Its variables; the errors are among the findings."""
    made = deployment(cluster((node("one"),)), container(node("one")))
    assert "refused: see the findings about the cluster" in text(made)
    assert "    ROLE=single" in text(made)
    (one,) = plan.data(made)["containers"]
    assert (one["role"], one["env"], one["argv"], one["ports"]) == ("single", None, None, {})


# ---- secrets -------------------------------------------------------------------------------------


def test_secrets_are_masked_wherever_they_stand() -> None:
    recipe = {
        "extends": "r",
        "roles": {"single": {"env": {"X_TOKEN": "hush1"}, "args": {"api-key": "hush2"}}},
    }
    env = {"ROLE": "single", "RECIPE": json.dumps(recipe), "VLLM_API_KEY": "hush3", "A": "{no json"}
    one = node("one")
    made = deployment(
        cluster((one,)),
        container(one, env=env, arguments=("--api_key=hush4",), secrets=("DATABASE",)),
    )
    shown = text(made) + json.dumps(plan.data(made))
    assert "hush" not in shown
    found = variables(made.containers[0])
    assert (found["DATABASE"], found["A"]) == ("***", "{no json")
    assert json.loads(found["RECIPE"])["extends"] == "r"


def test_a_recipe_without_a_secret_is_shown_as_it_is() -> None:
    one = node("one")
    written = '{"extends":"r",   "roles": {}}'
    assert variables(container(one, env={"RECIPE": written}))["RECIPE"] == written


# ---- diff, data ----------------------------------------------------------------------------------


def test_the_differences_between_the_nodes_of_an_instance() -> None:
    check_golden("plan/pd-3node.diff", "\n".join(plan.diff(example("pd-3node"))))


def test_one_container_differs_from_nothing() -> None:
    assert not list(plan.diff(example("single")))


@pytest.mark.parametrize("name", ALL)
def test_data_hold_each_plan_as_the_entrypoint_gives_it(name: str) -> None:
    made = example(name)
    data = json.loads(json.dumps(plan.data(made)))
    assert [one["name"] for one in data["containers"]] == [one.name for one in made.containers]
    assert len(data["findings"]) == len(made.findings)
    for one, shown in zip(made.containers, data["containers"], strict=True):
        assert one.launch is not None
        planned = json.loads(printing.plan_json(one.launch))
        assert shown["node"] == one.node.name
        if name != "kubernetes":
            assert {key: shown[key] for key in planned} == planned
            assert dict(one.env).items() <= shown["variables"].items()


# ---- lines ---------------------------------------------------------------------------------------


def test_long_lines_break_after_blanks_and_commas() -> None:
    rows = list(wrap(Line("--config {'a':1,'bcdef':2,'g':3}", 1), 20))
    assert rows == ["  --config {'a':1,", "      'bcdef':2,", "      'g':3}"]


def test_what_cannot_break_is_cut() -> None:
    rows = list(wrap(Line("x" * 30, 1), 12))
    assert all(len(row) <= 12 for row in rows)
    assert "".join(row.strip() for row in rows) == "x" * 30


def test_nothing_is_wrapped_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_lines([Line("x" * 300, 1, "bold")])
    assert capsys.readouterr().out == f"  {'x' * 300}\n"


@pytest.mark.parametrize(
    ("numbers", "shown"), [((), ""), ((3,), "3"), (range(8), "0-7"), ((9, 0, 1, 4), "0-1,4,9")]
)
def test_compact(numbers: tuple[int, ...], shown: str) -> None:
    assert compact(numbers) == shown


# ---- the command ---------------------------------------------------------------------------------


WRONG = """\
name: x
release: v0.13.0rc1
platform: a3
nic: eth0
recipe: qwen3-235b-a22b/multi-node
nodes: {one: 10.0.0.1, two: 10.0.0.2}
instances:
  serve: {nodes: [one, two], args: {max-num-seqz: 4}}
"""


def test_errors_do_not_hide_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    answer = invoke("cluster.plan", str(file))
    assert answer.returncode == 65
    assert f"{file}:8: error: instances.serve.args.max-num-seqz: " in answer.stderr
    assert "two (10.0.0.2, a3): x-serve-1, headless" in answer.stdout
    assert "LEADER_IP=10.0.0.1" in answer.stdout


@pytest.mark.parametrize("format", plan.FORMATS)
def test_a_plan_is_printed_or_written_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    made, out = example("pd-3node"), tmp_path / "plan"
    plan.write(made, "", format, "")
    printed = capsys.readouterr().out
    plan.write(made, "", format, str(out))
    assert not capsys.readouterr().out
    assert printed == out.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_bad_options_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    made = example("single")
    for name, format, out, code, words in (
        ("", "yaml", "", 64, "'yaml' is not known"),
        ("node0", "svg", "", 64, "the picture shows all nodes"),
        ("", "json", str(tmp_path), 69, "cannot be written"),
        ("", "json", str(tmp_path / "none" / "x"), 69, "cannot be written"),
    ):
        with pytest.raises(UserError, match=words) as error:
            plan.write(made, name, format, out)
        assert error.value.exit_code == code
    assert not list(tmp_path.iterdir())


def test_who_stops_reading_sees_no_traceback() -> None:
    command = f"{sys.executable} -m invoke cluster.plan {EXAMPLES / 'pd-3node.yaml'} | true"
    answer = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in answer.stderr
    assert "Exception" not in answer.stderr
