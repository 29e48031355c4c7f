"""What the cases of recipes say that upstream states, in the sources of each release.

The documents are read by the importer, so this needs the package index and no engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from clusters.importing import external_dp, servers, sources
from clusters.importing.servers import Server
from entrypoints.inputs import catalogue, data, recipes, stack
from tests.entrypoints.inputs.test_recipe_library import CASES
from upstream.sources import tree

pytestmark = pytest.mark.index

RELEASES = sorted({stated["release"] for case in CASES for stated in case["stated"]})
# Placeholders of a document, where a case has an address or an interface.
FILLED = {"--data-parallel-address", "HCCL_IF_IP", *servers.INTERFACES}
RANK = "--data-parallel-rank"


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Release and document → the servers that are started in it."""

    @cache
    def of(release: str, path: str) -> tuple[Server, ...]:
        file = tmp_path_factory.mktemp("document") / Path(path).name
        file.write_text(tree("vllm-ascend", release[1:]).text(path))
        dialect = stack.release(release, [])
        assert dialect
        known = catalogue.load(dialect)
        return tuple(
            servers.read(one, known)
            for source in sources.read([str(file)], {})
            for one in external_dp.expand(source.scripts, source.apart)[0]
            if one.kind == "server"
        )

    return of


def flags_of(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (
        *_,
        flag,
    ) in server.flags.values():
        value = flag.values[0] if flag.values else True
        found[flag.name] = json.loads(str(value)) if str(value)[:1] in "{[" else value
    return found


def whole(case: Mapping[str, Any], stated: Mapping[str, Any], part: str) -> dict[str, Any]:
    both = {**case["stated"][0][part], **stated.get(part, {})}
    return {key: value for key, value in both.items() if value is not None}


def citations(stated: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    source = stated["source"]
    for one in source if isinstance(source, list) else [source]:
        path, _, line = one.rpartition(":")
        yield path, int(line)


@pytest.mark.parametrize("release", RELEASES)
def test_the_documents_state_it(release: str, read: Any) -> None:
    version, looked = release[1:], 0
    for case in CASES:
        for stated in (one for one in case["stated"] if one["release"] == release):
            flags, env = whole(case, stated, "flags"), whole(case, stated, "env")
            (path, line), *exports = citations(stated)
            lines = tree("vllm-ascend", version).text(path).splitlines()
            for _, number in exports:
                match = re.fullmatch(r"export (\w+)=(.*)", lines[number - 1])
                assert match, f"{path}:{number}"
                value = env.pop(match[1])
                assert match[1] in FILLED or value == match[2]
            (server, *_) = (
                one
                for one in read(release, path)
                if one.script.line == line and flags.get(RANK) == flags_of(one).get(RANK)
            )
            at = f"{release} {path}:{line}"
            assert server.model == {**case["stated"][0], **stated}["model"], at
            assert without(flags) == without(flags_of(server)), at
            assert without(env) == without(server.env), at
            assert set(flags) == set(flags_of(server)), at
            assert set(env) == set(server.env), at
            looked += 1
    assert looked


def without(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in FILLED}


@pytest.mark.parametrize("name", recipes.names())
def test_every_source_of_a_recipe_is_there(name: str) -> None:
    for source in recipes.load(name).sources.values():
        release, _, place = source.removeprefix("vllm-ascend ").partition(": ")
        assert release in data.names("releases")
        path, _, numbers = place.rpartition(":")
        lines = tree("vllm-ascend", release[1:]).text(path).splitlines()
        for number in numbers.split(","):
            assert lines[int(number) - 1].strip(), source
