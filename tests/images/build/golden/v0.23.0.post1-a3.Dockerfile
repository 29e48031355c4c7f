# v0.23.0.post1 for Atlas 800 A3 (a3), ubuntu22.04, on quay.io/ascend/cann:9.1.0-a3-ubuntu22.04-py3.12.
# Rendered from images/build/layers; `invoke render` prints it, `invoke build` builds it.
#
# A stage on the builder's architecture makes each Python layer, and COPY --link adds it. A layer thus
# depends on nothing below it, and is the same on every platform and base.

# ---- tools: runs the stages; not part of the image ----------------------------------------------
FROM --platform=$BUILDPLATFORM docker.io/library/python:3.12-slim-bookworm AS tools
RUN --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=tools.txt,target=/tools.txt \
    sh /stages/mirrors.sh python3 -m pip install -q --no-cache-dir --break-system-packages --root-user-action=ignore --require-hashes -r /tools.txt \
    && python3 -m venv --without-pip /opt/vllm

# ---- torch, torch_npu, triton_ascend, and what they and vLLM require -----------------------------
FROM --platform=$BUILDPLATFORM tools AS layer-torch
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/torch.txt,target=/slice.txt \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/vendor.txt,target=/vendor.txt \
    --mount=type=bind,from=vendor,target=/wheels \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt /vendor.txt --arch ${TARGETARCH} --python 3.12 --find-links /wheels

FROM --platform=$BUILDPLATFORM tools AS layer-libraries
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/libraries.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.12

FROM --platform=$BUILDPLATFORM tools AS layer-dependencies
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/dependencies.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.12

# ---- utilities: the init and the router ---------------------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS layer-utilities
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/utilities.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.12

# ---- Mooncake -----------------------------------------------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS layer-mooncake
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/mooncake.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.12

# ---- CANN ---------------------------------------------------------------------------------------
FROM quay.io/ascend/cann:9.1.0-a3-ubuntu22.04-py3.12 AS cann


# OS packages of the release.
FROM cann AS sdk
RUN --mount=type=bind,from=stages,source=packages.sh,target=/stages/packages.sh \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    sh /stages/mirrors.sh sh /stages/packages.sh apt git vim wget net-tools gcc g++ cmake numactl libnuma-dev libibverbs-dev libjemalloc2 libhiredis-dev clang-15

FROM sdk AS base

# ---- environment: what CANN's set_env.sh scripts change, next to the installed torch ---------------
FROM cann AS capture
ARG MACHINE
RUN --mount=type=bind,from=stages,source=environment.py,target=/stages/environment.py \
    --mount=type=bind,from=stages,source=torch_abi,target=/stages/torch_abi \
    --mount=type=bind,from=layer-torch,source=/out,target=/torch \
    python3 /stages/environment.py --root / --torch /torch/opt/vllm/lib/python3.12/site-packages --python 3.12 --machine ${MACHINE}

FROM scratch AS environment
COPY --from=capture /out/ /

# /opt/vllm is a virtual environment of the base's interpreter.
FROM --platform=$BUILDPLATFORM tools AS layer-venv
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    python3 /stages/layer.py venv /usr/bin/python3.12 --python 3.12

# ---- what Python packages compile against --------------------------------------------------------
FROM sdk AS python
COPY --link --from=layer-venv /out/ /
COPY --link --from=layer-torch /out/ /
COPY --link --from=layer-libraries /out/ /
COPY --link --from=layer-dependencies /out/ /

# Packages that the index has only as source; each with its build requirements.
FROM python AS build-compiled
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/compiled.txt,target=/compiled.txt \
    sh /stages/mirrors.sh /opt/vllm/bin/python -m pip wheel --no-deps --require-hashes --wheel-dir /wheels -r /compiled.txt

FROM --platform=$BUILDPLATFORM tools AS layer-compiled
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=build-compiled,source=/wheels,target=/wheels \
    sh /stages/mirrors.sh python3 /stages/layer.py wheel /wheels --arch ${TARGETARCH} --python 3.12

# ---- vLLM without a device: vllm-ascend is its platform -------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS wheel-vllm
RUN --mount=type=bind,from=stages,source=wheel.py,target=/stages/wheel.py \
    --mount=type=bind,from=stages,source=no_device,target=/stages/no_device \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/sources.txt,target=/sources.txt \
    VLLM_TARGET_DEVICE=empty sh /stages/mirrors.sh python3 /stages/wheel.py vllm /sources.txt /wheels

