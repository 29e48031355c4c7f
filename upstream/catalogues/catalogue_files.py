"""The catalogues: what `vllm serve` of each release accepts and reads.

`env/flags/{vllm}.json` has the options of vLLM's parser (parser_environment.py).
`env/variables/{release}.json` has the environment variables (variables.py): those of vLLM, those
that vllm-ascend's source distribution defines in envs.py or reads elsewhere, and those that its
documentation sets although nothing reads them. The container refuses everything else
(entrypoints/inputs/catalogue.py). `env/keys/{release}.json` has the keys of --additional-config
and of the KV connectors (config_catalogue.py); the container reports others
(entrypoints/inputs/keys.py). A vLLM of platform cpu that no release has also gets the files, under
the name of its facts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common import yaml
from common.errors import EX_DATAERR, Finding, UserError, did_you_mean, user_error
from common.files import write_atomically
from common.paths import ENV, ROOT
from common.terminal import Say
from images.locking.index import Wheels, source_distribution
from images.matrix import Matrix
from upstream.catalogues import config_catalogue
from upstream.catalogues.parser_environment import ask, environment
from upstream.catalogues.variables import combine, members, variables
from upstream.sources import Sources, Tree, tree, vllm_tree


class Subject(Protocol):
    """What catalogues describe: a release, or a vLLM without vllm-ascend."""

    @property
    def name(self) -> str: ...
    @property
    def vllm(self) -> str: ...
    @property
    def vllm_ascend(self) -> str: ...


@dataclass(frozen=True)
class VllmOnly:
    """A vLLM without vllm-ascend. `name`: of its facts in env/releases."""

    name: str
    vllm: str
    vllm_ascend: str = ""


def select(matrix: Matrix, names: Sequence[str], every: bool) -> list[Subject]:
    """The named releases, by default the matrix's default. Raises UserError for unknown names."""
    vllm_only = {v.facts: VllmOnly(v.facts, v.version) for v in matrix.cpu.vllm_versions.values()}
    known: dict[str, Subject] = {**vllm_only, **matrix.releases}
    if every:
        return list(known.values())
    for name in names:
        if name not in known:
            raise user_error(
                "--release", f"'{name}' is not in the matrix", did_you_mean(name, known)
            )
    return [known[name] for name in dict.fromkeys(names)] or [matrix.release(None)]


def update(releases: Sequence[Subject], wheels: Wheels, say: Say) -> list[Path]:
    """Write the files of the releases and return those that changed. Raises UserError."""
    changed = []
    for path, document in _documents(releases, wheels, say).items():
        text = render(document)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            changed.append(write_atomically(path, text, parents=True))
    return changed


def check(releases: Sequence[Subject], wheels: Wheels, say: Say) -> list[Finding]:
    """Compare the files with vLLM, and write nothing. Raises UserError."""
    problems = []
    documents = _documents(releases, wheels, say)
    for release in releases:
        for path in paths(release):
            if path in documents:  # several releases may share a vLLM
                remedy = f"invoke flags --release {release.name}"
                problems += _compare(path, documents.pop(path), remedy)
    return problems


