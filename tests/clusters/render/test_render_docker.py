"""A cluster as docker run commands: what a shell makes of them is what the engine is to get."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.model import Run, Secret, Volume
from clusters.render import docker
from clusters.render.formats import renderer, text
from clusters.runtime.spec import DIGEST, on_node, specs, start_order
from common.errors import UserError
from common.files import write_directory
from entrypoints.preflight import docker as doctor
from tests import ROOT
from tests.clusters.hand_made_clusters import cluster, container, deployment, node, pd

GOLDEN = ROOT / "tests/clusters" / "golden"
FAKE = """\
docker() { python3 -c 'import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("KEY"), os.environ.get("OWN")]))' "$@"; }
"""


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it with a docker that only says which words and variables it got."""
    given = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **env}
    return subprocess.run(
        ["/bin/sh"], input=FAKE + script, env=given, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["node1.sh", "node2.sh", "node3.sh"])
def test_the_scripts_of_a_cluster(name: str) -> None:
    made = docker.files(pd())
    assert sorted(made) == ["node1.sh", "node2.sh", "node3.sh"]
    assert made[name] == (GOLDEN / "docker" / name).read_text()


def test_the_same_cluster_gives_the_same_bytes() -> None:
    assert docker.files(pd()) == docker.files(pd())


plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
words = st.lists(st.one_of(plain, st.sampled_from(["--flag", "$HOME", "`id`", "a'b", "\\", "-x"])))
names = st.from_regex(r"[A-Z][A-Z_]{0,8}", fullmatch=True)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(names, plain, max_size=3), words, words)
def test_a_shell_hands_every_word_over_as_it_is(
    env: dict[str, str], arguments: list[str], options: list[str]
) -> None:
    one = node("n")
    made = deployment(
        cluster((one,), options=tuple(options)),
        container(one, env=env, arguments=tuple(arguments)),
    )
    spec = specs(made)["qwen3-serve-0"]
    answer = shell(docker.command(spec))
    assert answer.returncode == 0, answer.stderr
    got = json.loads(answer.stdout)[0]
    tail = [*options, spec.image, *arguments]
    assert got[len(got) - len(tail) :] == tail
    head = got[: len(got) - len(tail)]
    assert [head[n + 1] for n, word in enumerate(head) if word == "-e"] == [
        f"{name}={value}" for name, value in env.items()
    ]


def with_secret(secret: Secret) -> str:
    one = node("n")
    made = deployment(cluster((one,), secrets=(secret,)), container(one, secrets=("KEY",)))
    return docker.files(made)["n.sh"]


def test_a_secret_is_taken_from_the_shell_and_never_a_word_of_the_command() -> None:
    answer = shell(with_secret(Secret("KEY", env="SITE_KEY")), SITE_KEY="s3cret 'quoted'")
    said, key, _ = json.loads(answer.stdout)
    assert key == "s3cret 'quoted'"
    assert said[said.index("KEY") - 1] == "-e"
    assert not any("s3cret" in word for word in said)


def test_without_its_secret_nothing_is_started() -> None:
    answer = shell(with_secret(Secret("KEY", env="SITE_KEY")))
    assert answer.returncode != 0
    assert answer.stdout == ""
    assert "SITE_KEY: is a secret: set it first" in answer.stderr


def test_a_secret_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "it's a key"
    script = with_secret(Secret("KEY", file=str(file)))
    assert shell(script).stdout == ""
    file.write_text("of a file\n")
    assert json.loads(shell(script).stdout)[1] == "of a file"


def test_what_follows_a_command_that_fails_is_not_started() -> None:
    one = node("n")
    made = deployment(cluster((one,)), container(one, "qwen3-a-0"), container(one, "qwen3-b-0"))
    script = docker.files(made)["n.sh"]
    assert len(shell(script).stdout.splitlines()) == 2
    failing = subprocess.run(
        ["/bin/sh"],
        input=f"docker() {{ echo $4; false; }}\n{script}",
        capture_output=True,
        text=True,
    )
    assert failing.stdout.split() == ["qwen3-a-0"]
    assert failing.returncode == 1


def mounted(made: dict[str, str], name: str) -> list[str]:
    lines = (line.strip(" \\") for line in made[name].splitlines())
    return [line.partition("target=")[2].split(",")[0] for line in lines if "--mount" in line]


def test_hccn_conf_is_for_those_who_talk_to_other_nodes() -> None:
    one, two = node("a"), node("b")
    made = docker.files(
        deployment(
            cluster((one, two)), container(one), container(two, "qwen3-lead-0", role="leader")
        )
    )
    assert "/etc/hccn.conf" not in mounted(made, "a.sh")
    assert "/etc/hccn.conf" in mounted(made, "b.sh")
    assert set(mounted(made, "b.sh")) - set(mounted(made, "a.sh")) == {"/etc/hccn.conf"}


def test_the_rule_of_the_doctor_leaves_hccn_conf_out_for_a_single_node() -> None:
    facts = {"control_nodes": ["c"], "mounts": ["/m", "/f"], "fabric": {"file": "/f"}}
    assert doctor.host(facts, [3]) == (["/dev/davinci3", "/dev/c"], ["/m", "/f"])
    assert doctor.host(facts, [3], multi_node=False).mounts == ["/m"]


