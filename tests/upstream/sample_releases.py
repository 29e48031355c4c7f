"""Small releases in the forms that upstream's files have had, and a bump that asks nobody."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping
from pathlib import Path

from images import matrix as matrices
from tests import ROOT
from tests.upstream import sample_sources
from upstream.bump.bump_release import Project
from upstream.bump.upload_dates import UploadDates
from upstream.facts import Derived, Fact
from upstream.sources import Sources, Tree

APT = """\
FROM quay.io/ascend/cann:{cann}-{part}-ubuntu22.04-py{python}

ARG PIP_INDEX_URL="https://index.example/simple"
ARG MOONCAKE_TAG="v0.3.9"
ARG SOC_VERSION="{soc}"

RUN apt-get update -y && \\
    apt-get install -y git gcc {packages} && \\
    git clone --depth 1 --branch ${{MOONCAKE_TAG}} https://git.example/Mooncake /w/Mooncake && \\
    rm -rf /var/lib/apt/lists/*

RUN pip config set global.index-url ${{PIP_INDEX_URL}}

# Install vLLM
ARG VLLM_TAG=v0.18.0
RUN git clone --depth 1 https://git.example/vllm.git --branch $VLLM_TAG /w/vllm
RUN VLLM_TARGET_DEVICE="empty" python3 -m pip install -e /w/vllm/ --extra-index https://x && \\
    python3 -m pip uninstall -y triton
{more}
RUN python3 -m pip install modelscope 'ray>=2.47.1,<=2.48.0' 'protobuf>3.20.0' && \\
    python3 -m pip cache purge
"""
YUM = """\
FROM quay.io/ascend/cann:{cann}-{part}-openeuler24.03-py{python}
ARG MOONCAKE_TAG=v0.3.9
ARG SOC_VERSION="{soc}"
RUN yum update -y && \\
    yum install -y git gcc jemalloc && \\
    git clone --branch ${{MOONCAKE_TAG}} https://git.example/Mooncake /w/Mooncake
ARG VLLM_TAG=v0.18.0
RUN python3 -m pip install modelscope 'ray>=2.47.1,<=2.48.0' 'protobuf>3.20.0'
"""
# v0.18.0: a vendor's wheels, whose names are put together in the shell.
WHEELS = """\
RUN ARCH=$(uname -m) && \\
    if [ $ARCH = "x86_64" ]; then PTA="torch_npu-2.9.0.post1%2Bgitdc5-cp311-cp311-${ARCH}.whl"; \\
    else PTA="torch_npu-2.9.0.post1%2Bgit4c901a4-cp311-cp311-${ARCH}.whl"; fi && \\
    python3 -m pip install "https://wheels.example/${PTA}"
"""
# v0.26.0rc1: the base from arguments, Mooncake's wheel, and a package that nothing else names.
LATER = """\
ARG CANN_URL="quay.io/ascend/cann"
ARG CANN_VERSION="9.1.0"
ARG BASE_OS="ubuntu22.04"
FROM ${CANN_URL}:${CANN_VERSION}-a3-${BASE_OS}-py3.12
ARG MOONCAKE_TAG=0.3.11.post1
ARG ASCEND_INDEX_URL="https://vendor.example/pypi"
RUN if [ -n "$MIRROR" ]; then \\
        sed -Ei "s@a@b@g" /etc/apt/sources.list; \\
    fi && \\
    apt-get -y install git clang-15 && \\
    python3 -m pip install mooncake-transfer-engine-npu==${MOONCAKE_TAG} --extra-index-url https://x
ARG VLLM_TAG=v0.26.0
RUN URL="https://vendor.example/ops_${ARCH}.run" && \\
    wget --quiet ${URL} -O /tmp/ops.run
RUN python3 -m pip install -e /w/vllm-ascend/ --extra-index-url https://x && \\
    python3 -m pip uninstall -y triton triton-ascend && \\
    python3 -m pip install triton-ascend==3.2.2 --extra-index-url ${ASCEND_INDEX_URL} && \\
    python3 -m pip install concurrent-log-handler
"""
REQUIREMENTS = """\
numpy<2.0.0
torch==2.9.0
torchvision
opencv-python-headless<=4.11.0.86 # with a reason
torch-npu==2.9.0
arctic-inference==0.1.1
transformers>=4.57.4
triton-ascend==3.2.0
"""
PYPROJECT = """\
[build-system]
requires = [
    "numpy<2.0.0",
    "torch-npu==2.9.0",
    "transformers<=4.57.1",
]
"""
POLICY = """\
| vLLM Ascend | vLLM    | Python          | Stable CANN | PyTorch/torch_npu       | Triton Ascend |
|-------------|---------|-----------------|-------------|-------------------------|---------------|
| v0.18.0     | v0.18.0 | >= 3.10, < 3.12 | 8.5.0       | 2.9.0 / 2.9.0.post1+git | 3.2.0         |
| v0.17.0     | v0.16.0 | >= 3.10, < 3.12 | 8.4.0       | 2.8.0 / 2.8.0           | 3.1.0         |
"""
OF_VLLM = "numpy\ntransformers >= 4.56.0, < 5\nopencv-python-headless >= 4.13.0  # video\n"


def vllm_ascend(version: str = "0.18.0", **changed: str) -> Tree:
    """Two platforms on two OSes; `changed`: files in place of these, by a name for each."""
    a3 = {"cann": "8.5.1", "part": "a3", "python": "3.11", "soc": "ascend910_9391"}
    p310 = {**a3, "part": "310p", "soc": "ascend310p1"}
    more = {"packages": "libjemalloc2", "more": WHEELS}
    python = {path: text for path, text in sample_sources.ASCEND.items() if path.endswith(".py")}
    files = {
        **python,
        "Dockerfile.a3": APT.format(**a3, **more),
        "Dockerfile.a3.openEuler": YUM.format(**a3),
        "Dockerfile.310p": APT.format(**p310, packages="pciutils", more=""),
        "Dockerfile.310p.openEuler": YUM.format(**p310),
        "requirements.txt": REQUIREMENTS,
        "pyproject.toml": PYPROJECT,
        "docs/source/community/versioning_policy.md": POLICY,
        "tools/mooncake_installer.sh": "#!/bin/bash\nYALANTINGLIBS_VERSION=0.5.6\n",
    }
    names = {"dockerfile": "Dockerfile.a3", "requirements": "requirements.txt"}
    return Tree(
        "vllm-ascend", version, {**files, **{names[key]: text for key, text in changed.items()}}
    )


def sources(release: str = "v0.18.0", **changed: str) -> Sources:
    files = {**sample_sources.VLLM, "requirements/common.txt": OF_VLLM}
    theirs = Tree("vllm", "0.18.0", files)
    return Sources(release, vllm_ascend(release.removeprefix("v"), **changed), theirs)


def uploads(vllm_ascend: str, pins: Mapping[str, str]) -> UploadDates:
    day = Fact("published", datetime.date(2026, 5, 1), "a day")
    return UploadDates(Derived((day,)), {})


def bump(root: Path, given: Sources) -> Project:
    """In a copy of what a bump reads; its catalogue and its lock fail the test that asks them."""
    for path in (matrices.PATH, *matrices.RELEASES.glob("*.yaml")):
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for folder in ("env/releases", "env/flags", "env/variables", "env/keys"):
        shutil.copytree(ROOT / folder, root / folder, dirs_exist_ok=True)

    def never(*_: object) -> Path:
        raise AssertionError("nothing was to be asked")

    return Project(
        root, lambda _: given, uploads, lambda _: True, lambda _: [never()], never, lambda _: {}
    )
