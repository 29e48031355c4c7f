# Of vllm-ascend 0.30.0rc2: .github/workflows/scripts/install_daily_deps.sh, shortened.
set -euo pipefail
if [ "$BUILD_TYPE" != "daily" ]; then
    exit 0
fi
ARCH=$(uname -m)
if [ "$ARCH" = "x86_64" ]; then
    MEMCACHE_URL="https://obs.example/memcache/master/${MEMCACHE_DATE}/memcache_hybrid-${MEMCACHE_VERSION}-cp312-cp312-manylinux_2_28_x86_64.whl"
else
    MEMCACHE_URL="https://obs.example/memcache/master/${MEMCACHE_DATE}/memcache_hybrid-${MEMCACHE_VERSION}-cp312-cp312-manylinux_2_28_aarch64.whl"
fi
python3 -m pip install "$MEMCACHE_URL" --force-reinstall --no-deps
TRITON_ASCEND_URL="https://obs.example/triton-ascend/${TRITON_ASCEND_VERSION}/triton_ascend-${TRITON_ASCEND_PACKAGE_VERSION}-cp312-cp312-manylinux_2_28_${ARCH}.whl"
python3 -m pip install "$TRITON_ASCEND_URL"
mkdir -p /tmp/torch_npu
wget -q --tries=5 \
    -O /tmp/torch_npu/torch_npu.tar.gz \
    "https://obs.example/pta/Daily/v2.10.0-${TORCH_NPU_VERSION}/${TORCH_NPU_DATE}/pytorch_v2.10.0-${TORCH_NPU_VERSION}_py312.tar.gz"
tar -xzf /tmp/torch_npu/torch_npu.tar.gz -C /tmp/torch_npu
python3 -m pip install /tmp/torch_npu/torch_npu-2.10.0*_"${ARCH}".whl --extra-index-url https://download.pytorch.org/whl/cpu/
