"""The catalogue: what the `vllm serve` of each release takes, asked from vLLM itself.

`env/flags/{vllm}.json` has the options of vLLM's parser, which runs in an environment of its own
with a CPU build of that vLLM. `env/variables/{release}.json` has the environment variables: those
of vLLM, those that vllm-ascend's source distribution defines in envs.py or reads elsewhere, and
those that its documentation sets although nothing reads them. The container refuses what is in
neither file (entrypoints/inputs/catalogue.py). A vLLM of platform cpu that is no release's has both
files too, under the name of its facts.
"""

from __future__ import annotations

import ast
import fcntl
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from common.errors import (
    EX_DATAERR,
    EX_SOFTWARE,
    Finding,
    did_you_mean,
    user_error,
)
from common.files import write_atomically
from common.paths import ENV, ROOT, WORK
from common.terminal import Say
from images.locking.index import Wheels, source_distribution
from images.locking.uv import uv
from images.matrix import Matrix
from upstream.catalogues.vllm_parser import READS

BUILD = WORK / "flags"
SETTINGS = Path(__file__).parent / "parser.yaml"
PROBE = Path(__file__).parent / "vllm_parser.py"
READY = "ready.json"  # in an environment that is complete: what it was made from

# A variable that a document sets: `export VLLM_X=1`, `-e VLLM_X=1`, `VLLM_X: "1"`, `"VLLM_X"] =`.
SETS = re.compile(r"""\b(VLLM_[A-Z0-9_]+)["']?\]?\s*[=:](?!=)""")
# Where vllm-ascend publishes configurations: path of a file below the distribution's root.
PUBLISHED = re.compile(
    r"(docs/.*\.(md|rst|inc\.md|sh|py|ya?ml)|examples/.*\.(md|sh|py|ya?ml)|README[^/]*\.md"
    r"|Dockerfile[^/]*|tests/e2e/.*\.ya?ml)"
)
SOURCES = re.compile(r"(vllm_ascend/.*\.py|csrc/.*\.(c|cc|cpp|cxx|cu|h|hpp|py))")


class Subject(Protocol):
    """Whose files they are: a release, or what has no vllm-ascend."""

    @property
    def name(self) -> str: ...
    @property
    def vllm(self) -> str: ...
    @property
    def vllm_ascend(self) -> str: ...


@dataclass(frozen=True)
class Alone:
    """A vLLM without vllm-ascend; `name` is that of its facts in env/releases."""

    name: str
    vllm: str
    vllm_ascend: str = ""


@dataclass(frozen=True)
class Settings:
    """upstream/catalogues/parser.yaml."""

    python: str
    package: str
    torch: str
    requirements: tuple[str, ...]
    without: tuple[str, ...]
    as_of: str

    @classmethod
    def load(cls) -> Settings:
        raw = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
        lists = {key: tuple(raw[key]) for key in ("requirements", "without")}
        return cls(**{**raw, **lists, "as_of": str(raw["as_of"])})


def chosen(matrix: Matrix, names: Sequence[str], all_of_them: bool) -> list[Subject]:
    """The releases named, the default one when none is. Raises UserError for a name unknown."""
    alone = {e.facts: Alone(e.facts, e.version) for e in matrix.cpu.vllm_versions.values()}
    known: dict[str, Subject] = {**alone, **matrix.releases}
    if all_of_them:
        return list(known.values())
    for name in names:
        if name not in known:
            raise user_error(
                "--release", f"'{name}' is not in the matrix", did_you_mean(name, known)
            )
    return [known[name] for name in dict.fromkeys(names)] or [matrix.release(None)]


def update(releases: Sequence[Subject], wheels: Wheels, say: Say) -> list[Path]:
    """Write the files of the releases; returns those that changed. Raises UserError."""
    changed = []
    for path, document in _documents(releases, wheels, say).items():
        text = render(document)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text, parents=True)
            changed.append(path)
    return changed


def check(releases: Sequence[Subject], wheels: Wheels, say: Say) -> list[Finding]:
    """Where the files differ from what vLLM says; writes nothing. Raises UserError."""
    problems = []
    documents = _documents(releases, wheels, say)
    for release in releases:
        for path in flags_path(release), variables_path(release):
            if path in documents:  # two releases may have one vLLM
                remedy = f"invoke flags --release {release.name}"
                problems += _compare(path, documents.pop(path), remedy)
    return problems


