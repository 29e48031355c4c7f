# The shape of v0.13.0rc1:Dockerfile.a3: the source first, then one RUN of pip for each part.
# What differs from upstream's, and why, is in README.md.
ARG BASE
FROM ${BASE}
ARG SOC_VERSION

COPY source /vllm-workspace/vllm-ascend/
ENV SOC_VERSION=${SOC_VERSION} \
    TASK_QUEUE_ENABLE=1 \
    OMP_NUM_THREADS=1 \
    PIP_BREAK_SYSTEM_PACKAGES=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /workspace

# Mooncake
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=bind,source=requirements/mooncake.txt,target=/requirements/mooncake.txt \
    sh /stages/mirrors.sh python3 -m pip install --no-deps --require-hashes -r /requirements/mooncake.txt && \
    python3 -m pip cache purge

# vLLM and what it needs
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=stages,target=/stages \
    --mount=type=bind,source=requirements,target=/requirements \
    sh /stages/mirrors.sh python3 -m pip install --no-deps --require-hashes \
        -r /requirements/build.txt -r /requirements/vllm-dependencies.txt && \
    sh /stages/mirrors.sh python3 -m pip install --target /tmp/uv --no-deps --require-hashes -r /requirements/uv.txt && \
    VLLM_TARGET_DEVICE=empty PATH=/tmp/uv/bin:$PATH sh /stages/mirrors.sh \
        python3 /stages/wheel.py vllm /requirements/vllm.txt /tmp/wheels && \
    python3 -m pip install --no-deps --no-index /tmp/wheels/*.whl && \
    rm -rf /tmp/uv /tmp/wheels && \
    python3 -m pip cache purge

# vllm-ascend and what it needs
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=stages,target=/stages \
    --mount=type=bind,source=requirements,target=/requirements \
    sh /stages/mirrors.sh python3 -m pip install --no-deps --require-hashes -r /requirements/vllm-ascend-dependencies.txt && \
    sh /stages/mirrors.sh python3 -m pip install --target /tmp/uv --no-deps --require-hashes -r /requirements/uv.txt && \
    PATH=/tmp/uv/bin:$PATH sh /stages/mirrors.sh \
        python3 /stages/wheel.py vllm-ascend /requirements/vllm-ascend.txt /tmp/wheels && \
    python3 -m pip install --no-deps --no-index /tmp/wheels/*.whl && \
    rm -rf /tmp/uv /tmp/wheels && \
    python3 -m pip cache purge

# modelscope (for fast download) and ray (for multinode)
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=bind,source=requirements,target=/requirements \
    sh /stages/mirrors.sh python3 -m pip install --no-deps --require-hashes -r /requirements/modelscope-ray.txt && \
    python3 -m pip cache purge

RUN echo "export LD_PRELOAD=/usr/lib/$(uname -m)-linux-gnu/libjemalloc.so.2:$LD_PRELOAD" >> ~/.bashrc

CMD ["/bin/bash"]
