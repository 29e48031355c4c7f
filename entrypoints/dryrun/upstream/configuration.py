"""Stage `configuration`: the server's parser and engine configuration, with the platform plugin."""

from __future__ import annotations

import argparse
import inspect
import types
from typing import Any, NoReturn

from entrypoints.dryrun.upstream.recording import Recorded
from entrypoints.dryrun.upstream.words import Refusal


class Configured:
    """`arguments`: parsed. `config`: the engine configuration. `extra`, `transfer`: recorded."""

    def __init__(self, arguments: Any, config: Any, settings: _Settings) -> None:
        self.arguments = arguments
        self.config = config
        self.additional = settings.additional
        self.transfer = settings.transfer


class _Settings:
    additional: Recorded | None = None
    transfer: Recorded | None = None


def configure(argv: list[str]) -> Configured:
    """The configuration that `vllm serve` makes from its arguments. Raises what upstream raises."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.cli import serve
    from vllm.usage.usage_lib import UsageContext

    arguments = _parse(argv)
    _dispatch(serve, arguments)
    settings = _recorded()
    options: dict[str, Any] = {"usage_context": UsageContext.OPENAI_API_SERVER}
    engine = AsyncEngineArgs.from_cli_args(arguments)
    if "headless" in inspect.signature(engine.create_engine_config).parameters:
        options["headless"] = bool(getattr(arguments, "headless", False))
    return Configured(arguments, engine.create_engine_config(**options), settings)


def _parse(argv: list[str]) -> Any:
    from vllm.entrypoints.cli import serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    def error(self: argparse.ArgumentParser, message: str) -> NoReturn:
        raise Refusal(message)

    argparse.ArgumentParser.error = error  # type: ignore[method-assign]
    parser = FlexibleArgumentParser()
    commands = parser.add_subparsers(dest="subparser")
    for command in serve.cmd_init():
        command.subparser_init(commands).set_defaults(checks=command)
    arguments = parser.parse_args(argv[1:])
    arguments.checks.validate(arguments)
    return arguments


def _dispatch(serve: Any, arguments: Any) -> None:
    """Let the command choose how to serve; it refuses some combinations of flags."""

    for name in ("run_headless", "run_multi_api_server", "run_server", "run_dp_supervisor"):
        if hasattr(serve, name):
            setattr(serve, name, lambda *args, **kwargs: None)
    serve.uvloop = types.SimpleNamespace(run=lambda answer: answer)
    arguments.checks.cmd(arguments)


def _recorded() -> _Settings:
    """Make the next configuration record which keys of its free-form settings are read."""
    from vllm.config import VllmConfig

    settings = _Settings()
    made = VllmConfig.__post_init__

    def post_init(self: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(self.additional_config, dict) and settings.additional is None:
            settings.additional = Recorded(self.additional_config)
            self.additional_config = settings.additional
        transfer = self.kv_transfer_config
        if transfer is not None and settings.transfer is None:
            settings.transfer = Recorded(transfer.kv_connector_extra_config or {})
            transfer.kv_connector_extra_config = settings.transfer
        made(self, *args, **kwargs)

    VllmConfig.__post_init__ = post_init
    return settings
