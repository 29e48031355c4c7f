"""Read the figures that upstream's nightly and weekly tests must reach, for env/baselines.

A configuration is a node's commands with the benchmarks that run against them. A performance
baseline is the output of a whole run in tokens a second; a test passes from threshold * baseline
on. 0 and 1 mean that there is no figure yet. An accuracy passes within baseline ± threshold, in
percent (vllm-ascend: tools/aisbench.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from upstream.sources import Tree

FILES = r"tests/e2e/(nightly|weekly)/.*\.yaml"
SCHEDULES = r"\.github/workflows/(configs/.*|schedule_(nightly|weekly)_test_.*)\.ya?ml"
NPUS = {8: "a2", 16: "a3"}  # of a node
_PLATFORM = re.compile(r"(?:^|[^a-z0-9])(a2|a3|a5|310p)(?:[^a-z0-9]|$)", re.IGNORECASE)
_COMMANDS = ("server_cmd", "server_cmd_template")
_METRICS = {"performance": "throughput", "accuracy": "accuracy"}
_LOAD = ("num_prompts", "max_out_len", "batch_size", "request_rate")
_HEADER = """\
# The figures that upstream's nightly and weekly tests must reach, read from
# {tree} by upstream/baselines.py.
# accuracy: percent, within threshold of the baseline. throughput: output tokens a second, at least
# threshold times the baseline. commands: the lines of the configuration's `vllm serve`, which a
# recipe names as its source. line: of the baseline.
"""


class _Loader(yaml.SafeLoader):
    """Adds the line of `baseline` to its mapping, and the line of each command."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        made: dict[Any, Any] = super().construct_mapping(node, deep=True)
        at = {getattr(key, "value", ""): value.start_mark.line + 1 for key, value in node.value}
        if "baseline" in made:
            made["line"] = at["baseline"]
        command = next((at[key] for key in _COMMANDS if key in made), 0)
        if command:  # an alias is where it is used
            made["command"] = max(command, node.start_mark.line + 1)
        return made


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def text(tree: Tree) -> str:
    """The text of a release's file in env/baselines; empty without figures."""
    found = list(configurations(tree))
    if not found:
        return ""
    rows: str = yaml.dump(found, Dumper=_Dumper, sort_keys=False, width=1000)
    return _HEADER.format(tree=tree) + rows


class _Figure(dict[str, Any]):
    """A mapping on one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Figure,
    lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True),
)
_Dumper.add_representer(
    list,
    lambda dumper, data: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", data, flow_style=not any(isinstance(one, dict) for one in data)
    ),
)


def configurations(tree: Tree) -> Iterator[dict[str, Any]]:
    """The configurations with figures, in the order of their files."""
    schedules = list(_schedules(tree))
    for path in tree.matching(FILES):
        try:
            raw = yaml.load(tree.text(path), _Loader)
        except yaml.YAMLError:
            continue  # upstream's test cannot read it either
        for one in _tests(raw) if isinstance(raw, dict) else ():
            figures = [*_figures(one.get("benchmarks"))]
            if figures:
                yield {
                    "configuration": str(one["name"]),
                    "file": path,
                    "commands": one["commands"],
                    "platforms": _platforms(Path(path).name, one["name"], raw, schedules),
                    "model": str(one.get("model", "")),
                    "figures": figures,
                }


def _tests(raw: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each test of a file, with the lines of its commands."""
    for case in raw.get("test_cases") or ():
        yield {**case, "commands": [case["command"]] if "command" in case else []}
    nodes = raw.get("deployment") or raw.get("templates") or ()
    if nodes:
        lines = [node["command"] for node in nodes if "command" in node]
        yield {**raw, "name": raw.get("test_name", ""), "commands": list(dict.fromkeys(lines))}


def _figures(raw: Any) -> Iterator[_Figure]:
    for one in raw.values() if isinstance(raw, dict) else ():
        metric = _METRICS.get(one.get("case_type", "")) if isinstance(one, dict) else None
        baseline = one.get("baseline") if metric else None
        if baseline is None or (metric == "throughput" and baseline in (0, 1)):
            continue
        data = str(one.get("dataset_path") or one.get("dataset_conf") or "")
        figure = {"metric": metric, "baseline": baseline, "threshold": one["threshold"]}
        figure |= {"dataset": data.rstrip("/").rpartition("/")[2], "line": one["line"]}
        yield _Figure(figure | {key: one[key] for key in _LOAD if key in one})


def _schedules(tree: Tree) -> Iterator[tuple[str, str]]:
    """Platform -> the text that lists what runs on it."""
    for path in tree.matching(SCHEDULES):
        named = _PLATFORM.search(Path(path).stem.replace("_", " "))
        if named:
            yield named[1], tree.text(path)
            continue
        for platform, section in (yaml.safe_load(tree.text(path)) or {}).items():
            yield platform, yaml.safe_dump(section)


def _platforms(
    file: str, name: str, raw: Mapping[str, Any], schedules: list[tuple[str, str]]
) -> list[str]:
    """By the name of the file or the test, else the schedules, else the NPUs of a node."""
    named = _PLATFORM.search(Path(file).stem) or _PLATFORM.search(str(name))
    if named:
        return [named[1].lower()]
    entry = re.compile(rf"(?m)[ /]{re.escape(file)}$")
    listed = dict.fromkeys(platform for platform, text in schedules if entry.search(text))
    npus = NPUS.get(raw.get("npu_per_node", 0))
    return list(listed) or ([npus] if npus else [])
