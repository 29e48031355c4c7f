"""The model's files: in a folder, in the cache, or still to be downloaded."""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Iterator, Mapping, Sequence

from entrypoints.findings import Finding
from entrypoints.messages import finding
from entrypoints.preflight.inspection import Inspection, check
from entrypoints.preflight.machine import Machine

_GIB = 1 << 30
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
_POINTER = b"version https://git-lfs"
_HEADER_LIMIT = 100_000_000  # bytes, the format's own limit for a header
_SHOWN = 3
_TRUE = ("1", "true", "yes", "on")


@check("weights")
def weights(here: Inspection) -> Iterator[Finding]:
    model, machine, env = here.needs.model, here.machine, here.needs.env
    if not model or "://" in model:
        yield finding("weights.remote", model=model) if model else finding("weights.no-model")
        return
    if machine.exists(model) or model.startswith(("/", ".", "~")):
        yield _folder(machine, model, "weights.incomplete")
        return
    folders = _caches(env, model)
    cached = next((found for folder in folders if (found := _snapshot(machine, folder))), None)
    if cached:
        yield _folder(machine, cached, "weights.incomplete-copy")
        return
    cache = os.path.dirname(folders[0])
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if _on(env, name)]
    if offline and not _on(env, "VLLM_USE_MODELSCOPE"):
        yield finding("weights.offline", model=model, cache=cache, variable=offline[0])
    else:
        free = machine.size_of(folders[0]).free / _GIB
        yield finding("weights.download", model=model, free=free, cache=cache)


def _on(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").lower() in _TRUE


def _caches(env: Mapping[str, str], model: str) -> list[str]:
    """The folders where the hub's client keeps a model; it downloads to the first."""
    home = env.get("HOME") or "/root"
    user = env.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    if _on(env, "VLLM_USE_MODELSCOPE"):
        root = env.get("MODELSCOPE_CACHE") or os.path.join(home, ".cache", "modelscope", "hub")
        names = dict.fromkeys((model.replace(".", "___"), model))
        folders = ("models", "", os.path.join("hub", "models"), "hub")
        return [os.path.join(root, folder, name) for folder in folders for name in names]
    hub = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    hub = hub or os.path.join(env.get("HF_HOME") or os.path.join(user, "huggingface"), "hub")
    return [os.path.join(hub, f"models--{model.replace('/', '--')}")]


def _snapshot(machine: Machine, folder: str) -> str | None:
    """The folder with the files; in Hugging Face's cache, the snapshot that `main` names."""
    if machine.exists(os.path.join(folder, "config.json")):
        return folder
    snapshots = machine.names(os.path.join(folder, "snapshots"))
    main = os.path.join(folder, "refs", "main")
    wanted = machine.text(main).strip() if machine.exists(main) else ""
    chosen = wanted if wanted in snapshots else next(iter(snapshots), None)
    return os.path.join(folder, "snapshots", chosen) if chosen else None


def _folder(machine: Machine, folder: str, incomplete: str) -> Finding:
    if not machine.exists(folder):
        return finding("weights.no-folder", folder=folder)
    if not machine.is_folder(folder):
        return finding("weights.file", folder=folder)
    problems = _problems(machine, folder)
    if problems:
        return finding(incomplete, folder=folder, problems="; ".join(problems))
    shards = [name for name in machine.names(folder) if name.endswith(_WEIGHTS)]
    return finding("weights.complete", folder=folder, count=len(shards))


def _problems(machine: Machine, folder: str) -> list[str]:
    if not machine.may_read(folder):
        return ["is not readable for this user"]
    names = machine.names(folder)
    problems = []
    if "config.json" not in names and "params.json" not in names:
        problems.append("no config.json")
    shards = [name for name in names if name.endswith(_WEIGHTS)]
    if not shards:
        problems.append(f"no weights ({', '.join(_WEIGHTS)})")
    missing, broken = _missing(machine, folder, names)
    if broken:
        problems.append(broken)
    if missing:
        problems.append(f"missing {_some(missing)}")
    files = [n for n in names if n.endswith((*_WEIGHTS, ".json", ".model"))]
    states = {name: _state(machine, os.path.join(folder, name)) for name in files}
    for state in sorted({state for state in states.values() if state}):
        problems.append(f"{state}: {_some([n for n, s in states.items() if s == state])}")
    return problems


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _missing(machine: Machine, folder: str, names: Sequence[str]) -> tuple[list[str], str]:
    """Missing shards: those that an index names, or that the numbers in file names imply.

    A folder may hold the weights in two forms, each with an index: one complete form is enough.
    """
    indexes = [name for name in names if name.endswith(".safetensors.index.json")]
    if not indexes:
        return _gaps(names), ""
    lists, broken = [], ""
    for index in indexes:
        try:
            document = json.loads(machine.read(os.path.join(folder, index), 1 << 28))
            lists.append(sorted(set(document["weight_map"].values()) - set(names)))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            broken = f"{index} is not an index of weights"
    if not lists:
        return [], broken
    return min(lists, key=len), ""


def _gaps(names: Sequence[str]) -> list[str]:
    found: dict[tuple[str, str, str], set[int]] = {}
    for name in names:
        match = _SHARD.fullmatch(name)
        if match and name.endswith(_WEIGHTS):
            stem, number, count, ending = match.groups()
            found.setdefault((stem, count, ending), set()).add(int(number))
    return [
        f"{stem}-{number:05d}-of-{count}{ending}"
        for (stem, count, ending), numbers in found.items()
        for number in range(1, int(count) + 1)
        if number not in numbers
    ]


def _state(machine: Machine, path: str) -> str:
    """What is wrong with one file, empty when nothing is."""
    state = machine.stat(path)
    if state is None:
        return "links to nothing"
    if not machine.may_read(path):
        return "not readable for this user"
    start = machine.read(path, len(_POINTER))
    if start == _POINTER:
        return "pointers of git-lfs instead of files"
    if path.endswith(".safetensors") and not _whole(machine, path, state.st_size):
        return "cut short"
    return ""


def _whole(machine: Machine, path: str, size: int) -> bool:
    """Whether a safetensors file is as long as its header says.

    It consists of 8 bytes of length, the header, and the tensors.
    """
    length = int.from_bytes(machine.read(path, 8), "little")
    if not 0 < length <= min(_HEADER_LIMIT, size - 8):
        return False
    try:
        header = json.loads(machine.read(path, length, offset=8))
        ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
        return bool(8 + length + max(ends, default=0) <= size)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False
