# v0.13.0rc1 for Atlas 800 A2 (a2), ubuntu22.04, on a stand-in for CANN.
# Rendered from images/build/layers; `invoke render` prints it, `invoke build` builds it.
#
# A stage on the builder's architecture makes each Python layer, and COPY --link adds it. A layer thus
# depends on nothing below it, and is the same on every platform and base.

# ---- tools: runs the stages; not part of the image ----------------------------------------------
FROM --platform=$BUILDPLATFORM scratch AS tools
ARG BUILDARCH
ADD tools-${BUILDARCH}.tar /
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
    --mount=type=bind,from=locks,source=v0.13.0rc1/${TARGETARCH}/torch.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

FROM --platform=$BUILDPLATFORM tools AS layer-libraries
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.13.0rc1/${TARGETARCH}/libraries.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

FROM --platform=$BUILDPLATFORM tools AS layer-dependencies
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.13.0rc1/${TARGETARCH}/dependencies.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

# ---- utilities: the init and the router ---------------------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS layer-utilities
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.13.0rc1/${TARGETARCH}/utilities.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

# ---- Mooncake -----------------------------------------------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS layer-mooncake
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.13.0rc1/${TARGETARCH}/mooncake.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

# ---- CANN ---------------------------------------------------------------------------------------
FROM scratch AS debian
ARG TARGETARCH
ADD --link base-${TARGETARCH}.tar /

# The shape of a CANN image without CANN: its paths, set_env.sh, and libraries with symbols only.
FROM --platform=$BUILDPLATFORM tools AS stand-in
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=standin,target=/stages/standin \
    --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=stand-in.txt,target=/stand-in.txt \
    --mount=type=bind,from=debian,target=/base \
    --mount=type=bind,from=layer-torch,source=/out,target=/layers/torch \
    --mount=type=bind,from=layer-libraries,source=/out,target=/layers/libraries \
    --mount=type=bind,from=layer-dependencies,source=/out,target=/layers/dependencies \
    --mount=type=bind,from=layer-mooncake,source=/out,target=/layers/mooncake \
    sh /stages/mirrors.sh uv pip install -q --system --break-system-packages --no-cache --require-hashes --no-deps -r /stand-in.txt \
    && cd /stages && python3 -m standin --cann-version 8.3.rc2 --arch ${TARGETARCH} --rootfs /base --out /tree \
       --layers /layers/torch /layers/libraries /layers/dependencies /layers/mooncake  \
    && python3 /stages/layer.py tree /tree

FROM --platform=$BUILDPLATFORM tools AS stand-in-kernels
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    mkdir -p /tree/usr/local/Ascend/ascend-toolkit/8.3.RC2/opp/built-in/op_impl/ai_core/tbe/kernel/ascend910b1 \
    && echo "ascend910b1: a stand-in has no kernels" > /tree/usr/local/Ascend/ascend-toolkit/8.3.RC2/opp/built-in/op_impl/ai_core/tbe/kernel/ascend910b1/README \
    && python3 /stages/layer.py tree /tree

