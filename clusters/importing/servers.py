"""Reads a server's command: its model, its flags, and its place among other servers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from clusters.importing import TABLES
from clusters.importing.scripts import RAY as RAY_START
from clusters.importing.scripts import Script, is_unfilled
from clusters.importing.shell import Note
from entrypoints.inputs import arguments, catalogue
from entrypoints.inputs.arguments import Flag, Flags
from entrypoints.inputs.catalogue import Catalogue

SIDES = {"kv_producer": "prefill", "kv_consumer": "decode"}
TRANSFER = "--kv-transfer-config"
RAY = "--distributed-executor-backend"
# Flags of `ray start` that the entrypoint sets itself.
_RAY_DERIVED = ("--head", "--block", "--address", "--port", "--node-ip-address")
ADDRESSES = ("HCCL_IF_IP", "VLLM_HOST_IP", "LOCAL_IP")
INTERFACES = ("HCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
LEADERS = ("--data-parallel-address", "--master-addr")
_NUMBERS: Mapping[str, str] = TABLES["numbers"]
_STATED_BY: Mapping[str, str] = TABLES["stated_by"]
SIZES = ("tp", "pp", "pcp", "dp", "dp_local")
# Flags that keys of a recipe or the place of a node replace.
PLACE = frozenset((*_NUMBERS.values(), *LEADERS, "--headless", "--served-model-name")) - {
    "--master-port"
}
_PORTS = {"port": 8000, "rpc_port": 13389, "master_port": 29501}
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|(\w+))|<([^<>]*)>|\{(\w+)\}", re.ASCII)
_NODE_LOCAL = re.compile(
    r"(local|own|my|this|cur\w*|host|node|server|vllm)?_?(ip|host|addr\w*)|.*nic.*|if_?name"
    r"|.*interface.*|[xX.*]*|your.*",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Server:
    """One `vllm serve`. `flags` by canonical name, without the model.

    `own`, `nic` and `leads_at`: its address, its interface and its leader's address as the script
    writes them, or empty. `numbers`: sizes, ranks and ports. `placeholders`: ports in place of
    those that the script leaves open. `stray`: words that belong to no flag.
    """

    script: Script
    model: str
    flags: Flags
    env: Mapping[str, str]
    numbers: Mapping[str, int]
    notes: tuple[Note, ...] = ()
    stray: tuple[str, ...] = ()
    placeholders: Mapping[str, str] = field(default_factory=dict)

    @property
    def worker(self) -> bool:
        """A node of a Ray cluster, which runs no server itself."""
        return self.script.kind == RAY_START

    @property
    def transfer(self) -> Any:
        return arguments.json_of(self.flags, TRANSFER)

    @property
    def side(self) -> str:
        """prefill or decode, from its KV transfer; else empty."""
        result = self.transfer
        role = result.get("kv_role") if isinstance(result, dict) else None
        return SIDES.get(role, "") if isinstance(role, str) else ""

    @property
    def headless(self) -> bool:
        return "--headless" in self.flags

    @property
    def external(self) -> bool:
        return "dp_rank" in self.numbers

    @property
    def follows(self) -> bool:
        return self.headless or bool(self.numbers.get("node_rank"))

    @property
    def rank(self) -> int:
        """The rank that orders the nodes of a group."""
        numbers = self.numbers
        return numbers.get("dp_rank", numbers.get("start_rank", numbers.get("node_rank", 0)))

    @property
    def place(self) -> int:
        """Its number among the servers of its group: a rank, or a node."""
        if self.external or "node_rank" in self.numbers:
            return self.rank
        return self.rank // max(self.numbers.get("dp_local", 1), 1)

    @property
    def ray(self) -> bool:
        return arguments.value_of(self.flags, RAY) == "ray"

    @property
    def own(self) -> str:
        found = (self.env[name] for name in ADDRESSES if self.env.get(name))
        return next((text for text in found if is_address(text) or is_placeholder(text)), "")

    @property
    def nic(self) -> str:
        return next((self.env[name] for name in INTERFACES if name in self.env), "")

    @property
    def leads_at(self) -> str:
        texts = (arguments.value_of(self.flags, name) for name in LEADERS)
        return next((t for t in texts if t and (is_address(t) or is_placeholder(t))), "")

    @property
    def each(self) -> int:
        """The number of devices of one data parallel rank."""
        return prod(self.numbers.get(size, 1) for size in ("tp", "pp", "pcp"))


def read(script: Script, known: Catalogue) -> Server:
    """Read a server from its command, with notes about meaningless words."""
    notes: list[Note] = []
    words = [_normalized(word, script, notes) for word in script.words]
    model = words.pop(0) if words and not arguments.is_flag(words[0]) else ""
    start = next((i for i, word in enumerate(words) if arguments.is_flag(word)), len(words))
    extra, flags = words[:start], []
    for parsed in arguments.parse(words[start:], known.aliases, []):
        flag = catalogue.resolve(parsed, known)
        most = _own_values(flag, known)
        flags.append(Flag(flag.name, flag.values[:most]))
        extra += flag.values[most:]
    given = [flag.values[0] for flag in flags if flag.name == "--model" and flag.values]
    if not model and extra and not given:
        model = extra.pop(0)
    model = (given or [model])[-1]
    if extra and any(word in ("...", "…") for word in extra):
        extra = [word for word in extra if word not in ("...", "…")]
        notes.append(script.note("... stands for more arguments, which are missing"))
    if not model:
        notes.append(script.note("no model is given"))
    others = [flag for flag in flags if flag.name != "--model"]
    merged, numbers, placeholders = _numbers(arguments.merge({}, others, known.repeatable))
    env = dict(script.env)
    if "port" in numbers and is_unfilled(env.get("PORT", "0")):
        env["PORT"] = str(numbers["port"])
    return Server(
        script=script,
        model=model,
        flags=merged,
        env=env,
        numbers=numbers,
        notes=tuple(notes),
        stray=tuple(extra),
        placeholders=placeholders,
    )


def ray_node(script: Script, server: Server | None = None) -> Server:
    """A node of a Ray cluster, from its `ray start` and the server on the head."""
    given = iter(script.words[2:])
    rest: list[str] = []
    known: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if name in _RAY_DERIVED:
            alone = equals or name in ("--head", "--block")
            known[name] = value if alone else next(given, "")
        else:
            rest.append(word)
    address = known.get("--node-ip-address")
    env = {**script.env, **(server.env if server else {})}
    if address and not any(env.get(name) for name in ADDRESSES):
        env["HCCL_IF_IP"] = address
    if rest:
        env["RAY_ARGS"] = shlex.join(rest)
    if server:
        port = known.get("--port", "")
        numbers = {**server.numbers, **({"ray_port": int(port)} if port.isdigit() else {})}
        return replace(server, env=env, numbers=numbers)
    return Server(script, "", {}, env, {})


def _normalized(word: str, script: Script, notes: list[Note]) -> str:
    """A flag without surrounding blanks and without a third dash, which vLLM would reject."""
    name = re.fullmatch(r"\s*(?:-+(?=--))?(--?[A-Za-z][\w.-]*)\s*", word)
    if name and word != name[1]:
        notes.append(script.note(f"{word!r} is not a flag: it is read as {name[1]}"))
        return name[1]
    return word


def _own_values(flag: Flag, known: Catalogue) -> int:
    """How many of the words after a flag are its values; all for an unknown flag."""
    entry = known.options.get(flag.name.partition(".")[0], {})
    switch = flag.name in known.negatives
    if not switch and (not entry or entry.get("nargs") in ("+", "*")):
        return len(flag.values)
    if switch or (entry["type"] in ("flag", "bool") and "." not in flag.name):
        # vLLM refuses `--trust-remote-code true`. Any other word after a switch may be the model.
        return int(bool(flag.values) and flag.values[0].lower() in ("true", "false"))
    return min(len(flag.values), 1)


def _numbers(flags: Flags) -> tuple[Flags, dict[str, int], dict[str, str]]:
    """The flags with their numbers; a port that is left open gets a number."""
    result, placeholders, flags = dict[str, int](), dict[str, str](), dict(flags)
    for size, name in _NUMBERS.items():
        text = arguments.value_of(flags, name)
        if text is None:
            continue
        if re.fullmatch(r"\d{1,9}", text):
            least = 1 if size in (*SIZES, *_PORTS, "nnodes") else 0
            if least <= int(text) <= 65535:
                result[size] = int(text)
        elif size in _PORTS:
            result[size] = _PORTS[size]
            placeholders[reference_name(text)] = str(_PORTS[size])
            flags[name] = (Flag(name, (str(_PORTS[size]),)),)
    return flags, result, placeholders


# ---- values to be filled in ----------------------------------------------------------------------


def reference_name(text: str) -> str:
    """The name behind `$NAME`, `${NAME}` or `<name>`, or the text itself."""
    match = _REFERENCE.fullmatch(text)
    return next(filter(None, match.groups()), "").strip() if match else text


def is_address(text: str) -> bool:
    """Whether a text is an address that other nodes can reach."""
    if _ADDRESS.fullmatch(text) is None or not all(int(n) < 256 for n in text.split(".")):
        return False
    return not text.startswith(("127.", "0."))


def is_placeholder(text: str) -> bool:
    """Whether a text is a placeholder for an address; hostnames do not look like this."""
    if (
        text.startswith(("$", "<", "{"))
        or is_unfilled(text)
        or re.search("xx", text, re.IGNORECASE)
    ):
        return True
    return "_" in text or ("." not in text and re.search("ip", text, re.IGNORECASE) is not None)


def is_node_local(text: str) -> bool:
    """Whether a placeholder has another value on each node, as `local_ip` does."""
    return _NODE_LOCAL.fullmatch(reference_name(text)) is not None


def fill(server: Server, values: Mapping[str, str], address: str, nic: str) -> Server:
    """The server with values in place of placeholders for addresses and interfaces."""
    values = {text: value for text, value in values.items() if text and text != value}
    own = dict.fromkeys(ADDRESSES[:2], address) | dict.fromkeys(INTERFACES, nic)
    env = {
        name: own[name]
        if own.get(name) and (text in values or is_unfilled(text))
        else _replaced(text, values, whole=name in (*ADDRESSES, "MASTER_ADDR"))
        for name, text in server.env.items()
    }
    flags = {
        name: tuple(
            Flag(one.name, tuple(_replaced(v, values, whole=name in LEADERS) for v in one.values))
            for one in those
        )
        for name, those in server.flags.items()
    }
    return replace(server, env=env, flags=flags)


def _replaced(text: str, values: Mapping[str, str], whole: bool) -> str:
    if text in values and (whole or not is_unfilled(text)):
        return values[text]
    for old, new in values.items():
        if not is_unfilled(old):
            alone = rf"(?<![\w.-]){re.escape(old)}(?![\w.-])"
            text = new.join(re.split(alone, text))
    return text


def states(server: Server, name: str, text: str) -> bool:
    """Whether a server's command has the value of a variable of the entrypoint."""
    if name in _STATED_BY:
        return text == str(server.numbers.get(_STATED_BY[name]))
    names = server.flags.get("--served-model-name", ())
    stated = {
        "MODEL": (server.model,),
        "SERVED_MODEL_NAME": names[-1].values if names else (),
        "LOCAL_IP": (server.own,),
        "LEADER_IP": (server.leads_at,),
        "NIC": (server.nic,),
    }
    return text in stated.get(name, ())


