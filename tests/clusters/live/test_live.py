"""Starting, looking at and stopping clusters: order, what is left alone, what is undone."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from clusters.deployment import Deployment
from clusters.live import failure, table
from clusters.live.engine import ContainerInfo, Engine, Unreachable, connect_all, named_nodes
from clusters.live.status import status
from clusters.live.stop import down
from clusters.live.table import Progress, Row
from clusters.live.up import Options, up
from clusters.model import Secret
from common.errors import UserError
from entrypoints import findings
from entrypoints.running import supervise
from tests.clusters.hand_made_clusters import IMAGE, cluster, container, deployment, node, pd
from tests.clusters.live.live_fakes import HEALTHY, FakeClock, FakeEngine, interrupt

ENVIRON = {"SITE_KEY": "k1"}
NAMES = ["qwen3-prefill-0", "qwen3-decode-0", "qwen3-decode-1", "qwen3-proxy"]


@dataclass
class Site:
    """Three nodes with an engine each, and the cluster of the hand-made prefill and decode."""

    made: Deployment
    engines: dict[str, FakeEngine]
    done: list[str]
    clock: FakeClock
    out: io.StringIO

    def connect(self, context: str) -> Engine:
        engine = self.engines[context]
        if not engine.answers:
            raise Unreachable("connection refused")
        return engine

    def up(self, **options: object) -> list[Row]:
        self.done.clear()
        with Progress(self.out, self.clock.now) as shown:
            return up(self.made, ENVIRON, shown, Options(**options), self.connect, self.clock)  # type: ignore[arg-type]

    def fails(self, **options: object) -> UserError:
        with pytest.raises(UserError) as caught:
            self.up(**options)
        return caught.value

    def there(self) -> set[str]:
        return {name for engine in self.engines.values() for name in engine.known}

    def edit(self, name: str, **changes: object) -> None:
        """Another container of that name in the file."""

        def edited(one: object) -> object:
            return replace(one, **changes) if one.name == name else one  # type: ignore

        groups = tuple(
            replace(group, containers=tuple(map(edited, group.containers)))  # type: ignore
            for group in self.made.groups
        )
        self.made = replace(self.made, groups=groups, proxy=edited(self.made.proxy))  # type: ignore


@pytest.fixture
def site(tmp_path: Path) -> Site:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    done: list[str] = []
    made = pd()
    secrets = (Secret("VLLM_API_KEY", env="SITE_KEY"), Secret("HF_TOKEN", file=str(token)))
    nodes = {name: replace(one, context=name) for name, one in made.cluster.nodes.items()}
    of = replace(made.cluster, secrets=secrets, nodes=nodes)
    groups = tuple(
        replace(
            group,
            containers=tuple(replace(one, node=nodes[one.node.name]) for one in group.containers),
        )
        for group in made.groups
    )
    assert made.proxy
    proxy = replace(made.proxy, node=nodes["node1"])
    engines = {name: FakeEngine(done) for name in nodes}
    whole = replace(made, cluster=of, groups=groups, proxy=proxy)
    return Site(whole, engines, done, FakeClock(), io.StringIO())


def test_all_start_in_order_the_proxy_behind_those_it_serves(site: Site) -> None:
    rows = site.up()
    assert site.done == [f"{what} {name}" for name in NAMES for what in ("create", "start")]
    assert [row.container for row in rows] == NAMES
    assert all(row.ready for row in rows)


def test_secrets_come_from_the_environment_and_from_files(site: Site) -> None:
    site.up()
    env = site.engines["node1"].known["qwen3-prefill-0"].env
    assert {"VLLM_API_KEY=k1", "HF_TOKEN=t0ken"} <= set(env)
    assert "k1" not in site.out.getvalue()


def test_what_runs_as_the_file_has_it_is_left_alone(site: Site) -> None:
    site.up()
    site.up()
    assert site.done == []


def test_a_changed_container_is_replaced_and_its_group_with_it(site: Site) -> None:
    site.up()
    site.edit("qwen3-decode-1", env={"ROLE": "headless", "SEED": "2"})
    site.up()
    assert sorted(site.done[:4]) == [
        "remove qwen3-decode-0",
        "remove qwen3-decode-1",
        "stop qwen3-decode-0 120",
        "stop qwen3-decode-1 120",
    ]
    assert site.done[4:] == [
        f"{what} {name}" for name in NAMES[1:3] for what in ("create", "start")
    ]
    said = site.out.getvalue()
    assert "node3: qwen3-decode-1: replaced: its configuration has changed" in said
    assert "qwen3-decode-0: replaced: with qwen3-decode-1, whose group starts as a whole" in said


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": "exited"}, "was exited"),
        ({"health": "unhealthy"}, "is unhealthy"),
        ({"env": ("VLLM_API_KEY=old",)}, "a secret has changed"),
        ({"image": "sha256:0"}, "its image has changed"),
    ],
)
def test_why_one_is_replaced(site: Site, change: dict[str, object], why: str) -> None:
    site.up()
    known = site.engines["node1"].known
    known["qwen3-proxy"] = replace(known["qwen3-proxy"], **change)  # type: ignore[arg-type]
    site.up()
    assert [what for what in site.done if "create" in what] == ["create qwen3-proxy"]
    assert f"qwen3-proxy: replaced: {why}" in site.out.getvalue()


def test_the_first_that_fails_ends_the_start_and_nothing_of_it_stays(site: Site) -> None:
    foreign = ContainerInfo("other#0", "other", "running", labels={"ascend.cluster": "other"})
    site.engines["node2"].known["other"] = foreign
    site.engines["node2"].becomes["qwen3-decode-0"] = {"state": "exited", "exit_code": 78}
    error = site.fails()
    assert error.exit_code == 70
    (problem,) = error.findings
    assert problem.where == "node2: qwen3-decode-0"
    assert problem.message == "exit code 78: the machine or the image does not fit"
    assert "create qwen3-decode-1" not in site.done
    assert "  line of qwen3-decode-0\n" in site.out.getvalue()
    assert site.there() == {"other"}


def test_what_ran_before_stays_when_the_rest_fails(site: Site) -> None:
    site.up()
    del site.engines["node1"].known["qwen3-proxy"]
    site.engines["node1"].refuses["qwen3-proxy"] = "no such device"
    error = site.fails()
    assert [str(one) for one in error.findings] == [
        "node1: qwen3-proxy: the engine cannot start it: no such device"
    ]
    assert site.there() == set(NAMES[:3])


def test_a_name_that_someone_takes_meanwhile_is_theirs(site: Site) -> None:
    theirs = ContainerInfo("qwen3-proxy#9", "qwen3-proxy", "running")
    engine = site.engines["node1"]
    start = engine.start

    def first(id: str) -> None:
        start(id)
        engine.known["qwen3-proxy"] = theirs

    engine.start = first  # type: ignore[method-assign]
    assert "Conflict" in site.fails().findings[0].message
    assert site.there() == {"qwen3-proxy"}


@pytest.mark.parametrize("state", ["restarting", "running"])
def test_one_that_its_restart_policy_starts_again_has_failed(site: Site, state: str) -> None:
    changes = {"state": state, "restarts": 1, "exit_code": 78, "health": "starting"}
    site.engines["node3"].becomes["qwen3-decode-1"] = changes
    (problem,) = site.fails().findings
    assert problem.message == (
        "exit code 78: the machine or the image does not fit; its restart policy starts it again"
    )


def test_restarts_of_long_ago_are_no_failure(site: Site) -> None:
    site.up()
    known = site.engines["node1"].known
    known["qwen3-prefill-0"] = replace(known["qwen3-prefill-0"], restarts=3)
    site.up()
    assert site.done == []


def test_health_is_waited_for(site: Site) -> None:
    site.engines["node1"].becomes["qwen3-prefill-0"] = {"health": "starting"}

    def loaded(time: float) -> None:
        if time > 600:
            known = site.engines["node1"].known
            known["qwen3-prefill-0"] = replace(known["qwen3-prefill-0"], **HEALTHY)

    site.clock.then = loaded
    site.up()
    assert 600 < site.clock.time < 610
    reminder = "node1: qwen3-prefill-0: running, starting: line of qwen3-prefill-0\n"
    assert site.out.getvalue().count(reminder) == 20  # one every 30 s


def test_one_without_a_health_check_has_to_stay(site: Site) -> None:
    site.engines["node1"].becomes["qwen3-proxy"] = {"health": ""}

    def ends(time: float) -> None:
        known = site.engines["node1"].known
        known["qwen3-proxy"] = replace(known["qwen3-proxy"], state="exited", exit_code=1)

    site.clock.then = ends
    assert site.fails().findings[0].message == "exit code 1: of the command itself"


def test_those_that_are_not_healthy_in_time_are_told(site: Site) -> None:
    for engine, name in (("node2", "qwen3-decode-0"), ("node1", "qwen3-proxy")):
        site.engines[engine].becomes[name] = {"health": "starting"}
    error = site.fails(timeout=60)
    assert error.exit_code == 69
    assert [one.where for one in error.findings] == [
        "node2: qwen3-decode-0",
        "node1: qwen3-proxy",
    ]
    assert site.there() == set()


def test_detached_it_does_not_wait(site: Site) -> None:
    site.engines["node1"].becomes["qwen3-prefill-0"] = {"health": "starting"}
    rows = site.up(detach=True)
    assert [row.ready for row in rows] == [False, True, True, True]
    assert site.clock.time == 0


@pytest.mark.parametrize("detach", [False, True])
def test_an_interrupt(site: Site, detach: bool) -> None:
    engine = site.engines["node3"]
    engine.start = lambda id: interrupt()  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        site.up(detach=detach)
    assert site.there() == (set(NAMES[:3]) if detach else set())


def test_a_second_interrupt_kills(site: Site) -> None:
    site.engines["node2"].becomes["qwen3-decode-0"] = {"state": "exited", "exit_code": 1}
    site.engines["node1"].on_stop = interrupt
    assert site.fails().findings[0].where == "node2: qwen3-decode-0"
    assert "stop qwen3-prefill-0 120" not in site.done
    assert site.there() == set()


def test_an_engine_may_be_silent_for_a_moment(site: Site) -> None:
    site.engines["node1"].becomes["qwen3-prefill-0"] = {"health": "starting"}

    def flickers(time: float) -> None:
        site.engines["node2"].answers = not 10 < time < 35
        if time > 50:
            known = site.engines["node1"].known
            known["qwen3-prefill-0"] = replace(known["qwen3-prefill-0"], **HEALTHY)

    site.clock.then = flickers
    assert all(row.ready for row in site.up())


def test_an_engine_that_stays_silent_ends_the_start(site: Site) -> None:
    site.engines["node1"].becomes["qwen3-prefill-0"] = {"health": "starting"}

    def goes(time: float) -> None:
        site.engines["node2"].answers = False

    site.clock.then = goes
    error = site.fails()
    assert error.exit_code == 69
    assert [one.where for one in error.findings] == ["node2: qwen3-decode-0"] * 2
    assert "has not answered" in error.findings[0].message
    assert "not removed" in error.findings[1].message
    assert site.there() == {"qwen3-decode-0"}


def test_all_that_is_missing_is_told_before_anything_starts(site: Site) -> None:
    cluster = site.made.cluster
    secrets = (Secret("VLLM_API_KEY", env="NOBODY"), Secret("HF_TOKEN", file="/nowhere/token"))
    site.made = replace(site.made, cluster=replace(cluster, secrets=secrets, options=("--gpus",)))
    error = site.fails()
    assert error.exit_code == 65
    assert [one.message for one in error.findings] == [
        "'--gpus' has no translation",
        "NOBODY is not set here",
        "/nowhere/token: No such file or directory",
    ]


def test_engines_that_cannot_be_reached_are_told_at_once(site: Site) -> None:
    site.engines["node1"].answers = site.engines["node3"].answers = False
    error = site.fails()
    assert error.exit_code == 69
    assert [one.where for one in error.findings] == ["node1", "node3"]
    assert site.done == []


def test_an_engine_that_never_answers_is_not_waited_for() -> None:
    def forever(context: str) -> Engine:
        threading.Event().wait()
        raise AssertionError

    engines, (problem,) = connect_all([node("a", context="slow")], forever, timeout=0.05)
    assert engines == {}
    assert "no answer within" in problem.message


def test_names_that_others_have_and_images_that_cannot_be_pulled(site: Site) -> None:
    site.engines["node2"].known["qwen3-decode-0"] = ContainerInfo("1", "qwen3-decode-0", "exited")
    site.engines["node1"].known["qwen3-proxy"] = ContainerInfo(
        "2", "qwen3-proxy", "running", labels={"ascend.cluster": "other"}
    )
    error = site.fails()
    assert [one.where for one in error.findings] == ["node2", "node1"]
    assert all("not of this cluster" in one.message for one in error.findings)
    for engine in site.engines.values():
        engine.known.clear()
    site.edit("qwen3-proxy", image="gone:1")
    site.edit("qwen3-prefill-0", image="other:1")
    (problem,) = site.fails().findings
    assert problem.message == "gone:1 cannot be pulled: manifest unknown"
    assert sorted(site.done) == ["pull gone:1", "pull other:1"]


def test_one_that_left_the_file_is_told_and_left(site: Site) -> None:
    site.up()
    site.made = replace(site.made, proxy=None)
    site.up()
    assert "node1: qwen3-proxy: no longer in the file" in site.out.getvalue()
    assert site.done == []


def test_without_npus_no_device_and_no_driver(site: Site) -> None:
    bodies = []
    engine = site.engines["node1"]
    create = engine.create
    engine.create = lambda name, body: (bodies.append(body), create(name, body))[1]  # type: ignore
    site.up(npus=False)
    host = bodies[0]["HostConfig"]
    assert host["Devices"] == []
    assert [mount["Target"] for mount in host["Mounts"]] == ["/weights"]
    site.up()
    assert "its configuration has changed" in site.out.getvalue()
    assert bodies[-1]["HostConfig"]["Devices"][0]["PathOnHost"] == "/dev/davinci0"


def test_status(site: Site) -> None:
    site.up()
    site.engines["node3"].answers = False
    engine = site.engines["node1"]
    gone = engine.known.pop("qwen3-prefill-0")
    engine.known["qwen3-old"] = replace(gone, name="qwen3-old", state="exited", exit_code=137)
    rows, problems = status(site.made, site.connect)
    assert [(row.node, row.container, row.state, row.ready) for row in rows] == [
        ("node1", "qwen3-prefill-0", "missing", False),
        ("node2", "qwen3-decode-0", "running", True),
        ("node3", "qwen3-decode-1", "unreachable", False),
        ("node1", "qwen3-proxy", "running", True),
        ("node1", "qwen3-old", "exited", False),
    ]
    assert rows[-1].reason.startswith("exit code 137: killed because memory ran out")
    assert [problem.where for problem in problems] == ["node3"]


def test_one_on_another_node_is_not_the_one_of_the_file(site: Site) -> None:
    site.up()
    known = site.engines["node1"].known
    proxy = known.pop("qwen3-proxy")
    site.engines["node2"].known["qwen3-proxy"] = replace(
        proxy, labels={**proxy.labels, "ascend.node": "node2"}
    )
    rows, _ = status(site.made, site.connect)
    states = {(row.node, row.state) for row in rows if row.container == "qwen3-proxy"}
    assert states == {("node1", "missing"), ("node2", "running")}


def test_down_stops_the_proxy_first_and_only_this_cluster(site: Site) -> None:
    site.up()
    other = ContainerInfo("other#0", "other", "running", labels={"ascend.cluster": "other"})
    site.engines["node1"].known["other"] = other
    site.engines["node3"].answers = False
    site.done.clear()
    done, problems = down(site.made.cluster, lambda line: None, site.connect)
    assert site.done[:2] == ["stop qwen3-proxy 120", "remove qwen3-proxy"]
    assert done == [
        {"node": node, "container": name, "did": "stopped and removed"}
        for node, name in (
            ("node2", "qwen3-decode-0"),
            ("node1", "qwen3-prefill-0"),
            ("node1", "qwen3-proxy"),
        )
    ]
    assert [problem.where for problem in problems] == ["node3"]
    assert site.there() == {"other", "qwen3-decode-1"}


def test_one_engine_under_two_contexts_is_stopped_once(site: Site) -> None:
    site.up()
    site.done.clear()
    shared = site.engines["node1"]
    site.engines = {name: shared for name in site.engines}
    done, _ = down(site.made.cluster, lambda line: None, site.connect)
    assert [one["container"] for one in done] == ["qwen3-prefill-0", "qwen3-proxy"]


def test_what_kubernetes_places_has_no_engine() -> None:
    with pytest.raises(UserError, match="Kubernetes chooses them"):
        named_nodes(cluster((node("a", None, placed=True),)))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "it ended normally"),
        (69, "a peer was not reachable in time"),
        (137, "killed because memory ran out"),
        (134, "ended by SIGABRT"),
        (3, "of the command itself"),
        (200, "of the command itself"),
    ],
)
def test_what_an_exit_code_means(code: int, words: str) -> None:
    assert failure.exit_code_text(code).startswith(f"exit code {code}: {words}")


def test_every_exit_code_of_ours_has_a_meaning() -> None:
    ours = (findings.USAGE, findings.DATA, findings.PEER, findings.MACHINE, supervise.SOFTWARE)
    assert {*ours, 0, 126, 127, 137} == set(failure.exit_codes())


def test_out_of_memory_is_told() -> None:
    seen = ContainerInfo("1", "a", "exited", exit_code=137, out_of_memory=True)
    assert failure.exit_reason(seen) == "exit code 137: out of memory"


def test_the_table() -> None:
    rows = [Row("n", "a", "running", "healthy", ready=True, log="x"), Row("node", "b", "missing")]
    assert table.text(rows).splitlines() == [
        "NODE  CONTAINER  STATE    HEALTH   SINCE  RESTARTS  LAST LINE",
        "n     a          running  healthy  -      0         x",
        "node  b          missing  -        -      0",
    ]


def test_lines_tell_what_is_new_only() -> None:
    out = io.StringIO()
    shown = Progress(out, lambda: 0.0)
    shown.show([Row("n", "a", "waiting"), Row("n", "b", "running", "starting")])
    shown.show([Row("n", "a", "created"), Row("n", "b", "running", "starting")])
    assert out.getvalue() == "n: b: running, starting\nn: a: created\n"


def test_the_body_of_one_that_gets_all(site: Site) -> None:
    one = node("a", context="node1")
    site.made = deployment(cluster((one,)), container(one, command=("sleep", "1")))
    bodies = []
    engine = site.engines["node1"]
    create = engine.create
    engine.create = lambda name, body: (bodies.append(body), create(name, body))[1]  # type: ignore
    site.up()
    body = bodies[0]
    assert (body["Image"], body["Cmd"]) == (IMAGE, ["sleep", "1"])
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "on-failure"}
    assert body["HostConfig"]["ShmSize"] == 16 << 30
