"""Flags and variables against the catalogue of a release, and the catalogue's own files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from entrypoints.findings import DATA, Finding
from entrypoints.inputs import catalogue, data, settings, stack
from entrypoints.inputs.arguments import Flag, parse
from entrypoints.inputs.catalogue import Catalogue
from tests import ROOT

RELEASES = data.names("releases")


def of(name: str) -> Catalogue:
    release = stack.release(name, [])
    assert release is not None
    return catalogue.load(release)


V11, V13 = of("v0.11.0"), of("v0.13.0rc1")


def flags_of(words: str, known: Catalogue) -> list[Flag]:
    findings: list[Finding] = []
    found = parse(words.split(" "), known.aliases, findings)
    assert not findings
    return found


def check(words: str, known: Catalogue = V13) -> list[Finding]:
    findings: list[Finding] = []
    catalogue.check_flags(flags_of(words, known), "arguments", known, findings)
    return findings


# ---- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "--max-num-seqs 32",
        "--max_num_seqs=32",
        "-tp 8 -dp 2 -pp 1",
        "--no-enable-prefix-caching",
        "--no_enable_prefix_caching",
        "--hf-overrides.rope_parameters.factor 4",
        "-cc.mode 3",
        "--compilation-config.pass_config.enable_fusion true",
        "-O3",
        "-O 3",
        "-O=3",
        "-n2 -r0",
        "-qascend",
        "--quantization ascend",
        "--tensor-parallel 8",
        "--max-model-len 32k",
        "--max-model-len 25.6k",
        "--max-model-len 1M",
        "--served-model-name a b c",
        "--seed -1",
        "--kv-cache-memory-bytes None",
        "--gpu-memory-utilization .9",
        "--uvicorn-log-level debug",
        "--block-size 0128",
        "--additional-config text",
        '--additional-config {"a":1}',
        "--middleware a --middleware b",
        "--headless",
    ],
)
def test_accepted(words: str) -> None:
    assert check(words) == []


REFUSED = [
    # words, code, in the line
    ("--rope-scaling {}", "unknown-flag", "vLLM 0.13.0 (release v0.13.0rc1)"),
    ("--rope-scaling {}", "unknown-flag", "known to vLLM 0.11.0;"),
    ("--max-num-seq-s 1", "unknown-flag", "did you mean --max-num-seqs"),
    ("--enable-prefix-cachin-g", "unknown-flag", "did you mean --enable-prefix-caching"),
    ("--no-max-num-seqs", "unknown-flag", "did you mean --max-num-seqs"),
    ("--no-headless", "unknown-flag", "--headless"),
    ("--max 1", "unknown-flag", "beginning of several; give one of"),
    ("--he", "unknown-flag", "--headless"),
    ("-tp8", "unknown-flag", "does not know"),
    ("-O", "unknown-flag", "does not know"),
    ("-O.mode 3", "unknown-flag", "does not know"),
    ("--foo.bar 1", "unknown-flag", "does not know"),
    ("--uvicorn-log-level loud", "bad-choice", "give one of critical, debug"),
    ("--block-size 3", "bad-choice", "give one of 1, 8"),
    ("--all2all-backend None", "bad-choice", "allgather_reducescatter"),
    ("--headless true", "bad-argument", "is a switch and takes no value"),
    ("--enable-prefix-caching=true", "bad-argument", "or --no-enable-prefix-caching alone"),
    ("--no-enable-prefix-caching x", "bad-argument", "is a switch"),
    ("--headless.x 1", "bad-argument", "is a switch"),
    ("--host", "bad-argument", "has no value"),
    ("--served-model-name", "bad-argument", "has no value"),
    ("--host a b", "bad-argument", "takes one value, not 2"),
    ("--port eighty", "bad-argument", "'eighty' would be refused; give a whole number"),
    ("--port 80.5", "bad-argument", "'80.5'"),
    ("--seed ", "bad-argument", "''"),
    ("--port.x 1", "bad-argument", "has no keys inside"),
    ("--gpu-memory-utilization most", "bad-argument", "give a number"),
    ("--max-model-len 1.5K", "bad-argument", "one such as 32k"),
    ("--max-model-len auto", "bad-argument", "'auto'"),
    ("--kv-transfer-config {kv}", "bad-argument", "give a JSON object"),
    ("--hf-overrides {x}", "bad-argument", "give a JSON object or text"),
    ("--speculative-config x", "bad-argument", "give JSON"),
]


@pytest.mark.parametrize(("words", "code", "text"), REFUSED)
def test_refused(words: str, code: str, text: str) -> None:
    (finding,) = check(words)
    assert finding.code == code
    assert finding.where == f"arguments: {flags_of(words, V13)[0].name}"
    assert text in finding.line()


def test_each_release_has_its_own_flags() -> None:
    assert check('--rope-scaling {"factor":4}', V11) == []
    assert check("--rope_scaling.factor 4", V11) == []
    assert [p.code for p in check("--nnodes 2", V11)] == ["unknown-flag"]
    assert [p.code for p in check("--max-model-len auto", of("v0.15.0rc1"))] == []
    assert [p.code for p in check("--disable-log-requests", of("v0.18.0"))] == ["unknown-flag"]


def test_every_problem_at_once() -> None:
    found = check("--rope-scaling {} --headless 1 --port x --max-num-seqs 4")
    assert [p.code for p in found] == ["unknown-flag", "bad-argument", "bad-argument"]


def test_a_recipes_problem_says_where_and_has_its_code() -> None:
    findings: list[Finding] = []
    catalogue.check_flags([Flag("--foo")], "my: args", V13, findings, DATA)
    catalogue.check_flags([Flag("--foo")], "", V13, findings)
    assert [(p.where, p.exit_code) for p in findings] == [("my: args: --foo", 65), ("--foo", 64)]


def test_no_json_value_is_printed() -> None:
    """It may hold what nobody should read: a header, a token."""
    (finding,) = check("--speculative-config {secret")
    assert "secret" not in finding.line()


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("--tensor-parallel", "--tensor-parallel-size"),
        ("--tensor_parallel", "--tensor-parallel-size"),
        ("--no-enable-prefix", "--no-enable-prefix-caching"),
        ("-tp", "--tensor-parallel-size"),
        ("-cc.mode", "--compilation-config.mode"),
        ("--compilation.a_b", "--compilation-config.a_b"),
        ("--data-parallel-size", "--data-parallel-size"),  # the beginning of …-size-local too
        ("--data", "--data"),
        ("--nothing", "--nothing"),
        ("--hel", "--help"),
    ],
)
def test_expand(name: str, full: str) -> None:
    assert catalogue.expand(name, V13) == full
    assert catalogue.expand(full, V13) == full


@pytest.mark.parametrize(
    ("words", "known", "flag"),
    [
        ("-O3", V13, Flag("--optimization-level", ("3",))),
        ("-O 2", V13, Flag("--optimization-level", ("2",))),
        ("-O3", V11, Flag("--compilation-config.level", ("3",))),
        ("-O 2", V11, Flag("--compilation-config.level", ("2",))),
        ("-O {}", V11, Flag("--compilation-config", ("{}",))),
        ("-O.level 3", V11, Flag("--compilation-config.level", ("3",))),
        ("-n2", V13, Flag("--nnodes", ("2",))),
        ("-q ascend", V13, Flag("--quantization", ("ascend",))),
        ("--tensor-parallel=4", V13, Flag("--tensor-parallel-size", ("4",))),
    ],
)
def test_resolve(words: str, known: Any, flag: Any) -> None:
    (given,) = flags_of(words, known)
    assert catalogue.resolve(given, known) == flag
    assert catalogue.resolve(flag, known) == flag


# ---- variables -----------------------------------------------------------------------------------


def unknown(variables: Mapping[str, str | None], known: Catalogue = V13) -> list[str]:
    findings: list[Finding] = []
    catalogue.check_variables(variables, known, findings)
    assert {p.code for p in findings} <= {"unknown-variable"}
    return [p.line() for p in findings]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("VLLM-ASCEND_ENABLE_NZ", "write it VLLM_ASCEND_ENABLE_NZ"),
        ("VLLM-ASCEND-ENABLE-NZ", "write it VLLM_ASCEND_ENABLE_NZ"),
        ("VLLM-NOTHING", "knows it"),
        ("VLLM_ASCEND_ENABLE_FLASHCOM1", "did you mean VLLM_ASCEND_ENABLE_FLASHCOMM1"),
        ("VLLM_ASCEND_MLA_PA", "known to v0.11.0;"),
        ("VLLM_ASCEND_RELEAS", "did you mean VLLM_ASCEND_RELEASE"),
        ("VLLM_SERVICE_HOST", "knows it"),  # not in a pod
    ],
)
def test_unknown_variable(name: str, text: str) -> None:
    (line,) = unknown({"PATH": "/bin", name: "1", "HCCL-X": "", "VLLM_LOGGING_LEVEL": "INFO"})
    assert line.startswith(f"{name}: ")
    assert text in line


def test_variables_of_kubernetes_are_left_alone() -> None:
    of_a_service = dict.fromkeys(
        [
            "VLLM_SERVICE_HOST",
            "VLLM_ROUTER_SERVICE_PORT",
            "VLLM_SERVICE_PORT_HTTP",
            "VLLM_ROUTER_PORT",
            "VLLM_PORT_8000_TCP",
            "VLLM_PORT_8000_TCP_ADDR",
        ],
        "1",
    )
    assert len(unknown(of_a_service)) == len(of_a_service)
    assert unknown({**of_a_service, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == []
    assert unknown({"VLLM_ROUTER_PORT": "tcp://10.0.0.1:80"}) == []
    assert len(unknown({"VLLM_NO_SUCH": "tcp://x", "KUBERNETES_SERVICE_HOST": "x"})) == 1


def test_our_own_variables_and_those_documents_set_are_left_alone() -> None:
    own = [name for name in settings.NAMES if name.startswith("VLLM")]
    assert "VLLM_ASCEND_RELEASE" in own
    assert "VLLM_USE_V1" in V13.unread
    assert unknown(dict.fromkeys([*own, *V13.unread, *V13.variables])) == []


def test_unread_variables_are_advice() -> None:
    (advice,) = catalogue.unread(["VLLM_USE_V1", "VLLM_PORT", "PATH"], V13)
    assert advice.code == "unread-variable"
    assert "VLLM_USE_V1 has no effect in v0.13.0rc1" in advice.line()
    assert "VLLM_USE_V1" in V11.variables


def test_a_recipes_variable_says_where() -> None:
    findings: list[Finding] = []
    catalogue.check_variables({"VLLM_X": None}, V13, findings, "my: env", DATA)
    assert [(p.where, p.exit_code) for p in findings] == [("my: env.VLLM_X", 65)]


# ---- the data ------------------------------------------------------------------------------------

TYPE = re.compile(
    r"(optional:)?(flag|bool|str|int|float|json(:dataclass|\|str)?|human_readable_int(_or_auto)?)"
)


@pytest.mark.parametrize("name", RELEASES)
def test_the_data_of_a_release_are_whole(name: str) -> None:
    known = of(name)
    assert len(known.options) > 180
    assert {"--tensor-parallel-size", "--headless", "--kv-transfer-config"} <= set(known.options)
    assert known.aliases["-tp"] == "--tensor-parallel-size"
    assert known.negatives["--no-enable-prefix-caching"] == "--enable-prefix-caching"
    assert known.repeatable == {"--middleware"}
    assert {"VLLM_HOST_IP", "VLLM_USE_MODELSCOPE"} <= known.variables
    assert ("VLLM_ASCEND_ENABLE_NZ" in known.variables) != name.startswith("cpu-")
    assert not known.unread & known.variables
    names = [*known.options, *known.aliases, *known.negatives]
    assert len(names) == len(set(names))
    for option, entry in known.options.items():
        assert TYPE.fullmatch(entry["type"]), option
        assert entry.get("nargs") in (None, "+", "?"), option


@pytest.mark.parametrize("name", RELEASES)
def test_every_default_is_accepted(name: str) -> None:
    known = of(name)
    for option, entry in known.options.items():
        default = entry.get("default")
        if default in (None, "") or entry["type"] in ("flag", "bool"):
            continue  # argparse does not hold an empty default to the choices
        values = default if entry.get("nargs") == "+" else [default]
        texts = tuple(v if isinstance(v, str) else json.dumps(v) for v in values)
        findings: list[Finding] = []
        catalogue.check_flags([Flag(option, texts)], "", known, findings)
        assert findings == []


def test_a_good_flag_needs_neither_difflib_nor_typing() -> None:
    code = """
import sys
from collections import namedtuple
from entrypoints.inputs import catalogue
from entrypoints.inputs.arguments import Flag
release = namedtuple("R", "facts vllm flags_gone variables_gone")("v0.13.0", "0.13.0", {}, {})
known, findings = catalogue.load(release), []
catalogue.check_flags([Flag("--tensor-parallel", ("8",))], "", known, findings)
catalogue.check_variables({"VLLM_PORT": "1"}, known, findings)
assert not findings
print(sorted({"difflib", "pathlib", "argparse", "typing"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"[]\n", b"")