# ---- comparing -----------------------------------------------------------------------------------


def same_flags(one: Sequence[Flag] | None, other: Sequence[Flag] | None) -> bool:
    """Whether two flags are equal, as text or as JSON."""
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(
        a.name == b.name and len(a.values) == len(b.values) and all(map(_equal, a.values, b.values))
        for a, b in zip(one, other, strict=True)
    )


def _equal(a: str, b: str) -> bool:
    if a == b:
        return True
    left, right = (arguments.json_of({"": (Flag("", (text,)),)}, "") for text in (a, b))
    return isinstance(left, (dict, list)) and left == right


def parse_argv(argv: Sequence[str], known: Catalogue) -> tuple[str, Flags]:
    """The model and the flags of a planned command."""
    parsed = arguments.parse(argv[3:], known.aliases, [])
    flags = [catalogue.resolve(flag, known) for flag in parsed]
    return argv[2], arguments.merge({}, flags, known.repeatable)


def unknown_names(server: Server, known: Catalogue) -> Iterator[str]:
    """Flags and variables that are unknown in a release."""
    findings: list[Any] = []
    flags = [flag for those in server.flags.values() for flag in those]
    for flag in flags:
        if flag.name.partition(".")[0] not in (*known.options, *known.negatives):
            yield flag.name
    catalogue.check_variables(server.env, known, findings)
    yield from (finding.where for finding in findings)
