"""Settings that upstream reads after the configuration: by the API server and the connector."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from entrypoints.dryrun.upstream import releases, words
from entrypoints.dryrun.upstream.configuration import Configured

Finding = dict[str, Any]

STAGE = "later"
_OWN = ("VLLM_ASCEND_RELEASE",)  # the entrypoint reads it


def ask(made: Configured) -> Iterator[Finding]:
    """Run what reads the configuration later, and yield a finding for each error."""
    for reader in (_ascend_config, _tool_parser, _reasoning_parser, _connector):
        try:
            reader(made)
        except Exception as error:
            yield words.of(error, STAGE)


def _tool_parser(made: Configured) -> None:
    name = getattr(made.arguments, "tool_call_parser", None)
    if name and getattr(made.arguments, "enable_auto_tool_choice", False):
        _named(releases.tool_parsers().get_tool_parser, "--tool-call-parser", name)


def _reasoning_parser(made: Configured) -> None:
    from vllm.reasoning import ReasoningParserManager

    name = getattr(made.arguments, "reasoning_parser", None)
    if name:
        _named(ReasoningParserManager.get_reasoning_parser, "--reasoning-parser", name)


def _named(get: Callable[[str], Any], flag: str, name: str) -> None:
    """Ask a registry of parsers for a name. Raises Refusal with its message."""
    try:
        get(name)
    except KeyError as error:
        raise words.Refusal(f"{flag} {name}: {error.args[0]}") from error


def _connector(made: Configured) -> None:
    """Let the factory create the scheduler's side, which needs neither network nor NPU."""
    transfer = made.config.kv_transfer_config
    if transfer is None:
        return
    from vllm.config import set_current_vllm_config
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
    from vllm.distributed.kv_transfer.kv_connector.v1 import KVConnectorRole

    with set_current_vllm_config(made.config):
        KVConnectorFactory.create_connector(made.config, KVConnectorRole.SCHEDULER)


def _ascend_config(made: Configured) -> None:
    """Let vllm-ascend read --additional-config as its worker does."""
    from vllm.config import set_current_vllm_config
    from vllm_ascend.ascend_config import init_ascend_config

    with set_current_vllm_config(made.config):
        init_ascend_config(made.config)


def unquantized(config: Any) -> Iterator[Finding]:
    """The finding for quantized weights that upstream takes for unquantized ones."""
    described = os.path.join(config.model_config.model, "quant_model_description.json")
    if config.model_config.quantization is None and os.path.isfile(described):
        message = (
            "the folder's quant_model_description.json says that the weights are quantized, and"
            " upstream chose no quantization: give --quantization ascend"
        )
        yield words.finding(STAGE, "error", message)


def unread(made: Configured) -> Iterator[str]:
    """The keys that no code has read so far."""
    for key in made.additional.unread() if made.additional is not None else ():
        yield f"{key} of --additional-config"
    if made.transfer is not None:
        unread = [key for key in made.transfer.unread() if not _in_connectors(key)]
        yield from (f"{key} of kv_connector_extra_config" for key in unread)


def _in_connectors(key: str) -> bool:
    """Whether the code of a connector names the key: the worker's side is not created here."""
    name = key.rpartition(".")[2]
    return f'"{name}"' in _connectors() or f"'{name}'" in _connectors()


@cache
def _connectors() -> str:
    """The code of all connectors."""
    import vllm.distributed.kv_transfer
    import vllm_ascend.distributed

    folders = (*vllm.distributed.kv_transfer.__path__, *vllm_ascend.distributed.__path__)
    files = (path for folder in folders for path in Path(folder).rglob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)


def ignored(name: str) -> Finding:
    """The finding for a key or a variable that nothing reads."""
    return words.finding(STAGE, "warning", f"nothing in this image reads {name}")


def unknown_variables(names: list[str]) -> Iterator[Finding]:
    """Findings for `VLLM_` variables that neither vLLM nor vllm-ascend knows."""
    import vllm.envs
    import vllm_ascend.envs

    known = {*vllm.envs.environment_variables, *vllm_ascend.envs.env_variables, *_OWN}
    for name in names:
        if name.startswith("VLLM_") and name not in known:
            yield ignored(name)
