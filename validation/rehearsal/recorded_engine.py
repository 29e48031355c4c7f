"""The recorded engine: it replaces `vllm` in the image and replays recorded behaviour."""

from __future__ import annotations

from pathlib import Path

from clusters.model import Cluster
from images import matrix
from images.names import REPOSITORY
from validation.rehearsal.engine import Engine, Mount
from validation.rehearsal.parallel_sizes import Machine

SOURCE = Path(__file__).parents[1] / "recorded"
TARGET = "/opt/recorded"
MOUNTS = (Mount(SOURCE, TARGET), Mount(SOURCE / "vllm", "/opt/vllm/bin/vllm"))


def engine(cluster: Cluster, image: str = "") -> Engine:
    """Return the engine; it runs every cluster unchanged.

    CANN_STANDIN=0, since an image on a stand-in for CANN would otherwise refuse to serve.
    """
    platform = next(iter(cluster.nodes.values())).platform
    return Engine(
        image=image or default_image(cluster),
        description="the recorded engine",
        build_command=f"invoke build --platform {platform} --release {cluster.release}"
        " --base stand-in",
        translate=_unchanged,
        mounts=MOUNTS,
        timeout=300.0,
        health_interval=1.0,
        recovery_timeout=180.0,
        request_interval=0.25,
        env={"CANN_STANDIN": "0"},
    )


def default_image(cluster: Cluster) -> str:
    """The image of the cluster's release and first platform, on a stand-in for CANN."""
    platform = next(iter(cluster.nodes.values())).platform
    suffix = matrix.load().platforms[platform].tag_suffix
    return f"{REPOSITORY}:{cluster.release}{suffix}-standin"


def _unchanged(cluster: Cluster, machine: Machine) -> tuple[Cluster, tuple[str, ...]]:
    return cluster, ("no weights are mounted",) if cluster.volumes else ()
