#!/bin/sh
# qwen3: node1, 10.0.0.11
cat '/etc/keys/it'"'"'s a token' >/dev/null &&
VLLM_API_KEY="${SITE_KEY:?is a secret: set it first}" \
HF_TOKEN="$(cat '/etc/keys/it'"'"'s a token')" \
docker run -d --name qwen3-prefill-0 \
  --label ascend.cluster=qwen3 \
  --label ascend.instance=prefill \
  --label ascend.replica=0 \
  --label ascend.rank=0 \
  --label ascend.role=prefill \
  --label ascend.node=node1 \
  --label ascend.configuration=ced803b0c21418ba \
  --network host --restart on-failure --stop-timeout 120 \
  --shm-size 16g \
  --device /dev/davinci0 \
  --device /dev/davinci1 \
  --device /dev/davinci2 \
  --device /dev/davinci3 \
  --device /dev/davinci4 \
  --device /dev/davinci5 \
  --device /dev/davinci6 \
  --device /dev/davinci7 \
  --device /dev/davinci8 \
  --device /dev/davinci9 \
  --device /dev/davinci10 \
  --device /dev/davinci11 \
  --device /dev/davinci12 \
  --device /dev/davinci13 \
  --device /dev/davinci14 \
  --device /dev/davinci15 \
  --device /dev/davinci_manager \
  --device /dev/devmm_svm \
  --device /dev/hisi_hdc \
  --mount type=bind,source=/usr/local/dcmi,target=/usr/local/dcmi,readonly \
  --mount type=bind,source=/usr/local/bin/npu-smi,target=/usr/local/bin/npu-smi,readonly \
  --mount type=bind,source=/usr/local/Ascend/driver/tools/hccn_tool,target=/usr/local/Ascend/driver/tools/hccn_tool,readonly \
  --mount type=bind,source=/usr/local/Ascend/driver/lib64,target=/usr/local/Ascend/driver/lib64,readonly \
  --mount type=bind,source=/usr/local/Ascend/driver/version.info,target=/usr/local/Ascend/driver/version.info,readonly \
  --mount type=bind,source=/etc/ascend_install.info,target=/etc/ascend_install.info,readonly \
  --mount type=bind,source=/etc/hccn.conf,target=/etc/hccn.conf,readonly \
  --mount 'type=bind,source=/data/my weights,target=/weights,readonly' \
  -e ROLE=prefill \
  -e 'RECIPE={"extends": "qwen3/pd", "roles": {"decode": {"args": {"max-num-seqs": 96}}}}' \
  -e LOCAL_IP=10.0.0.11 \
  -e 'HCCL_OP_RETRY_ENABLE=L0:0, L1:0' \
  -e SEED=1e3 \
  -e VLLM_API_KEY \
  -e HF_TOKEN \
  --ulimit memlock=-1 \
  --cpus=64 \
  registry.example.com/vllm-ascend:v0.13.0rc1-a3 &&
VLLM_API_KEY="${SITE_KEY:?is a secret: set it first}" \
docker run -d --name qwen3-proxy \
  --label ascend.cluster=qwen3 \
  --label ascend.instance=proxy \
  --label ascend.replica=0 \
  --label ascend.rank=0 \
  --label ascend.role=proxy \
  --label ascend.node=node1 \
  --label ascend.configuration=82439dcf1ce62bb9 \
  --network host --restart on-failure --stop-timeout 120 \
  -e ROLE=proxy \
  -e PREFILL_ENDPOINTS=10.0.0.11:8000 \
  -e VLLM_API_KEY \
  --ulimit memlock=-1 \
  --cpus=64 \
  registry.example.com/vllm-ascend:v0.13.0rc1-a3 \
  --policy round_robin
