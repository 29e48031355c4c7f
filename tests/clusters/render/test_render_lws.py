"""LeaderWorkerSets: valid, tight, and with the variables that make the plan of the compiler."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.deployment import Deployment
from clusters.render.kubernetes import env, labels, lws, pod
from clusters.render.kubernetes.labels import FACTS
from clusters.runtime.spec import on_node
from common.errors import UserError
from entrypoints import yaml12
from entrypoints.inputs import data
from tests import ROOT
from tests.clusters.render import manifests
from tests.clusters.render.manifests import (
    compiled,
    environment,
    example,
    one,
    pods,
    rendered,
    server,
)

NAMES = ("kubernetes", "pd-3node", "multi-node", "ray")
BY_THE_SET = {"LEADER_IP", "NODES", "NODE_RANK"}
PD = """
name: qwen3
release: v0.13.0rc1
platform: a3
recipe: qwen3-235b-a22b-w8a8/pd-3node-a3
ports: {kv: 36000}
"""
FOUR = "nic: eth0\nnodes: {a: 10.0.0.1, b: 10.0.0.2, c: 10.0.0.3, d: 10.0.0.4}\n"
SINGLE = """
name: qwen3
release: v0.13.0rc1
platform: a3
recipe: qwen3-235b-a22b-w8a8/single-128k
instances:
  serve: {nodes: 1}
"""


def refused(deployment: Deployment) -> str:
    with pytest.raises(UserError) as error:
        lws.files(deployment)
    assert error.value.exit_code == 65
    return str(error.value)


def of_instance(deployment: Deployment, instance: str) -> dict[str, dict[str, object]]:
    """The pod templates of an instance's set, leader and worker."""
    name = f"{deployment.cluster.name}-{instance}"
    made = one(rendered(deployment, "lws"), "LeaderWorkerSet", name)
    return dict(made["spec"]["leaderWorkerTemplate"])


