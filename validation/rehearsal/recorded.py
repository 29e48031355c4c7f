"""The recorded engine: what is mounted over the image's vLLM. It lives with the tests."""

from __future__ import annotations

from pathlib import Path

from clusters.model import Cluster
from images import matrix
from images.names import REPOSITORY
from validation.rehearsal.engines import Engine, Mount
from validation.rehearsal.sizes import Machine

ENGINE = Path(__file__).parents[1] / "recorded"
PLACE = "/opt/recorded"
MOUNTS = (Mount(ENGINE, PLACE), Mount(ENGINE / "vllm", "/opt/vllm/bin/vllm"))


def engine(cluster: Cluster, image: str = "") -> Engine:
    """It takes every cluster as it is. An image on a stand-in for CANN would refuse to serve."""
    platform = next(iter(cluster.nodes.values())).platform
    return Engine(
        image=image or image_of(cluster),
        runs="the recorded engine",
        build=f"invoke build --platform {platform} --release {cluster.release} --base stand-in",
        translate=_as_it_is,
        mounts=MOUNTS,
        timeout=300.0,
        interval=1.0,
        patience=180.0,
        every=0.25,
        env={"CANN_STANDIN": "0"},
    )


def image_of(cluster: Cluster) -> str:
    """The image of the cluster's release and first platform, on a stand-in for CANN."""
    platform = next(iter(cluster.nodes.values())).platform
    suffix = matrix.load().platforms[platform].tag_suffix
    return f"{REPOSITORY}:{cluster.release}{suffix}-standin"


def _as_it_is(cluster: Cluster, machine: Machine) -> tuple[Cluster, tuple[str, ...]]:
    return cluster, ("no weights are mounted",) if cluster.volumes else ()
