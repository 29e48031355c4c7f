"""External data parallel in vllm-ascend: launch_online_dp.py runs a template once for each rank.

The launcher passes $1 to $7 to the template: devices, port, data parallel size, rank, address and
RPC port of rank 0, tensor parallel size (examples/external_online_dp).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from clusters.importing import TABLES
from clusters.importing.scripts import LAUNCH, SERVER, Script
from clusters.importing.shell import Note
from entrypoints.inputs.arguments import merge, parse, value_of

_RANK_PARAMETERS = ("2", "3", "4", "5", "6", "7")
_POSITION = re.compile(r"\$(?:\{([1-9])\}|([1-9]))")
_DEFAULTS: Mapping[str, str] = TABLES["launcher"]
_DEVICES_PER_NODE = 16  # of an A3 node


@dataclass(frozen=True)
class Ranks:
    """The ranks of one node, from the launcher."""

    dp: int
    tp: int
    local: int
    first: int
    address: str
    rpc_port: str
    port: int
    devices: int = 0  # of one rank; 0: as many as tp

    def places(self) -> Iterator[dict[str, str]]:
        """The values of each rank on the node by name, in the order of $1 to $7."""
        each = self.devices or self.tp
        for i in range(self.local):
            devices = ",".join(map(str, range(i * each, (i + 1) * each)))
            yield {
                "VISIBLE_DEVICES": devices,
                "PORT": str(self.port + i),
                "DP_SIZE": str(self.dp),
                "DP_RANK": str(self.first + i),
                "DP_ADDRESS": self.address,
                "DP_RPC_PORT": self.rpc_port,
                "TP_SIZE": str(self.tp),
            }


def is_template(script: Script) -> bool:
    given = sum(name in _RANK_PARAMETERS for name in script.unknown)
    return script.kind == SERVER and given > 2 and "--data-parallel-rank" in script.words


def expand(scripts: Sequence[Script], apart: bool = False) -> tuple[list[Script], list[Note]]:
    """Expand each template to one script for each rank; returns notes as well.

    `apart`: for a document, where launchers belong to the templates before them.
    """
    result: list[Script] = []
    notes: list[Note] = []
    for batch in _batches(scripts) if apart else [list(scripts)]:
        result += _expand_batch(batch, notes)
    return result, notes


def _batches(scripts: Sequence[Script]) -> list[list[Script]]:
    result: list[list[Script]] = [[]]
    for one in scripts:
        if is_template(one) and any(other.kind == LAUNCH for other in result[-1]):
            result.append([])
        result[-1].append(one)
    return result


def _expand_batch(scripts: Sequence[Script], notes: list[Note]) -> list[Script]:
    launchers = [one for one in scripts if one.kind == LAUNCH]
    templates = [one for one in scripts if is_template(one)]
    pairs: dict[Script, list[Script]] = {}
    for one in templates if not launchers else ():
        assumed = _assumed_ranks(one)
        notes.append(
            one.note(f"no launcher is given: {assumed.local} ranks on one node are assumed")
        )
        pairs[one] = list(_expand_ranks(one, one, assumed))
    if not templates:
        notes += [one.note("no template is given for this launcher") for one in launchers]
    for template, launcher in _pairs(templates, launchers) if templates and launchers else ():
        ranks = _ranks(launcher)
        if ranks is None:
            notes.append(launcher.note("the sizes are not whole numbers"))
            continue
        made_before = pairs.setdefault(template, [])
        one = _for_another_node(template) if made_before else template
        made_before.extend(_expand_ranks(one, launcher, ranks))
    result: list[Script] = []
    for one in scripts:
        if one in pairs:
            result += pairs[one]
        elif is_template(one):
            notes.append(one.note("no launcher runs this template"))
        elif one.kind != LAUNCH:
            result.append(one)
    return result


def _pairs(
    templates: Sequence[Script], launchers: Sequence[Script]
) -> Iterator[tuple[Script, Script]]:
    """Pair them in order, by sizes and addresses. Remaining templates share a launcher."""
    used: Counter[Script] = Counter()
    for launcher in launchers:
        best = max(templates, key=lambda one: (_match_score(one, launcher), -used[one]))
        used[best] += 1
        yield best, launcher
    for template in [one for one in templates if not used[one]]:
        best = max(launchers, key=lambda one: (_match_score(template, one), -used[one]))
        used[best] += 1
        yield template, best


def _match_score(template: Script, launcher: Script) -> int:
    """How well a launcher fits a template, by its side's sizes and its address."""
    ranks = _ranks(launcher)
    if ranks is None:
        return 0
    sizes = _sizes(template)
    size = 0 if sizes is None else 2 if sizes == (ranks.dp, ranks.tp) else -2
    own = template.env.get("HCCL_IF_IP", "")
    return size + (bool(own) and own == ranks.address and ranks.first == 0)


def _assumed_ranks(template: Script) -> Ranks:
    """The ranks of a template without a launcher: as many of its KV transfer as a node holds."""
    dp, tp = _sizes(template) or (1, 1)
    local = max(min(dp, _DEVICES_PER_NODE // tp), 1)
    while dp % local:
        local -= 1
    return Ranks(
        dp, tp, local, 0, "$dp_address", "$dp_rpc_port", int(_DEFAULTS["--vllm-start-port"])
    )


def _sizes(template: Script) -> tuple[int, int] | None:
    """Data and tensor parallel size of a template's side, from its KV transfer."""
    text = " ".join(template.words)
    side = "prefill" if "kv_producer" in text else "decode" if "kv_consumer" in text else "-"
    block = re.search(rf'"{side}"\s*:\s*\{{([^{{}}]*)\}}', text)
    found = dict(re.findall(r'"(dp_size|tp_size)"\s*:\s*(\d+)', block[1])) if block else {}
    return (int(found["dp_size"]), int(found["tp_size"])) if len(found) == 2 else None


def _ranks(launcher: Script) -> Ranks | None:
    flags = merge({}, parse(launcher.words[1:], {}, []))
    given = {name: value_of(flags, name) or default for name, default in _DEFAULTS.items()}
    try:
        dp, local = int(given["--dp-size"]), int(given["--dp-size-local"])
        return Ranks(
            dp=dp,
            tp=int(given["--tp-size"]),
            local=dp if local < 0 else local,
            first=int(given["--dp-rank-start"]),
            address=given["--dp-address"],
            rpc_port=given["--dp-rpc-port"],
            port=int(given["--vllm-start-port"]),
        )
    except ValueError:
        return None


def _expand_ranks(template: Script, launcher: Script, ranks: Ranks) -> Iterator[Script]:
    for values in ranks.places():
        by_place = {str(i): value for i, value in enumerate(values.values(), 1)}
        yield replace(
            template,
            words=tuple(_substitute(word, by_place) for word in template.words),
            env={
                **launcher.env,
                **{name: _substitute(text, by_place) for name, text in template.env.items()},
            },
            unknown=tuple(name for name in template.unknown if name not in by_place),
            block=f"{template.block} {launcher.at}",
        )


def _for_another_node(template: Script) -> Script:
    """A template for another node, where its address is different."""
    own = template.env.get("HCCL_IF_IP")
    env = {n: "$local_ip" if own and text == own else text for n, text in template.env.items()}
    return replace(template, env=env)


def _substitute(text: str, values: Mapping[str, str]) -> str:
    return _POSITION.sub(lambda m: values.get(m[1] or m[2], m[0]), text)
