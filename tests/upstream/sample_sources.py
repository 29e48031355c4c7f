"""Two small distributions in the shape of upstream's, for the tests of this room."""

from __future__ import annotations

from upstream.sources import Sources, Tree

FACTORY = "vllm/distributed/kv_transfer/kv_connector/factory.py"

VLLM = {
    "vllm/envs.py": """
environment_variables: dict[str, Callable[[], Any]] = {
    "VLLM_PORT": lambda: os.getenv("VLLM_PORT"),
    "VLLM_ENGINE_READY_TIMEOUT_S": lambda: int(
        os.environ.get("VLLM_ENGINE_READY_TIMEOUT_S", "600")
    ),
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": lambda: int(
        os.getenv("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "300")
    ),
}
""",
    "vllm/engine/arg_utils.py": """
class EngineArgs:
    model: str = ModelConfig.model
    nnodes: int = 1
    async_scheduling: bool | None = SchedulerConfig.async_scheduling
    gpu_memory_utilization: float = CacheConfig.gpu_memory_utilization

    def add_cli_args(parser):
        parser.add_argument("--model", **kwargs["model"])
        parser.add_argument("--nnodes", "-n", **kwargs["nnodes"])
        parser.add_argument("--hf-overrides", type=json.loads)
        parser.add_argument("--gpu-memory-utilization", "--device-memory", type=float)
        for name, kind in [("--guided-decoding", str)]:
            parser.add_argument(name, type=kind)

    def create_engine_config(self):
        if data_parallel_size > 1 and data_parallel_external_lb and not model_config.is_moe:
            raise ValueError("dense")
""",
    "vllm/entrypoints/openai/cli_args.py": """
class FrontendArgs:
    enable_log_requests: bool = False
""",
    "vllm/entrypoints/cli/serve.py": """
def cmd(args):
    if args.headless:
        if args.api_server_count is not None and args.api_server_count > 0:
            raise ValueError("no")
""",
    "vllm/config/cache.py": """
class CacheConfig:
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
""",
    "vllm/config/kv_transfer.py": "class KVTransferConfig:\n    kv_port: int = 14579\n",
    "vllm/config/vllm.py": """
class VllmConfig:
    def check(self):
        executor_supports_async_sched = executor_backend in ("mp", "uni")
        if self.scheduler_config.async_scheduling:
            if self.parallel_config.pipeline_parallel_size > 1:
                raise ValueError("pipeline")
            if not executor_supports_async_sched:
                raise ValueError("executor")
""",
    FACTORY: """
KVConnectorFactory.register_connector("NixlConnector", "vllm.nixl", "NixlConnector")
KVConnectorFactory.register_connector("MultiConnector", "vllm.multi", "MultiConnector")
""",
    "vllm/transformers_utils/config.py": "config.rope_parameters = {}\n",
    "vllm/v1/engine/core_client.py": 'os.environ.get("VLLM_HIDDEN")\n',
    "vllm/model_executor/models/registry.py": '"SmallForCausalLM": ("small", "Small"),\n',
}

ASCEND = {
    "Dockerfile": "FROM quay.io/ascend/cann:8.5.0-910b-ubuntu22.04-py3.11\n"
    "ARG VLLM_TAG=v1.0.0\nARG MOONCAKE_TAG=v0.3.9\nARG SOC_VERSION=ascend910b1\n",
    "vllm_ascend/envs.py": """
env_variables: dict[str, Callable[[], Any]] = {
    # Whether FlashComm is on.
    "VLLM_ASCEND_ENABLE_FLASHCOMM1": lambda: bool(
        int(os.getenv("VLLM_ASCEND_ENABLE_FLASHCOMM1", "0"))
    ),
    # 0: off;
    # 1: with quantized weights;
    # 2: always.
    "VLLM_ASCEND_ENABLE_NZ": lambda: int(os.getenv("VLLM_ASCEND_ENABLE_NZ", 1)),
    # The size of a group.
    "VLLM_ASCEND_FLASHCOMM2_PARALLEL_SIZE": lambda: int(
        os.getenv("VLLM_ASCEND_FLASHCOMM2_PARALLEL_SIZE", 0)
    ),
    "SOC_VERSION": lambda: os.getenv("SOC_VERSION", None),
}
""",
    "vllm_ascend/ascend_config.py": """
class AscendConfig:
    def __init__(self):
        self.nz = self._get_config_value(
            additional_config, "weight_nz_mode", "VLLM_ASCEND_ENABLE_NZ", envs.VLLM_ASCEND_ENABLE_NZ
        )
        self.enable_cpu_binding = additional_config.get("enable_cpu_binding", True)
""",
    "vllm_ascend/distributed/kv_transfer/__init__.py": """
def register_connector():
    KVConnectorFactory.register_connector("MultiConnector", "vllm_ascend.multi", "AscendMulti")
    KVConnectorFactory.register_connector("MooncakeConnectorV1", "vllm_ascend.p2p", "Mooncake")
""",
    "vllm_ascend/distributed/kv_transfer/kv_p2p/mooncake_connector.py": (
        'remote_port_send_num[port] = {"num": 0, "host": remote_host}\n'
    ),
    "vllm_ascend/platform.py": """
assert vllm_config.parallel_config.tensor_parallel_size > 1, (
    "Flash Comm v1 is only supported when tp_size > 1."
)
""",
    "vllm_ascend/utils.py": "def check_kv_extra_config(vllm_config):\n    pass\n",
    "vllm_ascend/ascend_forward_context.py": (
        "FUSED_MC2 = 3\nenable = get_ep_group().world_size <= 32\n"
    ),
    "docs/source/guide.md": "Ports `[20000, 20000 + npu_per_node x 1000)`; export VLLM_UNREAD=1\n"
    "Two Atlas 800 A2(64G*8) nodes, HDK 25.5, /dev/davinci_manager, /etc/hccn.conf\n",
    "examples/pd/proxy.py": "",
}

NAME = "v1.0.0"


def made(
    vllm: dict[str, str] | None = None, ascend: dict[str, str] | None = None, name: str = NAME
) -> Sources:
    """The small release, with some of its files replaced."""
    return Sources(
        name,
        Tree("vllm-ascend", name.removeprefix("v"), {**ASCEND, **(ascend or {})}),
        Tree("vllm", "1.0.0", {**VLLM, **(vllm or {})}),
    )


def without(path: str, *, of: str = "vllm") -> Sources:
    """The small release without one file."""
    sources = made()
    vllm, ours = dict(sources.vllm.files), dict(sources.vllm_ascend.files)
    (vllm if of == "vllm" else ours).pop(path)
    return Sources(NAME, Tree("vllm-ascend", "1.0.0", ours), Tree("vllm", "1.0.0", vllm))