@pytest.mark.parametrize("name", NAMES)
def test_the_manifests_are_the_committed_ones(name: str) -> None:
    made = lws.files(example(name))
    assert list(made) == ["lws.yaml"]
    manifests.assert_golden(made["lws.yaml"], manifests.GOLDEN / "lws" / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_cluster_gives_the_same_bytes(name: str) -> None:
    first = lws.files(example(name))
    example.cache_clear()
    assert lws.files(example(name)) == first


@pytest.mark.parametrize("name", NAMES)
def test_core_kinds_fit_their_schemas(name: str) -> None:
    manifests.assert_core_kinds_valid(rendered(example(name), "lws"))


@pytest.mark.parametrize("name", NAMES)
def test_leader_worker_sets_fit_their_schema(name: str) -> None:
    manifests.assert_custom_kinds_valid(rendered(example(name), "lws"))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_unsound_is_rendered(name: str) -> None:
    deployment = example(name)
    manifests.assert_sound(deployment, lws.files(deployment)["lws.yaml"], BY_THE_SET)


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_plans_what_its_container_was_compiled_to(name: str) -> None:
    deployment = example(name)
    for group in deployment.groups:
        templates = of_instance(deployment, group.instance)
        leader, *workers = group.containers
        for container in group.containers:
            worker = container.rank or not workers
            template = templates["workerTemplate" if worker else "leaderTemplate"]
            by_the_set = {
                "LWS_LEADER_ADDRESS": str(leader.node.address),
                "LWS_GROUP_SIZE": str(templates["size"]),
                "LWS_WORKER_INDEX": str(container.rank),
            }
            address = str(container.node.address)
            variables = environment(template, address, by_the_set, group.replica)
            launch = manifests.planned(deployment, container, template, variables)
            manifests.assert_same(launch, container)


@pytest.mark.parametrize("name", ["kubernetes", "pd-3node"])
def test_the_proxy_knows_leaders_by_the_names_that_the_sets_give_them(name: str) -> None:
    deployment = example(name)
    template = one(rendered(deployment, "lws"), "Deployment", "qwen3-pd-proxy")["spec"]["template"]
    variables = environment(template, "10.9.9.9", {})
    for group in deployment.groups:
        host = f"qwen3-pd-{group.instance}-{group.replica}.qwen3-pd-{group.instance}"
        side = f"{group.role.upper()}_ENDPOINTS"
        assert host in variables[side]
        ((address, _),) = group.endpoints
        variables[side] = variables[side].replace(host, address)
    assert deployment.proxy
    launch = manifests.planned(deployment, deployment.proxy, template, variables)
    manifests.assert_same(launch, deployment.proxy)


def test_a_service_before_every_api_finds_its_pods() -> None:
    made = rendered(example("kubernetes"), "lws")
    services = {m["metadata"]["name"]: m["spec"] for m in made if m["kind"] == "Service"}
    assert list(services) == ["qwen3-pd-prefill-api", "qwen3-pd-decode-api", "qwen3-pd-proxy"]
    decode = services["qwen3-pd-decode-api"]
    assert decode["selector"] == {
        "leaderworkerset.sigs.k8s.io/name": "qwen3-pd-decode",
        "leaderworkerset.sigs.k8s.io/worker-index": "0",
    }
    assert [port["port"] for port in decode["ports"]] == [8000]
    proxy = one(made, "Deployment", "qwen3-pd-proxy")["spec"]
    labels = proxy["template"]["metadata"]["labels"]
    assert services["qwen3-pd-proxy"]["selector"].items() <= labels.items()
    assert proxy["selector"]["matchLabels"].items() <= labels.items()


def test_secrets_come_by_reference() -> None:
    variables = {
        entry["name"]: entry
        for template in pods(rendered(example("kubernetes"), "lws"))
        for entry in server(template)["env"]
    }
    reference = {"secretKeyRef": {"name": "qwen3", "key": "api-key"}}
    assert variables["VLLM_API_KEY"] == {"name": "VLLM_API_KEY", "valueFrom": reference}


def test_named_nodes_are_where_the_pods_go() -> None:
    templates = of_instance(
        compiled(PD + FOUR + "instances:\n  decode: {nodes: [a, b, c, d], replicas: 2}\n"), "decode"
    )

    def hosts(template: str) -> list[str]:
        affinity = templates[template]["spec"]["affinity"]["nodeAffinity"]  # type: ignore[index]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        (expression,) = term["matchExpressions"]
        assert (expression["key"], expression["operator"]) == ("kubernetes.io/hostname", "In")
        return list(expression["values"])

    assert hosts("leaderTemplate") == ["a", "c"]
    assert hosts("workerTemplate") == ["b", "d"]


def test_replicas_have_an_identity_of_their_own_in_the_transfer() -> None:
    templates = of_instance(example("kubernetes"), "prefill")
    (template,) = (templates[key] for key in templates if key.endswith("Template"))
    made = [environment(template, "10.0.0.1", {}, group)["ENGINE_ID"] for group in (0, 1)]
    wanted = [
        group.containers[0].env["ENGINE_ID"]
        for group in example("kubernetes").groups
        if group.instance == "prefill"
    ]
    assert made == wanted
    assert len(set(made)) == 2


def test_the_network_of_the_node_on_demand() -> None:
    text = PD + "nic: bond0\ninstances:\n  decode: {nodes: 2}\n"
    nic = {"name": "NIC", "value": "bond0"}
    for template in pods(rendered(compiled(text), "lws")):
        assert "hostNetwork" not in template["spec"]
        assert nic not in server(template)["env"]
    text += "kubernetes: {host_network: true}\n"
    for template in pods(rendered(compiled(text), "lws")):
        assert template["spec"]["hostNetwork"] is True
        assert template["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet"
        assert nic in server(template)["env"]


def test_what_the_file_says_of_pods_is_laid_over_them() -> None:
    text = SINGLE + (
        "kubernetes:\n  node_selector: {npu: a3}\n  pull_secrets: [registry]\n"
        "  pod:\n    schedulerName: volcano\n    tolerations: [{key: npu, operator: Exists}]\n"
        "    containers: [{name: server, resources: {requests: {memory: 512Gi}}}]\n"
        "    volumes: [{name: cache, emptyDir: {}}]\n"
    )
    made = rendered(compiled(text), "lws")
    (template,) = pods(made)
    spec = template["spec"]
    assert spec["schedulerName"] == "volcano"
    assert spec["tolerations"] == [{"key": "npu", "operator": "Exists"}]
    assert spec["nodeSelector"] == {"npu": "a3"}
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    requests = {"huawei.com/Ascend910": "16", "memory": "512Gi"}
    assert server(template)["resources"]["requests"] == requests
    assert {"name": "cache", "emptyDir": {}} in spec["volumes"]
    assert spec["volumes"][0]["name"] == "shm"


def test_server_and_proxy_are_reached_by_their_names() -> None:
    text = PD + (
        "instances:\n  prefill: {nodes: 1}\n  decode: {nodes: 2}\nproxy: {}\n"
        "kubernetes: {pod: {containers: [{name: server, tty: true}, {name: proxy, stdin: true}]}}\n"
    )
    made = [server(template) for template in pods(rendered(compiled(text), "lws"))]
    found = {(one["name"], "tty" in one, "stdin" in one) for one in made}
    assert found == {("server", True, False), ("proxy", False, True)}


def test_volumes_of_the_host_and_of_the_cluster() -> None:
    text = SINGLE + "weights: [/data/w, {claim: cache, mount: /cache, read_only: false}]\n"
    (template,) = pods(rendered(compiled(text), "lws"))
    volumes = {one["name"]: one for one in template["spec"]["volumes"]}
    mounts = {one["mountPath"]: one for one in server(template)["volumeMounts"]}
    host = volumes[mounts["/data/w"]["name"]]
    assert host["hostPath"] == {"path": "/data/w", "type": "Directory"}
    assert mounts["/data/w"]["readOnly"] is True
    claim = volumes[mounts["/cache"]["name"]]["persistentVolumeClaim"]
    assert claim == {"claimName": "cache", "readOnly": False}
    assert "readOnly" not in mounts["/cache"]
    shm = volumes[mounts["/dev/shm"]["name"]]["emptyDir"]
    assert shm == {"medium": "Memory", "sizeLimit": "16Gi"}


def test_another_resource_and_a_part_of_the_devices() -> None:
    text = SINGLE.replace("nodes: 1", "nodes: 1, devices: 0-7")
    text += "kubernetes: {resource: huawei.com/ascend-1980}\n"
    (template,) = pods(rendered(compiled(text), "lws"))
    share = {"huawei.com/ascend-1980": "8"}
    assert server(template)["resources"] == {"limits": share, "requests": share}


def test_a_pod_has_time_for_its_drain_and_for_its_peers() -> None:
    text = SINGLE + "run: {drain_timeout: 120, wait_timeout: 60, shm: 64g}\n"
    (template,) = pods(rendered(compiled(text), "lws"))
    container = server(template)
    assert template["spec"]["terminationGracePeriodSeconds"] == 5 + 120 + 30
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 60 + 7200
    assert template["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] == "64Gi"


def test_a_command_of_ones_own_runs_unprobed() -> None:
    text = SINGLE.replace("nodes: 1", "nodes: 1, command: [sleep, $(HOME)]")
    (template,) = pods(rendered(compiled(text), "lws"))
    container = server(template)
    assert [manifests.expanded(word, {"HOME": "/"}) for word in container["args"]] == [
        "sleep",
        "$(HOME)",
    ]
    assert "startupProbe" not in container


# ---- what cannot be ------------------------------------------------------------------------------


def test_what_kubernetes_cannot_give_is_said_all_at_once() -> None:
    text = SINGLE + "secrets: {HF_TOKEN: {env: TOKEN}}\noptions: [--privileged]\n"
    said = refused(compiled(text))
    assert "secrets.HF_TOKEN" in said
    assert "{secret: NAME, key: KEY}" in said
    assert "options: are for docker run: --privileged" in said


def test_external_ranks_are_refused() -> None:
    text = PD + "instances:\n  prefill: {nodes: 1, external: true}\n  decode: {nodes: 2}\n"
    said = refused(compiled(text))
    assert "instances.prefill.external" in said
    assert "vllm-ascend#14506" in said


def test_manifests_are_of_all_nodes() -> None:
    for name in ("node1", "node3"):
        assert "--node: is for docker" in refused(on_node(example("pd-3node"), name))


def test_one_node_of_a_set_cannot_be_another_one() -> None:
    text = (
        PD
        + FOUR
        + (
            "instances:\n  decode:\n    nodes: [a, b, c, d]\n    replicas: 2\n"
            "    overrides: {d: {env: {HCCL_BUFFSIZE: 256}, arguments: [--seed, 1]}}\n"
        )
    )
    said = refused(compiled(text))
    assert (
        "the workers of a LeaderWorkerSet share one template, but differ in HCCL_BUFFSIZE" in said
    )
    assert "the workers of a LeaderWorkerSet share one template, but differ in arguments" in said
    assert "leaders" not in said


def test_replicas_that_share_a_machine_have_different_ports() -> None:
    text = PD + "nic: eth0\nnodes: {a: 10.0.0.1}\ninstances:\n  prefill:\n"
    said = refused(compiled(text + "    {nodes: [a, a], replicas: 2, sizes: {tp: 4, dp: 2}}\n"))
    assert "the leaders of a LeaderWorkerSet share one template, but differ in PORT" in said
    assert "LOCAL_IP" not in said
    assert "ENGINE_ID" not in said


def test_names_that_cannot_be_a_services() -> None:
    said = refused(compiled(SINGLE.replace("name: qwen3", "name: 3qwen")))
    assert "'3qwen-serve' does not begin with a letter" in said
    said = refused(compiled(SINGLE.replace("name: qwen3", f"name: {'q' * 50}")))
    assert "has 56 characters, the maximum is 50" in said
    two = "  a: {nodes: 1, role: single}\n  a-api: {nodes: 1, role: single}\n"
    said = refused(compiled(SINGLE.replace("  serve: {nodes: 1}\n", two)))
    assert "two Services would have the name 'qwen3-a-api'" in said


# ---- parts ---------------------------------------------------------------------------------------


def test_what_the_runtime_mounts_is_not_mounted_again() -> None:
    """All that remains of the driver is files: a directory would have to be said otherwise."""
    (template,) = pods(rendered(compiled(SINGLE), "lws"))
    known = data.read(data.path_of("preflight.yaml"))["mounts"]
    assert set(FACTS["runtime_mounts"]) < set(known)
    single = {
        volume["hostPath"]["path"]: volume["hostPath"]["type"]
        for volume in template["spec"]["volumes"]
        if "hostPath" in volume
    }
    assert single == {
        "/usr/local/Ascend/driver/tools/hccn_tool": "File",
        "/usr/local/Ascend/driver/version.info": "File",
        "/etc/ascend_install.info": "File",
    }
    several = of_instance(example("multi-node"), "serve")["workerTemplate"]
    paths = {v["hostPath"]["path"] for v in several["spec"]["volumes"] if "hostPath" in v}  # type: ignore[index]
    assert paths == {*single, "/etc/hccn.conf"}
    assert paths | set(FACTS["runtime_mounts"]) == set(known)


def test_probes_are_the_images_health_check() -> None:
    image = ROOT / "images/build/layers/image.j2"
    (line,) = (x for x in image.read_text().splitlines() if x.startswith("HEALTHCHECK"))
    assert json.loads(line.partition(" CMD ")[2]) == FACTS["health"]


anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
dollars = st.text(st.sampled_from("$()AB x"), max_size=12)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.one_of(dollars, anything))
def test_kubernetes_leaves_a_literal_as_it_is(value: str) -> None:
    assert manifests.expanded(env.escape(value), {"A": "wrong", "B": "", "": "x"}) == value


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.one_of(anything, st.sampled_from(["on", "No", "y", "1e3", "0x1F", "1_000", "a\nb\n"])))
def test_texts_are_read_back_as_they_are_by_old_and_new_yaml(value: str) -> None:
    made = labels.to_yaml([{"value": value}], "a comment")
    assert yaml.safe_load(made) == {"value": value}
    assert yaml12.parse(made) == {"value": value}


def test_numbered_texts() -> None:
    assert env.numbered_template(["a", "a"], "N") == "a"
    assert env.numbered_template(["p0-0", "p0-1"], "N") == "p0-$(N)"
    assert env.numbered_template(["$(X)0", "$(X)1"], "N") == "$$(X)$(N)"
    assert env.numbered_template(["1", "2"], "N") is None
    assert env.numbered_template(["0", "1", "3"], "N") is None


def test_laying_over() -> None:
    under = {"a": {"x": 1, "y": [1]}, "l": [{"name": "s", "v": 1}, {"name": "t"}]}
    over = {"a": {"y": [2]}, "l": [{"name": "t", "v": 2}, {"name": "u"}], "b": 3}
    assert pod.merge(under, over) == {
        "a": {"x": 1, "y": [2]},
        "l": [{"name": "s", "v": 1}, {"name": "t", "v": 2}, {"name": "u"}],
        "b": 3,
    }


def test_a_recipe_of_ones_own_is_readable_and_the_same() -> None:
    recipe = {"extends": "r", "env": {"X": "on"}, "args": {"gpu-memory-utilization": 0.90}}
    made = env.entry("RECIPE", json.dumps(recipe))["value"]
    assert json.loads(made) == recipe
    assert len(made.splitlines()) > 5
    assert env.entry("RECIPE", "qwen3/ray")["value"] == "qwen3/ray"
    assert env.entry("RECIPE", "model: m\nroles: {}\n")["value"] == "model: m\nroles: {}\n"
