"""What the rules examine: one server's flags, environment and place, and the facts about them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from entrypoints.inputs.arguments import Flags, json_of, value_of
from entrypoints.inputs.model import Model
from entrypoints.inputs.recipes import Recipe
from entrypoints.inputs.stack import Platform, Release
from entrypoints.launch.kv import Transfer
from entrypoints.launch.topology import EXTERNAL, Place
from entrypoints.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

# vllm: vllm/utils/argparse_utils.py, human_readable_int.
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kKmMgGtT]?)")
_UNITS = "kmgt"
_NO_FLAGS: Flags = {}


class Facts(NamedTuple):
    """Everything that a rule may examine.

    `env`: the server's environment. `model`: None when it is unknown.
    `concurrency`: requests expected at once. `executor`: empty for the one that the flags name.
    """

    release: Release
    platform: Platform | None
    recipe: Recipe | None
    place: Place
    transfer: Transfer | None
    ports: Mapping[str, int | list[int]]
    flags: Flags = _NO_FLAGS
    env: Mapping[str, str] = {}
    model: Model | None = None
    concurrency: int | None = None
    executor: str = ""
    model_name: str = ""

    def on(self, flag: str) -> bool | None:
        """Whether a switch is on; None when it is not given."""
        return self.flags[flag][-1].name == flag if flag in self.flags else None

    def number(self, flag: str) -> int | None:
        """The whole number that a flag is set to, with the units that vLLM knows."""
        return number(value_of(self.flags, flag) or "")

    def json(self, flag: str) -> Mapping[str, Any]:
        """The JSON object of a flag; empty when it is absent or something else."""
        value = json_of(self.flags, flag)
        return value if isinstance(value, dict) else {}

    def feature(self, name: str) -> int | None:
        """The number that a feature is set to in the form of this release; None when unset.

        A flag wins over the variable that it replaced.
        """
        form = self.release.features[name]
        flag, _, key = form.arg.partition(".")
        value = self.json(f"--{flag}").get(key) if key else None
        if value is None:
            value = self.env.get(form.env or form.was)
        return int(value) if isinstance(value, (bool, int)) else number(str(value or ""))

    def feature_name(self, name: str) -> str:
        """How the feature is written in this release."""
        form = self.release.features[name]
        return form.env or f"--{form.arg}"

    @property
    def executor_name(self) -> str:
        """The distributed executor, empty for vLLM's own choice."""
        return self.executor or value_of(self.flags, "--distributed-executor-backend") or ""

    @property
    def expert_parallel(self) -> int:
        """Devices over which the experts spread; 1 without expert parallel."""
        place = self.place
        return place.tp * place.dp * place.pcp if self.on("--enable-expert-parallel") else 1

    @property
    def external(self) -> bool:
        """Whether each rank is a server behind an external load balancer."""
        by_flag = self.on("--data-parallel-external-lb") or "--data-parallel-rank" in self.flags
        return self.place.layout == EXTERNAL or bool(by_flag)


def number(text: str) -> int | None:
    """A number with an optional unit: `32k` is 32000, `32K` 32768. None for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        return None
    amount, unit = float(match[1]), match[2]
    base = 1024 if unit.isupper() else 1000
    return int(amount * base ** (1 + _UNITS.index(unit.lower()) if unit else 0))