def summary(releases: Sequence[Subject], changed: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """The contents of the releases' files as JSON data."""
    fresh = set(changed)
    rows = []
    for release in releases:
        files = paths(release)
        flags, variables, keys = (json.loads(path.read_text(encoding="utf-8")) for path in files)
        rows.append(
            {
                "release": release.name,
                "vllm": release.vllm,
                "options": len(flags["options"]),
                "variables": len({n for names in variables.values() for n in names}),
                "keys": len(keys["additional_config"]),
                "connectors": len(keys["connectors"]),
                "files": [str(path.relative_to(ROOT)) for path in files],
                "changed": [str(path.relative_to(ROOT)) for path in files if path in fresh],
            }
        )
    return rows


def summary_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """The same for people: a line for each release."""
    return "\n".join(
        f"{row['release']}: vLLM {row['vllm']}, {row['options']} options,"
        f" {row['variables']} variables, {row['keys']} keys, {row['connectors']} connectors"
        + (f"; wrote {', '.join(row['changed'])}" if row["changed"] else "")
        for row in rows
    )


def flags_path(release: Subject) -> Path:
    return ENV / "flags" / f"{release.vllm}.json"


def variables_path(release: Subject) -> Path:
    return ENV / "variables" / f"{release.name}.json"


def keys_path(release: Subject) -> Path:
    return ENV / "keys" / f"{release.name}.json"


def paths(release: Subject) -> tuple[Path, Path, Path]:
    """The files of a release."""
    return flags_path(release), variables_path(release), keys_path(release)


def render(document: Mapping[str, Any]) -> str:
    """JSON with a line for each entry of a mapping or list, for readable diffs."""

    def lines(value: Any) -> str:
        if isinstance(value, dict) and value:
            body = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            return f"{{\n{body}\n}}"
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        return json.dumps(value)

    parts = ",\n".join(f"{json.dumps(key)}: {lines(value)}" for key, value in document.items())
    return f"{{\n{parts}\n}}\n"


def check_vllm(release: Subject) -> None:
    """Raise UserError (65) unless env/releases names the vLLM of the matrix."""
    path = ENV / "releases" / f"{release.name}.yaml"
    where = f"env/releases/{path.name}"
    try:
        named = str(yaml.document(path)["vllm"])
    except (UserError, LookupError, TypeError) as error:
        raise user_error(where, f"names no vLLM: {error}", exit_code=EX_DATAERR) from None
    if named != release.vllm:
        what = f"vllm is {named}, the matrix says {release.vllm}"
        raise user_error(where, what, "correct one of them", EX_DATAERR)


def _documents(releases: Sequence[Subject], wheels: Wheels, say: Say) -> dict[Path, dict[str, Any]]:
    for release in releases:
        check_vllm(release)
    documents: dict[Path, dict[str, Any]] = {}
    answers: dict[str, Any] = {}
    for release in releases:
        version = release.vllm
        if version not in answers:
            python = environment(version, wheels, say)
            say(f"vLLM {version}: querying its parser")
            answers[version] = json.loads(ask(python, "options"))
        answer = answers[version]
        documents[flags_path(release)] = {"vllm": version, "options": answer["options"]}
        path = variables_path(release)
        if release.vllm_ascend:
            say(f"{release.name}: reading the source distribution of vllm-ascend")
            archive = source_distribution("vllm-ascend", release.vllm_ascend)
            documents[path] = variables(answer, members(archive))
        else:
            documents[path] = combine(answer, {}, set(answer["read"]), set())
        documents[keys_path(release)] = config_catalogue.catalogue(_sources(release))
    return documents


def _sources(release: Subject) -> Sources:
    ours = Tree("vllm-ascend", "", {})
    if release.vllm_ascend:
        ours = tree("vllm-ascend", release.vllm_ascend)
    return Sources(release.name, ours, vllm_tree(release.vllm))


def _compare(path: Path, document: Mapping[str, Any], remedy: str) -> list[Finding]:
    """A finding for each key whose value in the file differs."""
    where = str(path.relative_to(ROOT))
    try:
        current = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return [Finding(where, "is missing", remedy)]
    except (ValueError, TypeError, OSError) as error:
        return [Finding(where, f"cannot be read: {error}", remedy)]
    problems = []
    for key in [*document, *(key for key in current if key not in document)]:
        wanted, have = document.get(key), current.get(key)
        if wanted != have:
            what = _difference(wanted, have)
            problems.append(Finding(f"{where}: {key}", what, remedy))
    if not problems and render(document) != path.read_text(encoding="utf-8"):
        problems.append(Finding(where, "is not formatted as `invoke flags` writes it", remedy))
    return problems


def _difference(wanted: Any, have: Any) -> str:
    if type(wanted) is not type(have) or not isinstance(wanted, (dict, list)):
        return f"is {have!r}, vLLM says {wanted!r}"
    differences = {
        "lacks": [name for name in wanted if name not in have],
        "has unknown": [name for name in have if name not in wanted],
    }
    if isinstance(wanted, dict):
        differences["is wrong about"] = [n for n in wanted if n in have and wanted[n] != have[n]]
    return "; ".join(
        f"{verb} {', '.join(names)}" for verb, names in differences.items() if names
    ) or ("has a different order")
