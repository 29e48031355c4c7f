"""Replace the NPUs: this process can be any rank of any world, and tensors have no memory.

Upstream's worker then makes its groups, its runner, its model and the specification of its KV cache
as on a device. The machine's NPUs are not used.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import types
from typing import Any

import torch
import torch_npu  # noqa: F401  (adds torch.npu)
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore

# Smaller tensors stay on the CPU, because upstream computes with them: the map of the experts.
LARGEST_REAL = 100_000
_MAKES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
_MOVES = {torch.Tensor.to, torch.Tensor.npu, torch.Tensor.cuda}


class NoMemory(TorchFunctionMode):  # type: ignore[misc]
    """Makes tensors on the CPU in place of a device, and large ones without memory."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = dict(kwargs or {})
        named.pop("pin_memory", None)
        if function is torch.Tensor.pin_memory:
            return args[0]
        device = str(named.get("device", ""))
        if function in _MAKES and device != "cpu":
            named["device"] = "meta" if _elements(args, named) > LARGEST_REAL else "cpu"
        elif device not in ("", "None", "cpu", "meta"):
            named["device"] = "cpu"
        if function in _MOVES:
            args = tuple("cpu" if str(one).startswith("npu") else one for one in args)
        return function(*args, **named)


def _elements(args: Any, named: Any) -> int:
    size = named.get("size") or args
    if size and isinstance(size[0], (tuple, list)):
        size = size[0]
    return math.prod(one for one in size if isinstance(one, int))


class _Anything:
    """A stream or an event that accepts every call and does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None

    def __enter__(self) -> _Anything:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def replace(total: int, devices: int) -> None:
    """Replace the devices of this process by `devices` of `total` bytes each."""
    _cann_modules()
    answers: dict[str, Any] = {
        "current_device": 0,
        "device_count": devices,
        "is_available": True,
        "is_initialized": True,
        "mem_get_info": (total, total),
        "max_memory_allocated": 0,
        "memory_allocated": 0,
        "memory_reserved": 0,
        "memory_stats": {},
    }
    for name in ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats"):
        answers[name] = None
    npu = torch.npu
    for name, value in answers.items():
        setattr(npu, name, _answering(value))
    for name in ("Stream", "Event", "current_stream", "stream"):
        setattr(npu, name, lambda *args, **kwargs: _Anything())
    torch.Event = lambda *args, **kwargs: _Anything()
    _groups()
    _vllm()


def _answering(value: Any) -> Any:
    return lambda *args, **kwargs: value


def _cann_modules() -> None:
    """Replace CANN's Python module `acl` in a stand-in. Upstream imports it without calling it."""
    if importlib.util.find_spec("acl") is None:
        acl, runtime = types.ModuleType("acl"), types.ModuleType("acl.rt")
        acl.rt, runtime.memcpy = runtime, None  # type: ignore[attr-defined]
        sys.modules.update({"acl": acl, "acl.rt": runtime})


def _groups() -> None:
    """Process groups of torch's fake backend, in which this process is one rank among many."""
    dist = torch.distributed
    initialize, new = dist.init_process_group, dist.new_group

    def init_process_group(*args: Any, rank: int = -1, world_size: int = -1, **kwargs: Any) -> None:
        initialize(backend="fake", store=FakeStore(), rank=rank, world_size=world_size)

    def new_group(ranks: Any = None, *args: Any, **kwargs: Any) -> Any:
        return new(ranks, backend="fake")

    class Backend:
        def get_hccl_comm_name(self, *_: Any) -> str:
            return "none"

    dist.init_process_group = init_process_group
    dist.new_group = new_group
    dist.ProcessGroup._get_backend = lambda self, device: Backend()


def _vllm() -> None:
    """Replace what vLLM does over the network or with the weights."""
    from vllm.distributed import parallel_state
    from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.platforms import current_platform
    from vllm.utils.torch_utils import set_default_torch_dtype

    def load_model(self: Any, vllm_config: Any, model_config: Any, *_: Any, **__: Any) -> Any:
        with set_default_torch_dtype(model_config.dtype):
            return initialize_model(vllm_config=vllm_config, model_config=model_config).eval()

    communicator = "base_device_communicator.DeviceCommunicatorBase"
    path = f"vllm.distributed.device_communicators.{communicator}"
    platform = type(current_platform)
    platform.get_device_communicator_cls = classmethod(lambda cls: path)
    parallel_state._node_count = lambda *args: 1
    MessageQueue.create_from_process_group = staticmethod(lambda *args, **kwargs: None)
    BaseModelLoader.load_model = load_model
