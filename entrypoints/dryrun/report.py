"""What the dry run prints: upstream's decisions and refusals, weights, and the KV cache."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from entrypoints.dryrun.request import Request
from entrypoints.findings import ERROR, Refused, one_line
from entrypoints.inputs.settings import VARIABLES
from entrypoints.launch.model import Launch
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    Data = dict[str, Any]

_GIB = 1 << 30
_SHOWN = (
    ("architecture", "architecture"),
    ("quantization", "quantization"),
    ("graph_mode", "graph mode"),
    ("block_size", "block size"),
    ("max_model_len", "longest request"),
    ("max_num_batched_tokens", "tokens in a batch"),
    ("max_num_seqs", "requests in a batch"),
    ("scheduler", "scheduler"),
    ("executor", "executor"),
)


class Report:
    """The report of a node. `request`: None if upstream is not asked. `answer`: upstream's."""

    def __init__(self, name: str, title: str, request: Request | None = None) -> None:
        self.name = name
        self.title = title
        self.request = request
        self.own: list[Data] = []
        self.answer: dict[str, Any] = {}
        self.flags: Mapping[str, str] = {}

    @property
    def findings(self) -> list[Data]:
        """Our own findings, then upstream's with the flags and variables behind them."""
        found = [*self.own]
        for one in self.answer.get("findings", ()):
            behind = self._behind(one["message"]) if one["severity"] == ERROR else []
            found.append({**one, "behind": behind})
        if "ended" in self.answer:
            found.append(_finding(f"no answer from upstream's code: {self.answer['ended']}"))
        return found

    @property
    def refused(self) -> bool:
        """Whether the node would not start."""
        return any(one["severity"] == ERROR and one["judged"] for one in self.findings)

    def _behind(self, message: str) -> list[str]:
        """The flags, with the variables that set them, and the variables that a message names."""
        words = re.sub("[-_]", " ", message.lower())
        found = []
        for flag, variable in self.flags.items():
            if re.search(rf"\b{re.escape(flag[2:].replace('-', ' '))}\b", words):
                found.append(f"{flag} ({variable})" if variable else flag)
        for name in self.request.variables if self.request else ():
            if re.search(rf"\b{re.escape(name)}\b", message):
                found.append(name)
        return found

    def as_data(self) -> Data:
        """The report as JSON holds it; memory in bytes."""
        rest = {k: v for k, v in self.answer.items() if k not in ("findings", "ended")}
        return {
            "name": self.name,
            "title": self.title,
            "asked": self.request is not None,
            "refused": self.refused,
            "assumed": self.request.assumed if self.request else "",
            "findings": self.findings,
            **rest,
        }


def of_refusal(name: str, variables: Mapping[str, str], refused: Refused) -> Report:
    """The report of a node that this project's own rules refuse."""
    made = Report(name, f"ROLE={variables.get('ROLE', '')}")
    made.own = [_finding(one.line(), judged=True, stage="plan") for one in refused.findings]
    return made


def of_nothing(name: str, launch: Launch) -> Report:
    """The report of a node that runs no `vllm serve`: a proxy, or a worker of Ray."""
    return Report(name, f"{launch.title}: runs no vllm serve, so there is nothing to ask")


def of_plan(name: str, launch: Launch, request: Request) -> Report:
    """The report of a node that serves, before upstream answers."""
    made = Report(name, launch.title, request)
    variables = {variable.flag: variable.name for variable in VARIABLES if variable.flag}
    flags = (word.partition("=")[0] for word in request.argv if word.startswith("--"))
    made.flags = {flag: variables.get(flag, "") for flag in flags}
    made.own = [
        {**_finding(one.line(), judged=True, stage="plan"), "severity": one.severity}
        for one in launch.warnings
    ]
    return made


def _finding(message: str, judged: bool = False, stage: str = "dryrun") -> Data:
    return {
        "stage": stage,
        "severity": ERROR,
        "message": message,
        "at": "",
        "judged": judged,
        "behind": [],
    }


def as_json(reports: Sequence[Data]) -> str:
    """All reports as JSON."""
    return json.dumps(reports, indent=2) + "\n"


def text(reports: Sequence[Data]) -> str:
    """All reports as text."""
    return "\n".join("".join(f"{line}\n" for line in _lines(one)) for one in reports)


def _lines(report: Data) -> Iterator[str]:
    verdict = "would not start" if report["refused"] else "would start"
    name = f"{report['name']}: " if report["name"] else ""
    yield f"{name}{one_line(report['title'])}" + (f": {verdict}" if report["asked"] else "")
    if report["assumed"]:
        yield f"  assumed    {one_line(report['assumed'])}"
    decided = report.get("decided")
    if decided:
        shown = [f"{label} {decided[key]}" for key, label in _SHOWN if decided.get(key) is not None]
        yield f"  decided    {', '.join(shown)}"
    for rank in report.get("ranks", ()):
        if "weights" in rank:
            yield f"  rank {'.'.join(map(str, rank['rank'])):5} {_weights(rank['weights'])}"
    if "memory" in report:
        yield f"  memory     {_memory(report['memory'])}"
    for one in report["findings"]:
        severity = one["severity"] if one["judged"] else "not judged"
        behind = f"; set by {', '.join(one['behind'])}" if one["behind"] else ""
        at = f" [{one['at']}]" if one["at"] else ""
        yield f"  {severity:10} {one_line(one['message'])}{at}{behind}"
    took = [f"{stage} {seconds} s" for stage, seconds in report.get("seconds", {}).items()]
    if took:
        yield f"  took       {', '.join(took)}"


def _weights(weights: Mapping[str, int]) -> str:
    parts = sorted(weights.items(), key=lambda item: -item[1])
    kinds = ", ".join(f"{kind} {size / _GIB:.2f}" for kind, size in parts)
    return f"{sum(weights.values()) / _GIB:.2f} GiB of weights ({kinds})"


def _memory(memory: Mapping[str, Any]) -> str:
    """The memory of a device that the KV cache gets, and the tokens and requests that fit."""
    total = f"{memory['hbm'] / _GIB:.2f} GiB * {memory['share']:g}"
    left = f"{memory['available'] / _GIB:.2f} GiB for the KV cache"
    allowance = f"{memory['allowance'] / _GIB:.2f} GiB allowed for activations, graphs and HCCL"
    held = f"; {memory['tokens']:,} tokens" if "tokens" in memory else ""
    requests = f", {memory['requests']:.1f} requests of full length" if "requests" in memory else ""
    return f"{total}, less the weights and {allowance}: {left}{held}{requests}"