FROM debian AS cann
COPY --link --from=stand-in /out/ /
COPY --link --from=stand-in-kernels /out/ /
ENV PATH="/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/bin:/usr/local/Ascend/ascend-toolkit/latest/bin:/usr/local/Ascend/ascend-toolkit/latest/compiler/ccec_compiler/bin:/usr/local/Ascend/ascend-toolkit/latest/tools/ccec_compiler/bin:/usr/local/python3.11.13/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    LD_LIBRARY_PATH="/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/lib:/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/examples:/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/tests/atbopstest:/usr/local/Ascend/ascend-toolkit/latest/tools/aml/lib64:/usr/local/Ascend/ascend-toolkit/latest/tools/aml/lib64/plugin:/usr/local/Ascend/ascend-toolkit/latest/lib64:/usr/local/Ascend/ascend-toolkit/latest/lib64/plugin/opskernel:/usr/local/Ascend/ascend-toolkit/latest/lib64/plugin/nnengine:/usr/local/Ascend/ascend-toolkit/latest/opp/built-in/op_impl/ai_core/tbe/op_tiling:/usr/local/Ascend/driver/lib64/common/:/usr/local/Ascend/driver/lib64/driver/:" \
    PYTHONPATH="/usr/local/Ascend/ascend-toolkit/latest/python/site-packages:/usr/local/Ascend/ascend-toolkit/latest/opp/built-in/op_impl/ai_core/tbe:" \
    ASCEND_TOOLKIT_HOME="/usr/local/Ascend/ascend-toolkit/latest" \
    ASCEND_AICPU_PATH="/usr/local/Ascend/ascend-toolkit/latest" \
    ASCEND_OPP_PATH="/usr/local/Ascend/ascend-toolkit/latest/opp" \
    TOOLCHAIN_HOME="/usr/local/Ascend/ascend-toolkit/latest/toolkit" \
    ASCEND_HOME_PATH="/usr/local/Ascend/ascend-toolkit/latest" \
    ATB_HOME_PATH="/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0" \
    ATB_STREAM_SYNC_EVERY_KERNEL_ENABLE="0" \
    ATB_STREAM_SYNC_EVERY_RUNNER_ENABLE="0" \
    ATB_STREAM_SYNC_EVERY_OPERATION_ENABLE="0" \
    ATB_OPSRUNNER_SETUP_CACHE_ENABLE="1" \
    ATB_OPSRUNNER_KERNEL_CACHE_LOCAL_COUNT="1" \
    ATB_OPSRUNNER_KERNEL_CACHE_GLOABL_COUNT="5" \
    ATB_WORKSPACE_MEM_ALLOC_ALG_TYPE="1" \
    ATB_WORKSPACE_MEM_ALLOC_GLOBAL="1" \
    ATB_COMPARE_TILING_EVERY_KERNEL="0" \
    ATB_HOST_TILING_BUFFER_BLOCK_NUM="128" \
    ATB_DEVICE_TILING_BUFFER_BLOCK_NUM="32" \
    ATB_SHARE_MEMORY_NAME_SUFFIX="" \
    ATB_MATMUL_SHUFFLE_K_ENABLE="1" \
    LCCL_DETERMINISTIC="0" \
    LCCL_PARALLEL="0"


# OS packages of the release.
FROM cann AS sdk
# A stand-in needs none: it neither compiles nor serves.

FROM sdk AS base

# ---- environment: what CANN's set_env.sh scripts change, next to the installed torch ---------------
FROM --platform=$BUILDPLATFORM tools AS capture
ARG MACHINE
ENV PATH="/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/bin:/usr/local/Ascend/ascend-toolkit/latest/bin:/usr/local/Ascend/ascend-toolkit/latest/compiler/ccec_compiler/bin:/usr/local/Ascend/ascend-toolkit/latest/tools/ccec_compiler/bin:/usr/local/python3.11.13/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    LD_LIBRARY_PATH="/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/lib:/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/examples:/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/tests/atbopstest:/usr/local/Ascend/ascend-toolkit/latest/tools/aml/lib64:/usr/local/Ascend/ascend-toolkit/latest/tools/aml/lib64/plugin:/usr/local/Ascend/ascend-toolkit/latest/lib64:/usr/local/Ascend/ascend-toolkit/latest/lib64/plugin/opskernel:/usr/local/Ascend/ascend-toolkit/latest/lib64/plugin/nnengine:/usr/local/Ascend/ascend-toolkit/latest/opp/built-in/op_impl/ai_core/tbe/op_tiling:/usr/local/Ascend/driver/lib64/common/:/usr/local/Ascend/driver/lib64/driver/:" \
    PYTHONPATH="/usr/local/Ascend/ascend-toolkit/latest/python/site-packages:/usr/local/Ascend/ascend-toolkit/latest/opp/built-in/op_impl/ai_core/tbe:" \
    ASCEND_TOOLKIT_HOME="/usr/local/Ascend/ascend-toolkit/latest" \
    ASCEND_AICPU_PATH="/usr/local/Ascend/ascend-toolkit/latest" \
    ASCEND_OPP_PATH="/usr/local/Ascend/ascend-toolkit/latest/opp" \
    TOOLCHAIN_HOME="/usr/local/Ascend/ascend-toolkit/latest/toolkit" \
    ASCEND_HOME_PATH="/usr/local/Ascend/ascend-toolkit/latest" \
    ATB_HOME_PATH="/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0" \
    ATB_STREAM_SYNC_EVERY_KERNEL_ENABLE="0" \
    ATB_STREAM_SYNC_EVERY_RUNNER_ENABLE="0" \
    ATB_STREAM_SYNC_EVERY_OPERATION_ENABLE="0" \
    ATB_OPSRUNNER_SETUP_CACHE_ENABLE="1" \
    ATB_OPSRUNNER_KERNEL_CACHE_LOCAL_COUNT="1" \
    ATB_OPSRUNNER_KERNEL_CACHE_GLOABL_COUNT="5" \
    ATB_WORKSPACE_MEM_ALLOC_ALG_TYPE="1" \
    ATB_WORKSPACE_MEM_ALLOC_GLOBAL="1" \
    ATB_COMPARE_TILING_EVERY_KERNEL="0" \
    ATB_HOST_TILING_BUFFER_BLOCK_NUM="128" \
    ATB_DEVICE_TILING_BUFFER_BLOCK_NUM="32" \
    ATB_SHARE_MEMORY_NAME_SUFFIX="" \
    ATB_MATMUL_SHUFFLE_K_ENABLE="1" \
    LCCL_DETERMINISTIC="0" \
    LCCL_PARALLEL="0"
