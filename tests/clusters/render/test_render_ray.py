"""RayClusters of KubeRay: valid, tight, and with the variables that make the compiler's plan."""

from __future__ import annotations

import pytest

from clusters.render.kubernetes import ray
from common.errors import UserError
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

HEAD = "qwen3-ray-serve-head-svc"
RAY = """
name: qwen3
release: v0.13.0rc1
platform: a3
recipe: qwen3-235b-a22b/ray
"""


def test_the_manifests_are_the_committed_ones() -> None:
    made = ray.files(example("ray"))
    assert list(made) == ["ray.yaml"]
    manifests.assert_golden(made["ray.yaml"], manifests.GOLDEN / "ray" / "ray.yaml")


def test_core_kinds_fit_their_schemas() -> None:
    manifests.assert_core_kinds_valid(rendered(example("ray"), "ray"))


def test_a_ray_cluster_fits_its_schema() -> None:
    manifests.assert_custom_kinds_valid(rendered(example("ray"), "ray"))


def test_nothing_unsound_is_rendered() -> None:
    deployment = example("ray")
    manifests.assert_sound(deployment, ray.files(deployment)["ray.yaml"], {"RAY_ADDRESS"})


def test_a_pod_plans_what_its_container_was_compiled_to() -> None:
    deployment = example("ray")
    (group,) = deployment.groups
    spec = one(rendered(deployment, "ray"), "RayCluster", "qwen3-ray-serve")["spec"]
    (workers,) = spec["workerGroupSpecs"]
    leader = group.containers[0]
    for container in group.containers:
        template = (workers if container.rank else spec["headGroupSpec"])["template"]
        # What the operator adds: ray-operator/controllers/ray/common/pod.go
        operators = {"RAY_PORT": spec["headGroupSpec"]["rayStartParams"]["port"]}
        variables = environment(template, str(container.node.address), operators)
        assert ("LEADER_IP" in variables) is bool(container.rank)
        if container.rank:
            assert variables["LEADER_IP"] == HEAD
            variables["LEADER_IP"] = str(leader.node.address)
        launch = manifests.planned(deployment, container, template, variables)
        manifests.assert_same(launch, container)


def test_the_operator_leaves_the_command_and_the_probes_alone() -> None:
    """Without the annotation it would run a `ray start` of its own, without probes its own ones."""
    made = one(rendered(example("ray"), "ray"), "RayCluster", "qwen3-ray-serve")
    assert made["metadata"]["annotations"] == {"ray.io/overwrite-container-cmd": "true"}
    for template in pods([made]):
        assert "command" not in server(template)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = ["/opt/vllm/bin/entrypoint", "health"]
            assert server(template)[probe]["exec"]["command"] == command


def test_the_head_keeps_the_label_by_which_the_operator_finds_it() -> None:
    for template in pods(rendered(example("ray"), "ray")):
        assert "app.kubernetes.io/name" not in template["metadata"]["labels"]


def test_the_service_before_the_api() -> None:
    made = one(rendered(example("ray"), "ray"), "Service", "qwen3-ray-serve-api")["spec"]
    labels = {"ray.io/cluster": "qwen3-ray-serve", "ray.io/node-type": "head"}
    assert made["selector"] == labels
    assert [port["port"] for port in made["ports"]] == [8000]


def test_a_port_of_ones_own_is_the_operators_as_well() -> None:
    text = RAY + "ports: {ray: 6400}\ninstances:\n  serve: {nodes: 2, replicas: 2}\n"
    made = rendered(compiled(text), "ray")
    clusters = [m for m in made if m["kind"] == "RayCluster"]
    assert [m["metadata"]["name"] for m in clusters] == ["qwen3-serve-0", "qwen3-serve-1"]
    for manifest in clusters:
        assert manifest["spec"]["headGroupSpec"]["rayStartParams"] == {"port": "6400"}
        (workers,) = manifest["spec"]["workerGroupSpecs"]
        assert (workers["replicas"], workers["minReplicas"], workers["maxReplicas"]) == (1, 1, 1)
        leader = {"name": "LEADER_IP", "value": f"{manifest['metadata']['name']}-head-svc"}
        assert leader in server(workers["template"])["env"]


def test_a_command_of_ones_own_has_no_service() -> None:
    text = RAY + "instances:\n  ray-head: {nodes: 2, command: [sleep, infinity]}\n"
    made = rendered(compiled(text), "ray")
    assert [manifest["kind"] for manifest in made] == ["ServiceAccount", "RayCluster"]
    assert [server(template)["args"] for template in pods(made)] == [["sleep", "infinity"]] * 2


def test_what_is_no_ray_cluster_is_refused() -> None:
    with pytest.raises(UserError) as error:
        ray.files(example("kubernetes"))
    said = str(error.value)
    assert error.value.exit_code == 65
    assert (
        "instances.prefill: is not a Ray cluster: its role is prefill (render it with --to lws)"
        in said
    )
    assert "instances.decode: is not a Ray cluster" in said
    assert "proxy: is for prefill and decode" in said


def test_a_name_that_the_operator_would_cut() -> None:
    long = RAY.replace("name: qwen3", f"name: {'q' * 50}") + "instances:\n  serve: {nodes: 2}\n"
    with pytest.raises(UserError, match="has 56 characters, the maximum is 50"):
        ray.files(compiled(long))