FROM --platform=$BUILDPLATFORM tools AS layer-vllm
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/vllm.txt,target=/slice.txt \
    --mount=type=bind,from=wheel-vllm,source=/wheels,target=/wheels \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.12 --wheels /wheels

# ---- proxy: the example proxies of the release, from its source distribution ----------------------
# setup.py requires a SOC_VERSION; the files are the same for each.
FROM --platform=$BUILDPLATFORM tools AS layer-proxy
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=source.py,target=/stages/source.py \
    --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=no_device,target=/stages/no_device \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.23.0.post1/${TARGETARCH}/vllm-ascend.txt,target=/sources.txt \
    SOC_VERSION=ascend910b1 sh /stages/mirrors.sh python3 /stages/source.py /sources.txt \
        "examples/disaggregated_prefill_v1/load_balance_proxy*_server_example.py" /tree/opt/ascend/proxy \
    && python3 /stages/layer.py tree /tree

# ---- vllm-ascend for ascend910_9391 ------------------------------------------------
FROM python AS build-vllm-ascend
COPY --link --from=layer-vllm /out/ /
RUN --mount=type=bind,from=stages,source=compile_vllm_ascend.sh,target=/stages/compile_vllm_ascend.sh \
    --mount=type=bind,from=vllm-ascend-source,target=/src,rw \
    SOC_VERSION=ascend910_9391 bash /stages/compile_vllm_ascend.sh 0.23.0.post1

FROM --platform=$BUILDPLATFORM tools AS layer-vllm-ascend
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=build-vllm-ascend,source=/wheels,target=/wheels \
    sh /stages/mirrors.sh python3 /stages/layer.py wheel /wheels --arch ${TARGETARCH} --python 3.12

# ---- entrypoint -----------------------------------------------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS layer-entrypoint
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=entrypoints,target=/src/entrypoints \
    --mount=type=bind,from=env,target=/src/env \
    python3 /stages/layer.py entrypoint --python 3.12

# ---- image: the base, then the layers, large and stable first --------------------------------------
FROM base AS image
COPY --link --from=layer-venv /out/ /
WORKDIR /workspace
COPY --link --from=layer-torch /out/ /
COPY --link --from=layer-libraries /out/ /
COPY --link --from=layer-dependencies /out/ /
COPY --link --from=layer-compiled /out/ /
COPY --link --from=layer-utilities /out/ /
COPY --link --from=layer-mooncake /out/ /
COPY --link --from=layer-vllm /out/ /
COPY --link --from=layer-proxy /out/ /
COPY --link --from=layer-vllm-ascend /out/ /
COPY --link --from=layer-entrypoint /out/ /
# `invoke build` adds the ENV that the environment stage captured here.
ENV ASCEND_PLATFORM="a3" \
    SOC_VERSION="ascend910_9391" \
    VIRTUAL_ENV="/opt/vllm" \
    VLLM_ASCEND_RELEASE="v0.23.0.post1"
LABEL org.opencontainers.image.title="vLLM for Atlas 800 A3" \
      org.opencontainers.image.version="v0.23.0.post1" \
      org.opencontainers.image.created="2026-09-23T00:00:00Z" \
      org.opencontainers.image.base.name="quay.io/ascend/cann:9.1.0-a3-ubuntu22.04-py3.12" \
      ascend.platform="a3" \
      ascend.soc-version="ascend910_9391" \
      ascend.os="ubuntu22.04" \
      ascend.base="image" \
      ascend.layers="venv workdir torch libraries dependencies compiled utilities mooncake vllm proxy vllm-ascend entrypoint" \
      ascend.pin.cann="9.1.0" \
      ascend.pin.torch="2.10.0" \
      ascend.pin.torch-npu="2.10.0.post4" \
      ascend.pin.triton-ascend="3.2.2" \
      ascend.pin.mooncake="0.3.11.post1" \
      ascend.pin.vllm="0.23.0" \
      ascend.pin.vllm-ascend="0.23.0.post1"
STOPSIGNAL SIGTERM
# A large model takes long to load: failures count only after half an hour, readiness at once.
HEALTHCHECK --interval=30s --start-interval=5s --timeout=10s --start-period=30m --retries=3 CMD ["/opt/vllm/bin/entrypoint", "health"]
ENTRYPOINT ["/opt/vllm/bin/dumb-init", "--single-child", "--", "/opt/vllm/bin/entrypoint"]
