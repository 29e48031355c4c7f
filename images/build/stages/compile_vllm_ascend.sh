#!/bin/bash
# Compile vllm-ascend in /src with its kernels into a wheel in /wheels: compile_vllm_ascend.sh VERSION.
# SOC_VERSION in the environment selects the hardware. Stubs of the driver are in devlib.
source /usr/local/Ascend/ascend-toolkit/set_env.sh # these continue after a failed command
source /usr/local/Ascend/nnal/atb/set_env.sh
set -e
devlib=/usr/local/Ascend/ascend-toolkit/latest/$(uname -m)-linux/devlib
export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$devlib
export PATH=/opt/vllm/bin:$PATH SETUPTOOLS_SCM_PRETEND_VERSION=$1 COMPILE_CUSTOM_KERNELS=1
python -m pip wheel --verbose --no-deps --no-build-isolation --wheel-dir /wheels /src
