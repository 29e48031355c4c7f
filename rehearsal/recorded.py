"""The recorded engine: what is mounted over the image's vLLM. It lives with the tests."""

from __future__ import annotations

from pathlib import Path

from clusters.model import Cluster
from images import matrix
from images.targets import REPOSITORY
from rehearsal.stage import Mount

ENGINE = Path(__file__).parent.parent / "tests/recorded"
PLACE = "/opt/recorded"
MOUNTS = (Mount(ENGINE, PLACE), Mount(ENGINE / "vllm", "/opt/vllm/bin/vllm"))


def image_of(cluster: Cluster) -> str:
    """The image of the cluster's release and first platform, on a stand-in for CANN."""
    platform = next(iter(cluster.nodes.values())).platform
    suffix = matrix.load().platforms[platform].tag_suffix
    return f"{REPOSITORY}:{cluster.release}{suffix}-standin"
