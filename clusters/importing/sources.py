"""Reads scripts from shell files, from code blocks of documents, and from YAML of nightly tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import yaml

from clusters.importing import scripts
from clusters.importing.external_dp import Ranks
from clusters.importing.scripts import Reading
from common.errors import EX_DATAERR, Finding, UserError

# The fences of a block, and the languages that are shell or unspecified.
_FENCE = re.compile(r"^(?P<indent>[ \t>]*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n`]*)$", re.MULTILINE)
_SHELL = re.compile(
    r"(?:\{[\w:-]+\}\s*)?(?:|shell|bash|sh|zsh|console|text|txt|\(?python\)?)(?:\s.*)?",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$")
_TITLE = re.compile(
    r"^\s*(?:[-*]|\d+\.)?\s*\**([^`|<>]*?(?:node|prefill|decode|proxy)[^`|<>]*?)\**:?\s*$", re.I
)
_STARTS = re.compile(r'\s*(?:\w+=\S*\s+)*"?(?:[^\s"]*/)?(?:vllm|python[\d.]*|bash|sh)"?\s')
_NIGHTLY = ("deployment", "templates", "test_cases")


@dataclass(frozen=True)
class Source(Reading):
    """The reading of one input. `apart`: its scripts may belong to several deployments, as those
    of a document. `name`: of the file. `devices`: NPUs on each node, 0 if unknown.
    """

    name: str = ""
    apart: bool = False
    devices: int = 0


def read(paths: Iterable[str], given: Mapping[str, str]) -> list[Source]:
    """Read all inputs: shell files are one source together, other files one or more each.

    Raises UserError with every file that cannot be read.
    """
    findings: list[Finding] = []
    found: list[Source] = []
    plain: list[tuple[Path, Reading]] = []
    for path in _files(paths, findings):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            findings.append(Finding(str(path), f"cannot be read: {why}"))
            continue
        own = _given(given, path)
        if path.suffix.lower() in (".md", ".markdown", ".rst"):
            found.append(_document(text, str(path), own))
        elif path.suffix.lower() in (".yaml", ".yml"):
            found += _yaml(text, str(path), own, findings)
        else:
            plain.append((path, scripts.read(text, str(path), given=own)))
    if findings:
        raise UserError(findings, EX_DATAERR)
    if plain:
        folders = {path.resolve().parent.name for path, one in plain if one.scripts}
        name = folders.pop() if len(folders) == 1 and len(plain) > 1 else plain[0][0].stem
        found.insert(0, _source(name, (one for _, one in plain)))
    return found


def _files(paths: Iterable[str], findings: list[Finding]) -> Iterator[Path]:
    for text in paths:
        path = Path(text)
        if path.is_dir():
            inside = sorted(one for one in path.iterdir() if one.suffix in (".sh", ".bash"))
            if not inside:
                findings.append(Finding(text, "has no shell scripts", "give the files themselves"))
            yield from inside
        else:
            yield path


def _given(given: Mapping[str, str], path: Path) -> dict[str, str]:
    """Values for this file: `NAME`, and `FILE:NAME` over it."""
    own = {name: value for name, value in given.items() if ":" not in name}
    for name, value in given.items():
        file, colon, inner = name.rpartition(":")
        if colon and file in (path.name, path.stem, str(path)):
            own[inner] = value
    return own


def _source(
    name: str, readings: Iterable[Reading], apart: bool = False, devices: int = 0
) -> Source:
    several = tuple(readings)
    return Source(
        tuple(script for one in several for script in one.scripts),
        tuple(note for one in several for note in one.skipped),
        tuple(note for one in several for note in one.doubts),
        name,
        apart,
        devices,
    )


# ---- documents -----------------------------------------------------------------------------------


def _document(text: str, file: str, given: Mapping[str, str]) -> Source:
    blocks = _blocks(text)
    readings = [scripts.read(block, file, line, given, title) for block, line, title in blocks]
    return _source(Path(file).stem, [one for one in readings if one.scripts], apart=True)


def _blocks(text: str) -> Iterator[tuple[str, int, str]]:
    """(text, first line, title) of every fenced block that may be shell."""
    lines = text.splitlines()
    title, i = "", 0
    while i < len(lines):
        fence = _FENCE.fullmatch(lines[i])
        heading = _HEADING.match(lines[i])
        if heading:
            title = heading[1]
        elif not fence and (match := _TITLE.match(lines[i])) and len(match[1]) < 80:
            title = match[1].strip(" *:")
        if not fence:
            i += 1
            continue
        info = fence["info"].strip()
        start = i + 1
        end = start
        while end < len(lines) and lines[end].strip(" \t>") != fence["fence"]:
            end += 1
        if info.startswith("{") and not _SHELL.fullmatch(info):
            i = start  # a directive that may contain blocks, such as tabs or notes
            continue
        if _SHELL.fullmatch(info):
            while start < end and re.match(r"\s*:[\w-]+:", lines[start]):
                start += 1
            inside = [line.removeprefix(fence["indent"]) for line in lines[start:end]]
            block = re.sub(r"^[^\S\n]*\$ ", "", "\n".join(inside), flags=re.MULTILINE)
            yield f"{block}\n", start + 1, title
        i = end + 1


# ---- YAML ----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML in which numbers, booleans and dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(
    text: str, file: str, given: Mapping[str, str], findings: list[Finding]
) -> Iterator[Source]:
    try:
        nodes = list(yaml.compose_all(text, _Loader))
        documents = list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{file}:{mark.line + 1}" if mark else file
        findings.append(Finding(at, f"is not YAML: {getattr(error, 'problem', error)}"))
        return
    for node, raw in zip(nodes, documents, strict=True):
        if not isinstance(raw, dict):
            continue
        form = next((key for key in _NIGHTLY if isinstance(raw.get(key), list)), "")
        lines = dict(_lines(node, ()))
        tests = _Tests(raw, file, given, lines)
        if form == "deployment":
            yield tests.deployment()
        elif form == "templates":
            yield tests.templates()
        elif form == "test_cases":
            yield from tests.cases()
        else:
            yield from _commands(raw, file, given, lines)


def _lines(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """The path and the line of every node."""
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _lines(item, (*path, i))


def _texts(raw: Any) -> dict[str, str]:
    pairs = raw.items() if isinstance(raw, dict) else ()
    return {str(name): "" if value is None else str(value) for name, value in pairs}


def _command(raw: Any) -> str:
    """A command as text, from text or a list of words."""
    if isinstance(raw, list):
        return " ".join(_quoted(str(word)) for word in raw)
    return str(raw or "")


def _quoted(word: str) -> str:
    """Quote a word for a shell, except `$NAME`."""
    return '"' + re.sub(r'["\\`]', r"\\\g<0>", word) + '"'


def _number(raw: Any, otherwise: int = 0) -> int:
    return int(raw) if re.fullmatch(r"\d{1,9}", str(raw)) else otherwise


def _networked(env: Mapping[str, str], address: str) -> dict[str, str]:
    """The variables with those that the tests set on each of several nodes."""
    own = {"HCCL_IF_IP": address}
    own |= dict.fromkeys(("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME"), "$nic")
    return {**own, **env}


_NODE_IPS = tuple(f"NODE_{n}_IP" for n in range(64))
_NAME = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")


def _filled(text: str, values: Mapping[str, str], times: int = 1) -> str:
    """Replace known names: as the tests do, once in variables and three times in commands."""
    for _ in range(times):
        text = _NAME.sub(lambda m: values.get(m[1] or m[2], m[0]), text)
    return text


@dataclass(frozen=True)
class _Tests:
    """A YAML file of nightly tests. `lines`: the line of each path."""

    raw: Mapping[str, Any]
    file: str
    given: Mapping[str, str]
    lines: Mapping[Any, int]

    def served(
        self,
        path: tuple[Any, ...],
        command: str,
        values: Mapping[str, str],
        env: Mapping[str, str],
        title: str = "",
        model: str | None = None,
    ) -> Reading:
        """Read a server of the tests, in whose command every variable is known."""
        if not _STARTS.match(command):
            model = str(self.raw.get("model", "")) if model is None else model
            command = f"vllm serve {_quoted(model)} {command}"
        command = _filled(command, {**env, **values}, times=3)
        env = {name: _filled(text, values) for name, text in env.items()}
        first = self.lines[path[:2]]
        line = max(self.lines.get(path, first), first)  # a YAML alias counts where it is used
        result = scripts.read(command, self.file, line, title=title, env={})
        servers = tuple(replace(one, line=line, env={**env, **one.env}) for one in result.scripts)
        return Reading(servers, (), result.doubts)

    def source(self, readings: Iterable[Reading]) -> Source:
        devices = _number(self.raw.get("npu_per_node"))
        return _source(Path(self.file).stem, readings, devices=devices)

    def deployment(self) -> Source:
        """One node after the other, with common variables."""
        raw, given = self.raw, self.given
        common, hosts = _texts(raw.get("env_common")), raw.get("cluster_hosts") or []
        apart = raw.get("disaggregated_prefill") or {}
        prefill = [_number(i, -1) for i in apart.get("prefiller_host_index") or ()]
        decode = [_number(i, -1) for i in apart.get("decoder_host_index") or ()]
        nodes = raw["deployment"]
        ips = [str(hosts[i]) if i < len(hosts) else f"NODE_{i}_IP" for i in range(len(nodes))]
        ips = [given.get(ip, ip) for ip in ips]
        readings = []
        for i, node in enumerate(nodes):
            if not isinstance(node, dict):
                continue
            leader = 0 if i in prefill or not decode else decode[0]
            values = {
                "LOCAL_IP": ips[i],
                "MASTER_IP": ips[leader] if leader < len(ips) else ips[0],
                "NIC_NAME": "$nic",
                **{f"NODE_{n}_IP": ip for n, ip in enumerate(ips)},
                **given,
            }
            env = {**common, **_texts(node.get("envs")), **_texts(node.get("env_extend"))}
            path, command = ("deployment", i, "server_cmd"), _command(node.get("server_cmd"))
            env = _networked(env, ips[i])
            readings.append(self.served(path, command, values, env, f"node {i}"))
        return self.source(readings)

    def templates(self) -> Source:
        """External data parallel: a template and the ranks of each node."""
        raw, given = self.raw, self.given
        config = {
            str(one.get("node_index", i)): one for i, one in enumerate(raw.get("config") or ())
        }
        hosts = raw.get("cluster_hosts") or []
        kinds = ("cp", "sp", "pp")
        readings = []
        for i, template in enumerate(raw["templates"]):
            index = str(template.get("node_index", i))
            own = config.get(index, {})
            address = str(hosts[int(index)]) if int(index) < len(hosts) else f"NODE_{index}_IP"
            env = {**_texts(raw.get("env_common")), **_texts(template.get("envs"))}
            path = ("templates", i, "server_cmd_template")
            command = _command(template.get("server_cmd_template"))
            ranks = Ranks(
                dp=_number(own.get("dp_size"), 1),
                tp=_number(own.get("tp_size"), 1),
                local=_number(own.get("dp_size_local"), 1),
                first=_number(own.get("dp_rank_start")),
                address=str(own.get("dp_address", address)),
                rpc_port=str(own.get("dp_rpc_port", "")),
                port=_number(own.get("port_start"), 7100),
                devices=prod(_number(own.get(f"{kind}_size"), 1) for kind in ("tp", *kinds)),
            )
            for place in ranks.places():
                values = {
                    **place,
                    **{f"{kind.upper()}_SIZE": str(own.get(f"{kind}_size", 1)) for kind in kinds},
                    "LOCAL_IP": given.get(address, address),
                    "DP_SIZE_LOCAL": str(ranks.local),
                    **{name: given.get(name, name) for name in _NODE_IPS},
                    **given,
                }
                values["DP_ADDRESS"] = _filled(values["DP_ADDRESS"], values)
                filled = {name: _filled(text, values) for name, text in env.items()}
                filled = _networked(filled, values["LOCAL_IP"])
                title = f"node {index}, rank {place['DP_RANK']}"
                readings.append(self.served(path, command, values, filled, title))
        return self.source(readings)

    def cases(self) -> Iterator[Source]:
        """Tests of one node, each independent of the others."""
        for i, case in enumerate(self.raw["test_cases"]):
            if not isinstance(case, dict):
                continue
            commands: list[tuple[tuple[Any, ...], Any]] = [
                (("server_cmd",), case.get("server_cmd"))
            ]
            if several := case.get("epd_server_cmds"):
                commands = [(("epd_server_cmds", n), one) for n, one in enumerate(several)]
            readings = [
                self.served(
                    ("test_cases", i, *path),
                    f"{_command(command)} {_command(case.get('server_cmd_extra'))}",
                    self.given,
                    _texts(case.get("envs")),
                    model=str(case.get("model", "")),
                )
                for path, command in commands
            ]
            name = Path(self.file).stem
            if len(self.raw["test_cases"]) > 1:
                name = f"{name}-{case.get('name', i)}"
            yield _source(name, readings)


def _commands(
    raw: Any, file: str, given: Mapping[str, str], lines: Mapping[Any, int]
) -> Iterator[Source]:
    """Any other YAML: each text in it that runs a server, with the nearest `env` around it."""
    readings = []
    for path, text, env in _serving(raw, (), {}):
        result = scripts.read(text, file, lines.get(path, 1), given, env=env)
        readings.append(Reading(result.scripts, (*result.skipped, *result.doubts), ()))
    if any(one.scripts for one in readings):
        yield _source(Path(file).stem, readings)


def _serving(
    raw: Any, path: tuple[Any, ...], env: Mapping[str, str]
) -> Iterator[tuple[tuple[Any, ...], str, Mapping[str, str]]]:
    if isinstance(raw, dict):
        env = {**env, **_environment(raw)}
        words = [*_words(raw.get("command")), *_words(raw.get("args"))]
        joined = " ".join(words)
        if "vllm" in words or re.search(r"vllm(?:\s+serve|\.entrypoints)", joined):
            alone = [word for word in words if "\n" in word or " serve " in word]
            if alone and words[:1] and Path(words[0]).name in ("sh", "bash"):
                yield (*path, "args"), alone[-1], env
            else:
                yield (*path, "command"), _command(words), env
            return
        for key, value in raw.items():
            yield from _serving(value, (*path, key), env)
    elif isinstance(raw, list):
        for i, item in enumerate(raw):
            yield from _serving(item, (*path, i), env)
    elif isinstance(raw, str) and re.search(r"vllm\s+serve|vllm\.entrypoints", raw):
        yield path, raw, env


def _words(raw: Any) -> list[str]:
    return [str(word) for word in raw] if isinstance(raw, list) else [raw] if raw else []


def _environment(raw: Mapping[str, Any]) -> dict[str, str]:
    for key in ("env", "envs", "environment", "env_common"):
        value = raw.get(key)
        if isinstance(value, dict):
            return _texts(value)
        if isinstance(value, list):
            pairs = [one for one in value if isinstance(one, dict) and one.get("value") is not None]
            return {str(one.get("name")): str(one["value"]) for one in pairs}
    return {}