def devices(made: dict[str, str], name: str) -> list[str]:
    lines = (line.strip(" \\") for line in made[name].splitlines())
    return [line.split()[1] for line in lines if line.startswith("--device")]


def test_a_container_gets_its_npus_all_of_the_platform_or_none() -> None:
    one, two, three = node("a"), node("b"), node("c")
    made = docker.files(
        deployment(
            cluster((one, two, three)),
            container(one),
            container(two, "qwen3-part-0", devices=(8, 9), whole=False),
            proxy=container(three, "qwen3-proxy", role="proxy"),
        )
    )
    control = ["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"]
    assert devices(made, "a.sh") == [*(f"/dev/davinci{n}" for n in range(16)), *control]
    assert devices(made, "b.sh") == ["/dev/davinci8", "/dev/davinci9", *control]
    assert devices(made, "c.sh") == []
    assert mounted(made, "c.sh") == []


def test_a_volume_at_the_place_of_a_driver_s_file_replaces_it() -> None:
    one = node("a")
    volume = Volume("/usr/local/bin/npu-smi", path="/usr/local/sbin/npu-smi")
    spec = specs(deployment(cluster((one,), volumes=(volume,)), container(one)))["qwen3-serve-0"]
    sources = [m.source for m in spec.taken.mounts if m.target == "/usr/local/bin/npu-smi"]
    assert sources == ["/usr/local/sbin/npu-smi"]


def test_a_mount_with_a_comma_is_one_value_for_docker() -> None:
    one = node("a")
    volumes = (Volume("/w", path='/data/a,b"c', read_only=False),)
    script = docker.files(deployment(cluster((one,), volumes=volumes), container(one)))["a.sh"]
    said = json.loads(shell(script).stdout)[0]
    assert 'type=bind,"source=/data/a,b""c",target=/w' in said


def test_containers_start_behind_those_they_need() -> None:
    one = node("a")
    late = container(one, "late", after=("early", "gone"))
    early = container(one, "early", after=("late",))  # a circle does not hang
    assert [c.name for c in start_order(deployment(cluster((one,)), late, early))] == [
        "early",
        "late",
    ]


def test_a_node_of_the_cluster() -> None:
    whole = pd()
    assert docker.files(on_node(whole, "node3")) == {"node3.sh": docker.files(whole)["node3.sh"]}
    with pytest.raises(UserError, match="did you mean node3"):
        on_node(whole, "node33")


def test_what_only_kubernetes_has_is_told_at_once() -> None:
    placed = node("a", None, placed=True)
    of = cluster(
        (placed,),
        volumes=(Volume("/w", claim="weights"),),
        secrets=(Secret("KEY", secret="qwen3", key="k"),),
    )
    with pytest.raises(UserError) as caught:
        docker.files(deployment(of, container(placed)))
    assert caught.value.exit_code == 65
    assert [problem.where for problem in caught.value.findings] == [
        "qwen3.yaml: nodes",
        "qwen3.yaml: weights",
        "qwen3.yaml: secrets.KEY",
    ]


def test_the_digest_changes_with_the_configuration_only() -> None:
    def digest(**changes: Any) -> str:
        one = node("a")
        made = deployment(cluster((one,), run=Run(shm_gib=8)), container(one, **changes))
        return specs(made)["qwen3-serve-0"].labels[DIGEST]

    assert digest() == digest(after=("qwen3-other",))
    assert (
        len({digest(), digest(env={"A": "1"}), digest(arguments=("--x",)), digest(image="i")}) == 4
    )


def test_a_renderer_that_is_not_known() -> None:
    with pytest.raises(UserError, match="did you mean compose"):
        renderer("composer")


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_directory(out, {"b.sh": "#!/bin/sh\n", "a.yaml": "a\n"}) == [
        out / "b.sh",
        out / "a.yaml",
    ]
    assert (out / "b.sh").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in out.iterdir()) == ["a.yaml", "b.sh"]
    (out / "folder").mkdir()
    (out / "folder" / "x").write_text("")
    with pytest.raises(UserError) as caught:
        write_directory(out, {"new": "", "folder": "in the way"})
    assert caught.value.exit_code == 69
    assert sorted(path.name for path in out.iterdir()) == ["a.yaml", "b.sh", "folder"]


def test_several_files_are_printed_below_their_names() -> None:
    assert text({"a": "1\n"}) == "1\n"
    assert text({"a": "1\n", "b": "2\n"}) == "# a\n1\n\n# b\n2\n"


def test_the_image_s_drain_has_time_before_the_engine_kills() -> None:
    one = node("a")
    short = deployment(cluster((one,), run=Run(drain_timeout=0)), container(one))
    default = replace(short, cluster=cluster((one,)))
    assert specs(short)["qwen3-serve-0"].stop_timeout == 30
    assert specs(default)["qwen3-serve-0"].stop_timeout == 60