RUN --mount=type=bind,from=stages,source=environment.py,target=/stages/environment.py \
    --mount=type=bind,from=stages,source=torch_abi,target=/stages/torch_abi \
    --mount=type=bind,from=layer-torch,source=/out,target=/torch \
    --mount=type=bind,from=cann,target=/cann \
    --mount=type=bind,from=cann,source=/usr/local/Ascend,target=/usr/local/Ascend \
    python3 /stages/environment.py --root /cann --torch /torch/opt/vllm/lib/python3.11/site-packages --python 3.11 --machine ${MACHINE}

FROM scratch AS environment
COPY --from=capture /out/ /

# /opt/vllm is a virtual environment of the base's interpreter.
FROM --platform=$BUILDPLATFORM tools AS layer-venv
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    python3 /stages/layer.py venv /usr/local/python3.11.13/bin/python3.11 --python 3.11

# ---- vLLM without a device: vllm-ascend is its platform -------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS wheel-vllm
RUN --mount=type=bind,from=stages,source=wheel.py,target=/stages/wheel.py \
    --mount=type=bind,from=stages,source=no_device,target=/stages/no_device \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.13.0rc1/sources.txt,target=/sources.txt \
    VLLM_TARGET_DEVICE=empty sh /stages/mirrors.sh python3 /stages/wheel.py vllm /sources.txt /wheels

FROM --platform=$BUILDPLATFORM tools AS layer-vllm
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.13.0rc1/${TARGETARCH}/vllm.txt,target=/slice.txt \
    --mount=type=bind,from=wheel-vllm,source=/wheels,target=/wheels \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11 --wheels /wheels

# ---- proxy: the example proxies of the release, from its source distribution ----------------------
# setup.py requires a SOC_VERSION; the files are the same for each.
FROM --platform=$BUILDPLATFORM tools AS layer-proxy
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=source.py,target=/stages/source.py \
    --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=no_device,target=/stages/no_device \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.13.0rc1/${TARGETARCH}/vllm-ascend.txt,target=/sources.txt \
    SOC_VERSION=ascend910b1 sh /stages/mirrors.sh python3 /stages/source.py /sources.txt \
        "examples/disaggregated_prefill_v1/load_balance_proxy*_server_example.py" /tree/opt/ascend/proxy \
    && python3 /stages/layer.py tree /tree

