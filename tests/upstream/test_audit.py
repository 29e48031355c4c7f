"""The audit of small made data against small made sources, and how sources are written."""

from __future__ import annotations

import datetime
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.errors import EX_DATAERR, EX_USAGE, UserError
from common.yaml import line_of
from tests.upstream.sample_sources import NAME, made
from upstream import audit
from upstream.audit import audit_report, citations
from upstream.audit.audit_result import (
    CONFIRMED,
    CONTRADICTED,
    FAILING,
    READ,
    UNCHECKED,
    UNSOURCED,
    VERDICTS,
    AuditResult,
)
from upstream.audit.audit_rules import Rule
from upstream.audit.citations import Library, Place
from upstream.bump import pins, pins_file
from upstream.catalogues import config_catalogue
from upstream.dialect import derive, dialect_file, python_source
from upstream.sources import Tree

MATRIX = {
    "default_release": NAME,
    "platforms": {"a2": {"soc_version": "ascend910b1", "cann_tag": "910b"}},
    "pairs": [],
}
STACK = {
    "features": {
        "cpu_binding": {
            "arg": "hf-overrides.enable_cpu_binding",
            "source": "vllm-ascend v0.9.0-v1.1.0: vllm_ascend/ascend_config.py",
        }
    },
    "reserved_ports": [{"name": "Some", "first": 1, "last": 2, "source": "its documentation"}],
    "timeouts": {"execute_model": 300, "source": "vllm: vllm/envs.py"},
}
PREFLIGHT = {
    "driver": {
        "releases": {
            NAME: {"version": "25.5", "source": "vllm-ascend v1.0.0: docs/source/guide.md"}
        }
    },
    "control_nodes": ["davinci_manager"],
    "mounts": ["/etc/hccn.conf", "/opt/hccn.conf"],
}
MODELS = {
    "models": [
        {
            "name": "Small",
            "config": {"architectures": ["SmallForCausalLM"]},
            "source": "vllm v1.0.0: vllm/model_executor/models/registry.py:1",
        }
    ]
}
DOCUMENTS: dict[str, Any] = {
    "env/stack.yaml": STACK,
    "env/preflight.yaml": PREFLIGHT,
    "env/models.yaml": MODELS,
    "env/proxies.yaml": {"example": {"scripts": {"MooncakeConnectorV1": "proxy.py"}}},
    "env/defaults.yaml": {"release": NAME},
    "env/platforms/a2.yaml": {
        "description": "Atlas 800 A2",
        "soc": "ascend910b1",
        "devices": 8,
        "hbm_gib": 64,
    },
    "env/recipes/small/one.yaml": {
        "source": "vllm-ascend v1.0.0: docs/source/guide.md:1,2",
        "model": "Small",
        "roles": {"single": None},
    },
    "images/matrix.yaml": MATRIX,
}


GOOD = Rule("good", "--nnodes", "vllm v1.0.0: vllm/engine/arg_utils.py:10")


