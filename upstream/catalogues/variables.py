"""The environment variables of a release, from the sources of vLLM and vllm-ascend."""

from __future__ import annotations

import ast
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import EX_DATAERR, user_error
from upstream.catalogues.vllm_parser import READS

# A document that sets a variable: `export VLLM_X=1`, `-e VLLM_X=1`, `VLLM_X: "1"`, `"VLLM_X"] =`.
SETS = re.compile(r"""\b(VLLM_[A-Z0-9_]+)["']?\]?\s*[=:](?!=)""")
# Files in which vllm-ascend publishes configurations, and its source code.
PUBLISHED = re.compile(
    r"(docs/.*\.(md|rst|inc\.md|sh|py|ya?ml)|examples/.*\.(md|sh|py|ya?ml)|README[^/]*\.md"
    r"|Dockerfile[^/]*|tests/e2e/.*\.ya?ml)"
)
SOURCES = re.compile(r"(vllm_ascend/.*\.py|csrc/.*\.(c|cc|cpp|cxx|cu|h|hpp|py))")


def variables(answer: Mapping[str, Any], files: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The catalogue of a release's variables, from the parser's answer and vllm-ascend's files.

    vllm: the names of vllm.envs. vllm_ascend: name → default of vllm_ascend/envs.py. read: other
    names that a source reads. unread: names that vllm-ascend's documents set but nothing reads.
    Raises UserError (65) if there is no envs.py.
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
        what = "the source distribution has no env_variables"
        raise user_error("vllm_ascend/envs.py", what, exit_code=EX_DATAERR)
    return combine(answer, defined, read, published)


def combine(
    answer: Mapping[str, Any],
    defined: Mapping[str, str | None],
    read: set[str],
    published: set[str],
) -> dict[str, Any]:
    """The catalogue from its parts, sorted and without duplicates."""
    known = {*answer["variables"], *defined}
    return {
        "vllm": sorted(answer["variables"]),
        "vllm_ascend": dict(sorted(defined.items())),
        "read": sorted(read - known),
        "unread": sorted(published - read - known),
    }


def environment_variables(text: str) -> dict[str, str | None]:
    """Parse `env_variables = {"NAME": lambda: os.getenv("NAME", DEFAULT), …}`: name → default."""
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
    """The default of an os.getenv call in `node`, as source code; None without one."""
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
    """The (path, text) of every file in a distribution that may name variables."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            if member.isfile() and (SOURCES.fullmatch(name) or PUBLISHED.fullmatch(name)):
                file = tar.extractfile(member)
                assert file is not None  # isfile()
                yield name, file.read().decode("utf-8", "replace")