# ---- vllm-ascend for ascend910b1 ------------------------------------------------
# Without kernels: a stand-in has no compiler for them.
FROM --platform=$BUILDPLATFORM tools AS build-vllm-ascend
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=wheel.py,target=/stages/wheel.py \
    --mount=type=bind,from=stages,source=no_device,target=/stages/no_device \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=v0.13.0rc1/${TARGETARCH}/vllm-ascend.txt,target=/sources.txt \
    SOC_VERSION=ascend910b1 sh /stages/mirrors.sh python3 /stages/wheel.py vllm-ascend /sources.txt /wheels

FROM --platform=$BUILDPLATFORM tools AS layer-vllm-ascend
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=build-vllm-ascend,source=/wheels,target=/wheels \
    sh /stages/mirrors.sh python3 /stages/layer.py wheel /wheels --arch ${TARGETARCH} --python 3.11

# ---- entrypoint -----------------------------------------------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS layer-entrypoint
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=entrypoints,target=/src/entrypoints \
    --mount=type=bind,from=env,target=/src/env \
    python3 /stages/layer.py entrypoint --python 3.11

# ---- image: the base, then the layers, large and stable first --------------------------------------
FROM base AS image
COPY --link --from=layer-venv /out/ /
WORKDIR /workspace
COPY --link --from=layer-torch /out/ /
COPY --link --from=layer-libraries /out/ /
COPY --link --from=layer-dependencies /out/ /
COPY --link --from=layer-utilities /out/ /
COPY --link --from=layer-mooncake /out/ /
COPY --link --from=layer-vllm /out/ /
COPY --link --from=layer-proxy /out/ /
COPY --link --from=layer-vllm-ascend /out/ /
COPY --link --from=layer-entrypoint /out/ /
ENV ATB_HOME_PATH="/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_1" \
    LD_LIBRARY_PATH="/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_1/lib:/usr/local/Ascend/ascend-toolkit/latest/lib64:/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_0/lib:/usr/local/Ascend/driver/lib64/driver:/usr/local/lib" \
    PATH="/opt/vllm/bin:/usr/local/Ascend/ascend-toolkit/latest/bin:/usr/local/python3.11.13/bin:/usr/local/bin:/usr/bin:/bin" \
    PYTHONPATH="/usr/local/Ascend/ascend-toolkit/latest/python/site-packages"
ENV ASCEND_PLATFORM="a2" \
    SOC_VERSION="ascend910b1" \
    VIRTUAL_ENV="/opt/vllm" \
    VLLM_ASCEND_RELEASE="v0.13.0rc1" \
    CANN_STANDIN="1"
LABEL org.opencontainers.image.title="vLLM for Atlas 800 A2" \
      org.opencontainers.image.version="v0.13.0rc1" \
      org.opencontainers.image.created="2025-12-28T00:00:00Z" \
      org.opencontainers.image.base.name="stand-in" \
      ascend.platform="a2" \
      ascend.soc-version="ascend910b1" \
      ascend.os="ubuntu22.04" \
      ascend.base="stand-in" \
      ascend.layers="venv workdir torch libraries dependencies utilities mooncake vllm proxy vllm-ascend entrypoint" \
      ascend.pin.cann="8.3.rc2" \
      ascend.pin.torch="2.8.0" \
      ascend.pin.torch-npu="2.8.0" \
      ascend.pin.triton-ascend="3.2.0" \
      ascend.pin.mooncake="0.3.7.post2" \
      ascend.pin.vllm="0.13.0" \
      ascend.pin.vllm-ascend="0.13.0rc1" \
      ascend.stand-in="no CANN in this image: it imports and plans, but cannot serve" \
      ascend.fallback.vllm-ascend="without kernels" \
      ascend.fallback.mooncake="the package index's wheel, without ascend_direct"
STOPSIGNAL SIGTERM
# A large model takes long to load: failures count only after half an hour, readiness at once.
HEALTHCHECK --interval=30s --start-interval=5s --timeout=10s --start-period=30m --retries=3 CMD ["/opt/vllm/bin/entrypoint", "health"]
ENTRYPOINT ["/opt/vllm/bin/dumb-init", "--single-child", "--", "/opt/vllm/bin/entrypoint"]