@dataclass
class Data:
    """A root with data that is right, and the audit of it."""

    root: Path
    rules: tuple[Rule, ...] = (GOOD,)

    def change(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        assert old in path.read_text(), file
        path.write_text(path.read_text().replace(old, new, 1))

    def run(self, release: str | None = None) -> list[AuditResult]:
        made_by = {
            ("vllm-ascend", "1.0.0"): made().vllm_ascend,
            ("vllm", "1.0.0"): made().vllm,
        }
        audited = audit.Audit(
            self.root,
            lambda package, version: made_by[package, version],
            lambda of: of.files.items(),
            {"rules": self.rules},
        )
        return audit.run(audited, release, lambda _: None)

    def failing(self) -> dict[str, str]:
        found = [one for one in self.run() if one.verdict in FAILING]
        return {f"{one.file}: {one.key}": one.verdict for one in found}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, made from the sources themselves, once."""
    root = tmp_path_factory.mktemp("data")
    sources = made()
    texts = {name: yaml.safe_dump(one, sort_keys=False) for name, one in DOCUMENTS.items()}
    dialect = dialect_file.document(derive(sources, {"mooncake": "v0.3.9"}))
    texts[f"env/releases/{NAME}.yaml"] = dialect_file.render(dialect)
    pinned = pins_file.from_facts(pins.derive(sources).facts)
    texts[f"images/releases/{NAME}.yaml"] = pins_file.render(NAME, pinned)
    flags: dict[str, dict[str, Any]] = {f"--{name}": {"type": "str"} for name in _flags()}
    flags["--gpu-memory-utilization"] = {
        "type": "float",
        "default": 0.9,
        "aliases": ["--device-memory"],
    }
    texts["env/flags/1.0.0.json"] = json.dumps({"vllm": "1.0.0", "options": flags})
    variables = {
        "vllm": [
            "VLLM_ENGINE_READY_TIMEOUT_S",
            "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS",
            "VLLM_PORT",
        ],
        "vllm_ascend": {
            "VLLM_ASCEND_ENABLE_FLASHCOMM1": "0",
            "VLLM_ASCEND_ENABLE_NZ": "1",
            "VLLM_ASCEND_FLASHCOMM2_PARALLEL_SIZE": "0",
            "SOC_VERSION": None,
        },
        "read": ["VLLM_HIDDEN"],
        "unread": ["VLLM_TAG", "VLLM_UNREAD"],
    }
    texts[f"env/variables/{NAME}.json"] = json.dumps(variables)
    texts[f"env/keys/{NAME}.json"] = json.dumps(config_catalogue.catalogue(sources))
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _flags() -> list[str]:
    return [name for name in python_source.flags(made().vllm) if name != "device-memory"]


@pytest.fixture
def data(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setattr("images.matrix.load", lambda path: None)  # not a whole matrix
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    return Data(tmp_path)


def test_data_that_is_right(data: Data) -> None:
    found = data.run()
    assert [one for one in found if one.verdict in FAILING] == []
    confirmed = [one for one in found if one.verdict in (CONFIRMED, READ)]
    assert len(confirmed) > 90
    assert [one for one in confirmed if not one.source] == []
    assert [one for one in found if one.verdict == UNCHECKED and not one.why] == []
    audit.enforce(found)


DIALECT, PINS = f"env/releases/{NAME}.yaml", f"images/releases/{NAME}.yaml"
FLAGS, VARIABLES = "env/flags/1.0.0.json", f"env/variables/{NAME}.json"
KEYS = f"env/keys/{NAME}.json"
PLANTED = yaml.safe_load((Path(__file__).parent / "planted_small.yaml").read_text())


@pytest.mark.parametrize("error", PLANTED, ids=lambda error: f"{error['file']}-{error['key']}")
def test_a_planted_error_is_found(data: Data, error: dict[str, str]) -> None:
    data.change(error["file"], error["old"], error["new"])
    assert f"{error['file']}: {error['key']}" in data.failing()


def test_a_rule_without_a_source_fails_and_one_whose_line_is_another(data: Data) -> None:
    data.rules = (
        GOOD,
        replace(GOOD, code="none", source=" "),
        replace(GOOD, code="line", source="vllm v1.0.0: vllm/envs.py:2"),
        replace(GOOD, code="issue", source="vllm-ascend#8344, #8345"),
    )
    assert data.failing() == {"rules: none": UNSOURCED, "rules: line": CONTRADICTED}


def test_only_a_second_file_confirms_what_bump_reads(data: Data) -> None:
    verdicts = {one.key: one for one in data.run() if one.file == PINS}
    assert verdicts["platforms"].verdict == READ
    assert "bump" in verdicts["platforms"].why
    found = [one for one in data.run() if one.file == DIALECT and one.verdict == CONFIRMED]
    assert all("; " in one.source for one in found if not one.key.endswith("source"))


def test_a_persons_pin_is_not_held_against_upstream(data: Data) -> None:
    data.change(PINS, "cann: 8.5.0  # v1.0.0:Dockerfile:1", "cann: 8.3.rc2  # by hand: tried here")
    assert data.failing() == {}
    (one,) = [one for one in data.run() if one.file == PINS and one.key == "cann"]
    assert (one.verdict, one.why) == (UNCHECKED, "by hand: tried here; upstream's is '8.5.0'")


def test_all_that_is_wrong_is_said_at_once(data: Data) -> None:
    data.change(DIALECT, "kv_port: 14579", "kv_port: 1")
    data.change("env/defaults.yaml", NAME, "v2.0.0")
    with pytest.raises(UserError) as caught:
        audit.enforce(data.run())
    assert caught.value.exit_code == EX_DATAERR
    text = (data.root / DIALECT).read_text().splitlines()
    assert sorted((one.file, one.line, one.where) for one in caught.value.findings) == [
        ("env/defaults.yaml", 1, "release"),
        (DIALECT, text.index("kv_port: 1") + 1, "kv_port"),
    ]


def test_one_release_leaves_out_what_is_of_every_one(data: Data) -> None:
    data.change("env/defaults.yaml", NAME, "v2.0.0")
    files = {one.file for one in data.run(NAME)}
    assert files == {DIALECT, PINS, FLAGS, VARIABLES, KEYS, "rules"}


def test_a_release_that_is_not_known(data: Data) -> None:
    with pytest.raises(UserError) as caught:
        data.run("v1.0.1")
    assert caught.value.exit_code == EX_USAGE
    assert "did you mean v1.0.0?" in str(caught.value)


def test_keys_unlike_the_sources(data: Data) -> None:
    document = json.loads((data.root / KEYS).read_text())
    document["additional_config"]["invented"] = {"source": "vllm_ascend/ascend_config.py:1"}
    first, second = list(document["connectors"])[:2]
    document["connectors"][first]["keys"].append("invented")
    del document["connectors"][second]
    (data.root / KEYS).write_text(json.dumps(document))
    assert data.failing() == {
        f"{KEYS}: additional_config.invented": CONTRADICTED,
        f"{KEYS}: connectors.{first}": CONTRADICTED,
        f"{KEYS}: connectors.{second}": CONTRADICTED,
    }


def test_a_file_that_is_missing(data: Data) -> None:
    (data.root / VARIABLES).unlink()
    assert f"{VARIABLES}: variables" in data.failing()


def test_a_release_without_a_dialect(data: Data) -> None:
    (data.root / DIALECT).unlink()
    assert f"{DIALECT}: release" in data.failing()


def test_a_file_that_is_no_yaml_is_an_error_in_words(data: Data) -> None:
    (data.root / DIALECT).write_text("vllm: [")
    with pytest.raises(UserError, match="is not YAML") as caught:
        data.run()
    assert caught.value.exit_code == EX_DATAERR


def test_a_vllm_alone(data: Data) -> None:
    document = yaml.safe_load((data.root / DIALECT).read_text())
    for key in ("mooncake", "kv_blocks_checked", "features", "connectors"):
        document.pop(key)
    path = data.root / "env/releases/cpu-1.0.0.yaml"
    path.write_text(dialect_file.render(document))
    shutil.copy(data.root / VARIABLES, data.root / "env/variables/cpu-1.0.0.json")
    found = [one for one in data.run() if one.file == "env/releases/cpu-1.0.0.yaml"]
    verdicts = {one.key: one.verdict for one in found}
    assert verdicts["vllm"] == verdicts["kv_port"] == READ
    assert verdicts["prefill_over_nodes.works"] == UNCHECKED
    assert verdicts["features.nnodes.arg"] == CONTRADICTED  # it is missing


# ---- how sources are written ---------------------------------------------------------------------


def library(**texts: str) -> Library:
    files = {"vllm/a.py": "one\ntwo_words\n", "docs/source/Guide.md": "", **texts}
    tree = Tree("vllm-ascend", "1.0.0", files)
    older = Tree("vllm-ascend", "0.9.0", {"vllm/a.py": "one\n"})
    return Library({"vllm-ascend": {"0.9.0": older, "1.0.0": tree}})


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("vllm-ascend v1.0.0: vllm/a.py", CONFIRMED),
        ("vllm-ascend v1.0.0:vllm/a.py:2", CONFIRMED),
        ("vllm-ascend v1.0.0: vllm/a.py:1-2", CONFIRMED),
        ("vllm-ascend v1.0.0: vllm/a.py:1,2", CONFIRMED),
        ("vllm-ascend v1.0.0: vllm/a.py:1, 2, docs/source/Guide.md", CONFIRMED),
        ("vllm-ascend v1.0.0: vllm/a.py, two_words", CONFIRMED),
        ("vllm-ascend v1.0.0: vllm", UNCHECKED),
        ("vllm-ascend v1.0.0: docs/source", CONFIRMED),
        ("vllm-ascend: vllm/a.py", CONFIRMED),
        ("vllm-ascend v0.9.0-v1.0.0: vllm/a.py", CONFIRMED),
        ("vllm-ascend v1.0.0: vllm/a.py:2 (of some use)", CONFIRMED),
        ("vllm-ascend docs Guide", CONFIRMED),
        ("vllm-ascend documentation, Guide, Some Chapter", CONFIRMED),
        ("slime: x.sh; vllm-ascend v1.0.0: vllm/a.py", CONFIRMED),
        ("vllm-ascend v1.0.0: vllm/b.py", CONTRADICTED),
        ("vllm-ascend v1.0.0: vllm/a.py:3", CONTRADICTED),
        ("vllm-ascend v1.0.0: vllm/a.py:0", CONTRADICTED),
        ("vllm-ascend v1.0.0: vllm/a.py:2-1", CONTRADICTED),
        ("vllm-ascend v1.0.0: vllm/a.py, three_words", CONTRADICTED),
        ("vllm-ascend: vllm/a.py:2", CONTRADICTED),  # the older one has a line
        ("vllm-ascend v0.9.0-v1.0.0: docs/source/Guide.md", CONTRADICTED),
        ("vllm-ascend v1.0.0: vllm/a.py; vllm-ascend v1.0.0: vllm/b.py", CONTRADICTED),
        ("docs/unheard.md", CONTRADICTED),
        ("docs/run.md", CONFIRMED),
        ("vllm-ascend v2.0.0: vllm/a.py", UNCHECKED),
        ("vllm-ascend#8344, #8345, #8442", UNCHECKED),
        ("vllm-ascend PR #6455, #8938 (Mooncake v0.3.7)", UNCHECKED),
        ("vllm#35547, vllm-ascend#3977", UNCHECKED),
        ("vllm PR 28006", UNCHECKED),
        ("Ray docs: configuring ports", UNCHECKED),
    ],
)
def test_sources(source: str, verdict: str) -> None:
    outcome = citations.check(source, library())
    assert outcome.verdict == verdict, outcome
    assert outcome.source if verdict == CONFIRMED else outcome.why


@pytest.mark.parametrize(
    ("words", "verdict"),
    [((), CONFIRMED), (("--two-words",), CONFIRMED), (("--three", "--four"), CONTRADICTED)],
)
def test_a_line_has_one_of_the_names(words: tuple[str, ...], verdict: str) -> None:
    assert citations.check("vllm-ascend v1.0.0: vllm/a.py:2", library(), words).verdict == verdict


PATHS = st.from_regex(r"[a-z]{1,8}(/[a-z_]{1,8}){1,3}\.(py|md|yaml)", fullmatch=True)
SPANS = st.tuples(st.integers(1, 999), st.integers(0, 99)).map(lambda x: (x[0], sum(x)))
PLACES = st.builds(
    Place,
    st.sampled_from(["vllm", "vllm-ascend"]),
    st.sampled_from(["", "0.18.0", "0.13.0rc1"]),
    st.just(""),
    PATHS,
    st.lists(SPANS, max_size=3).map(tuple),
    st.lists(st.from_regex(r"[a-z_]{3,9}", fullmatch=True), max_size=2).map(tuple),
)


@given(PLACES, st.booleans())
def test_a_source_that_is_written_is_read(place: Place, apart: bool) -> None:
    spans = [f"{a}-{b}" if a != b else f"{a}" for a, b in place.lines]
    lines = f":{(', ' if apart else ',').join(spans)}" if spans else ""
    version = f" v{place.first}" if place.first else ""
    source = f"{place.package}{version}: {', '.join((place.path + lines, *place.symbols))}"
    assert list(citations.places(source)) == [place]


@given(st.text(max_size=80))
def test_no_source_is_too_strange(source: str) -> None:
    assert citations.check(f"vllm-ascend v1.0.0: {source}", library()).verdict in VERDICTS
    citations.check(source, library())


# ---- what is shown -------------------------------------------------------------------------------

SOME = [
    AuditResult("b", "confirmed", 1, CONFIRMED, "x:1"),
    AuditResult("b", "wrong", 1, CONTRADICTED, "x:2", "is 2 there"),
    AuditResult("a", "none", None, UNSOURCED, why="say where it comes from: source"),
    *(AuditResult("c", f"key{n}", 1, UNCHECKED, why="nobody says") for n in range(9)),
]


def test_as_text_what_is_wrong_comes_first() -> None:
    assert audit_report.text(SOME).splitlines() == [
        "1 contradicted, 1 without a source, 9 not checkable, 0 as read, 1 confirmed",
        "",
        "contradicted (1)",
        "  b: wrong is 1",
        "      x:2: is 2 there",
        "",
        "without a source (1)",
        "  a: none",
        "      say where it comes from: source",
        "",
        "not checkable (9)",
        "  nobody says (9)",
        f"      {', '.join(f'c: key{n}' for n in range(6))}, and 3 more",
        "",
        "confirmed (1)",
        "  b: 1",
    ]
    assert "  b: confirmed: x:1" in audit_report.text(SOME, every=True).splitlines()


def test_as_data() -> None:
    day = AuditResult("d", "published", {"torch": datetime.date(2026, 5, 1)}, UNCHECKED, why="x")
    told = json.loads(json.dumps(audit_report.data([*SOME, day])))
    assert told["statements"][-2]["value"] == {"torch": "2026-05-01"}
    assert told["counts"] == dict(zip(VERDICTS, (1, 1, 10, 0, 1), strict=True))
    assert told["statements"][0] == {
        "file": "b",
        "key": "wrong",
        "value": 1,
        "verdict": CONTRADICTED,
        "source": "x:2",
        "why": "is 2 there",
        "line": 0,
    }


# ---- lines ---------------------------------------------------------------------------------------

LINES = """\
a: 1
by:
  v0.1.0: {x: 1}
list:
  - name: one.two
    key: 1
  - [p, q]
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("a", 1),
        ("by.v0.1.0.x", 3),
        ("by.v0.2.0", 2),
        ("list.one.two.key", 6),
        ("list.1", 7),
        ("unheard", 0),
        ("", 0),
    ],
)
def test_the_line_of_a_key(tmp_path: Path, key: str, line: int) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(LINES)
    assert line_of(path, key) == line
    assert line_of(tmp_path / "none.yaml", key) == 0