def summary(releases: Sequence[Subject], changed: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """What the files of the releases hold, as data."""
    fresh = set(changed)
    rows = []
    for release in releases:
        paths = flags_path(release), variables_path(release)
        flags, variables = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
        rows.append(
            {
                "release": release.name,
                "vllm": release.vllm,
                "options": len(flags["options"]),
                "variables": len({n for names in variables.values() for n in names}),
                "files": [str(path.relative_to(ROOT)) for path in paths],
                "changed": [str(path.relative_to(ROOT)) for path in paths if path in fresh],
            }
        )
    return rows


def summary_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """The same for people, a line a release."""
    return "\n".join(
        f"{row['release']}: vLLM {row['vllm']}, {row['options']} options,"
        f" {row['variables']} variables"
        + (f"; wrote {', '.join(row['changed'])}" if row["changed"] else "")
        for row in rows
    )


def flags_path(release: Subject) -> Path:
    return ENV / "flags" / f"{release.vllm}.json"


def variables_path(release: Subject) -> Path:
    return ENV / "variables" / f"{release.name}.json"


def render(document: Mapping[str, Any]) -> str:
    """JSON with one entry of each mapping or list a line, for diffs that can be read."""

    def lines(value: Any) -> str:
        if isinstance(value, dict) and value:
            body = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            return f"{{\n{body}\n}}"
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        return json.dumps(value)

    parts = ",\n".join(f"{json.dumps(key)}: {lines(value)}" for key, value in document.items())
    return f"{{\n{parts}\n}}\n"


def agree(release: Subject) -> None:
    """Raises UserError (65) unless env/releases names the vLLM of the matrix."""
    path = ENV / "releases" / f"{release.name}.yaml"
    where = f"env/releases/{path.name}"
    try:
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        named = str(facts["vllm"])
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise user_error(where, f"names no vLLM: {error}", exit_code=EX_DATAERR) from None
    if named != release.vllm:
        what = f"vllm is {named}, the matrix says {release.vllm}"
        raise user_error(where, what, "correct the one that is wrong", EX_DATAERR)


def _documents(releases: Sequence[Subject], wheels: Wheels, say: Say) -> dict[Path, dict[str, Any]]:
    for release in releases:
        agree(release)
    documents: dict[Path, dict[str, Any]] = {}
    answers: dict[str, Any] = {}
    for release in releases:
        version = release.vllm
        if version not in answers:
            python = environment(version, wheels, say)
            say(f"vLLM {version}: asking its parser")
            answers[version] = json.loads(ask(python, "options"))
        answer = answers[version]
        documents[flags_path(release)] = {"vllm": version, "options": answer["options"]}
        path = variables_path(release)
        if release.vllm_ascend:
            say(f"{release.name}: reading the source distribution of vllm-ascend")
            archive = source_distribution("vllm-ascend", release.vllm_ascend)
            documents[path] = variables(answer, members(archive))
        else:
            documents[path] = _names(answer, {}, set(answer["read"]), set())
    return documents


def _compare(path: Path, document: Mapping[str, Any], remedy: str) -> list[Finding]:
    """A problem for each key of the document under which the file has something else."""
    where = str(path.relative_to(ROOT))
    try:
        kept = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return [Finding(where, "is missing", remedy)]
    except (ValueError, TypeError, OSError) as error:
        return [Finding(where, f"cannot be read: {error}", remedy)]
    problems = []
    for key in [*document, *(key for key in kept if key not in document)]:
        wanted, have = document.get(key), kept.get(key)
        if wanted != have:
            what = _difference(wanted, have)
            problems.append(Finding(f"{where}: {key}", what, remedy))
    if not problems and render(document) != path.read_text(encoding="utf-8"):
        problems.append(Finding(where, "is not written as it would be", remedy))
    return problems


def _difference(wanted: Any, have: Any) -> str:
    if type(wanted) is not type(have) or not isinstance(wanted, (dict, list)):
        return f"is {have!r}, vLLM says {wanted!r}"
    said = {
        "lacks": [name for name in wanted if name not in have],
        "should not have": [name for name in have if name not in wanted],
    }
    if isinstance(wanted, dict):
        said["is wrong about"] = [n for n in wanted if n in have and wanted[n] != have[n]]
    return "; ".join(f"{verb} {', '.join(names)}" for verb, names in said.items() if names) or (
        "has another order"
    )


# ---- variables -----------------------------------------------------------------------------------


def variables(answer: Mapping[str, Any], files: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The document of a release, from the probe's answer and the distribution's files.

    vllm: the names of vllm.envs; vllm_ascend: name -> default of vllm_ascend/envs.py; read: other
    names that a source of either reads; unread: names that vllm-ascend's documents set and nothing
    reads. Raises UserError (65) when there is no envs.py.
    """
    defined: dict[str, str | None] = {}
    read, published = set(answer["read"]), set[str]()
    for name, text in files:
        if name == "vllm_ascend/envs.py":
            defined = environment_variables(text)
        if SOURCES.fullmatch(name):
            read |= {match[1] or match[2] for match in READS.finditer(text)}
        elif PUBLISHED.fullmatch(name):
            published |= set(SETS.findall(text))
    if not defined:
        what = "env_variables was not found in its source distribution"
        raise user_error("vllm_ascend/envs.py", what, exit_code=EX_DATAERR)
    return _names(answer, defined, read, published)


def _names(
    answer: Mapping[str, Any],
    defined: Mapping[str, str | None],
    read: set[str],
    published: set[str],
) -> dict[str, Any]:
    known = {*answer["variables"], *defined}
    return {
        "vllm": sorted(answer["variables"]),
        "vllm_ascend": dict(sorted(defined.items())),
        "read": sorted(read - known),
        "unread": sorted(published - read - known),
    }


def environment_variables(text: str) -> dict[str, str | None]:
    """Name -> default of `env_variables = {"NAME": lambda: os.getenv("NAME", DEFAULT), …}`."""
    for node in ast.parse(text).body:
        if (
            isinstance(node, ast.AnnAssign)
            and ast.unparse(node.target) == "env_variables"
            and isinstance(node.value, ast.Dict)
        ):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {str(ast.literal_eval(key)): default_of(value) for key, value in pairs if key}
    return {}


def default_of(node: ast.expr) -> str | None:
    """What os.getenv is told to give in the absence of a variable, as source; None without."""
    for call in ast.walk(node):
        if not isinstance(call, ast.Call) or len(call.args) != 2:
            continue
        if ast.unparse(call.func) in ("os.getenv", "os.environ.get"):
            default = call.args[1]
            if isinstance(default, ast.Constant):
                return None if default.value is None else str(default.value)
            return ast.unparse(default)
    return None


def members(archive: Path) -> Iterator[tuple[str, str]]:
    """(path below the distribution's root, text) of the files that are looked at."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            if member.isfile() and (SOURCES.fullmatch(name) or PUBLISHED.fullmatch(name)):
                file = tar.extractfile(member)
                assert file is not None  # isfile()
                yield name, file.read().decode("utf-8", "replace")


# ---- the environment of a vLLM -------------------------------------------------------------------


def environment(version: str, wheels: Wheels, say: Say) -> Path:
    """The interpreter of an environment that holds this vLLM; made where there is none yet.

    Raises UserError (69) with uv's words.
    """
    settings = Settings.load()
    folder = BUILD / version
    python = folder / "bin" / "python"
    wanted = _requirements(settings, version)
    with _alone(folder):
        if is_ready(version):
            return python
        say(f"vLLM {version}: making build/flags/{version} (a minute or so)")
        uv("venv", "--quiet", "--clear", "--python", settings.python, str(folder))
        overrides = folder / "overrides.txt"
        overrides.write_text("\n".join(wanted["overrides"]))
        uv(
            *("pip", "install", "--quiet", "--python", str(python), "--overrides", str(overrides)),
            *("--exclude-newer", f"{settings.as_of}T23:59:59Z", *wheels.options()),
            *wanted["packages"],
        )
        (site,) = folder.glob("lib/python*/site-packages")
        _name_it_vllm(site, version)
        (folder / READY).write_text(json.dumps(wanted, indent=1))
    return python


def is_ready(version: str) -> bool:
    """Whether the environment is there, complete, and made from what parser.yaml says."""
    try:
        made_from = json.loads((BUILD / version / READY).read_text())
    except (OSError, ValueError):
        return False
    return bool(made_from == _requirements(Settings.load(), version))


def _requirements(settings: Settings, version: str) -> dict[str, list[str]]:
    never = ' ; sys_platform == "win32"'
    return {
        "packages": [f"{settings.package}=={version}", *settings.requirements],
        "overrides": [f"torch=={settings.torch}", *(f"{one}{never}" for one in settings.without)],
        "as_of": [settings.as_of],
    }


def _name_it_vllm(site: Path, version: str) -> None:
    """vLLM 0.18 and later look up the distribution `vllm`, which this build names otherwise."""
    metadata = site / f"vllm-{version}+cpu.dist-info"
    metadata.mkdir(exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
    (metadata / "METADATA").write_text(text)


def ask(python: Path, what: str, stdin: str = "") -> str:
    """The answer of the probe. Raises UserError (70) with the end of what it printed."""
    # Byte code makes every later import of vLLM twice as fast.
    environ = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("VLLM_")
    }
    environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_PLUGINS": ""}
    answer = subprocess.run(
        [str(python), str(PROBE), what], input=stdin, env=environ, capture_output=True, text=True
    )
    if answer.returncode:
        words = " ".join(answer.stderr.strip().splitlines()[-3:])
        where = f"{PROBE.name} {what} in {python.parent.parent.name}"
        raise user_error(where, words or f"ended with {answer.returncode}", exit_code=EX_SOFTWARE)
    return answer.stdout


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time makes an environment."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
