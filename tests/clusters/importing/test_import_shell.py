"""Words, variables and odd lines of shell scripts; what a real shell makes of them is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.importing import scripts, shell
from clusters.importing.scripts import Script

SAFE = "abcXYZ019_./:=,-"
RECORD = """#!{python}
import json, os, sys
with open({out!r}, "a") as file:
    file.write(json.dumps([sys.argv[2:], dict(os.environ)]) + "\\n")
"""


def read(text: str, **given: str) -> list[Script]:
    return list(scripts.read(text, "run.sh", given=given).scripts)


def notes(text: str) -> list[tuple[int, str]]:
    return [(note.line, note.text) for note in scripts.read(text, "run.sh").doubts]


# ---- against /bin/sh -----------------------------------------------------------------------------


def double(text: str) -> str:
    return '"' + "".join(f"\\{c}" if c in '$`"\\' else c for c in text) + '"'


def single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def escaped(text: str) -> str:
    return "".join(f"'{c}'" if c == "\n" else f"\\{c}" for c in text)


Piece = tuple[Callable[[str], str], str]  # how to quote, and the text

SURROGATES: tuple[Literal["Cs"]] = ("Cs",)
CHARACTERS = st.characters(min_codepoint=9, max_codepoint=0x2FF, exclude_categories=SURROGATES)
PIECES = st.one_of(
    st.tuples(st.sampled_from([single, double, escaped]), st.text(CHARACTERS, max_size=6)),
    st.tuples(st.just(str), st.text(SAFE, min_size=1, max_size=6)),
)
WORDS = st.lists(PIECES, min_size=1, max_size=4)
GAPS = st.sampled_from([" ", "  \t", " \\\n  ", " \\\n\\\n "])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=5))
def test_quoting_is_that_of_the_shell(
    words: list[tuple[list[Piece], str]],
) -> None:
    text = "printf '%s\\0'"
    for pieces, gap in words:
        quoted = "".join(quote(piece) for quote, piece in pieces)
        text += gap + (quoted or "''")
    text += " ."  # an escaped blank at the very end is taken for a continuation that was mistyped
    run = subprocess.run(["/bin/sh", "-c", text], capture_output=True, check=True)
    ((command,), told) = shell.commands(text)
    assert "\0".join([word.plain for word in command.words[2:]] + [""]).encode() == run.stdout
    assert told == []


SNIPPETS = {
    "exports": 'export A=1 B=\'x y\' C="q\\"r" D=a\\ b\nvllm serve m --a 1',
    "not exported": "A=1\nB=$A\nexport C=$B-$A D\nD=late\nvllm serve m $A",
    "prefix": "A=0\nexport A\nA=1 B=2 vllm serve m\nvllm serve n",
    "env": "env A=1 B='2 3' vllm serve m",
    "nohup": "nohup vllm serve m --x > log.txt 2>&1 &\nwait",
    "pipe": "vllm serve m --x 2>&1 | cat > /dev/null",
    "and": "true && export A=1 && vllm serve m || exit 3",
    "defaults": 'X=1\nexport A=${X:-2} B=${Y:-two words} C=${Y-} D="${Y:-a b}"\nvllm serve m',
    "json": """vllm serve m --j '{"a": "$HOME",\n  "b": [1]}' --k "{\\"a\\": 1}" --l={'"'x'"':1}""",
    "spliced": """P=/x\nvllm serve m --j '{"p": "'"$P"'"}'""",
    "split": "ARGS='--a 1 --b'\nvllm serve m $ARGS \"$ARGS\"",
    "continued": "vllm serve m \\\n  --a 1 \\\n\\\n  --b 2 # end\nexport LATE=1",
    "comment": "# vllm serve no\nexport A=1 # B=2\nvllm serve m --c '#' --d a#b",
    "unset": "export A=1 B=2\nunset A\nvllm serve m",
    "set -a": "set -a\nA=1\nset -e\nvllm serve m",
    "again": "export P=/a:$P\nexport P=/b:$P\nvllm serve m",
    "here": "cat > /dev/null <<EOF\nvllm serve no\nEOF\nvllm serve m",
    "subshell": "export A=1\n(export B=2; vllm serve m)",
    "sh -c": "export A=1\nsh -c 'export B=2; vllm serve m --x \"a b\"'",
    "a line without end": "vllm serve m --a 1 \\\n",
}


@pytest.mark.parametrize("text", SNIPPETS.values(), ids=SNIPPETS)
def test_a_shell_starts_the_same(text: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "vllm").write_text(RECORD.format(python=sys.executable, out=str(out)))
    (tmp_path / "vllm").chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    subprocess.run(["/bin/sh", "-c", text], cwd=tmp_path, env=environ, check=True)
    started = [json.loads(line) for line in out.read_text().splitlines()]
    made = read(text)
    assert [list(one.words) for one in made] == [words for words, _ in started]
    for one, (_, env) in zip(made, started, strict=True):
        own = {n: v for n, v in env.items() if n not in (*environ, "PWD", "OLDPWD", "_", "SHLVL")}
        known = {name: value.replace("$P", "") for name, value in one.env.items()}
        assert known == {**own, **{n: "" for n in known if n not in own and known[n] == ""}}


# ---- what only a reader has ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("vllm serve m \\\n--a 1\n--b 2\n", (2, "does not end with a backslash")),
        ("vllm serve m --a 1 \\\n# why\n--b 2", (2, "a comment ends the command")),
        ("vllm serve m --a 1 \\\n\n  --b 2", (2, "an empty line ends the command")),
        ("vllm serve m --a 1 \\  \n--b 2", (1, "something follows the backslash")),
        ("vllm serve m --a 1\\\n--b 2", (1, "no blank before or after the backslash")),
        ("vllm serve m --a 1 --b 2 '", (1, "never closed")),
    ],
)
def test_odd_lines_are_read_as_they_were_meant(text: str, told: tuple[int, str]) -> None:
    (one,) = read(text)
    assert [word for word in one.words if word] == ["m", "--a", "1", "--b", "2"]
    assert any(line == told[0] and told[1] in note for line, note in notes(text))


def test_json_without_quotes_is_read_as_it_was_meant() -> None:
    (one,) = read('vllm serve m --j {"a": {"b": 1}} --k 2')
    assert one.words == ("m", "--j", '{"a": {"b": 1}}', "--k", "2")


def test_what_is_not_known_stays_as_it_is_written() -> None:
    (one,) = read('export A=/x:$A B=$(nproc)\nvllm serve "$M" --a ${N} --p $2 --q <model name>')
    assert one.env == {"A": "/x:$A", "B": "$(nproc)"}
    assert one.words == ("$M", "--a", "${N}", "--p", "$2", "--q", "<model name>")
    assert one.unknown == ("M", "N", "2")


def test_open_values_keep_their_names_and_given_ones_replace_them() -> None:
    text = 'nic="xxxx"\nlocal_ip=""\nexport NIC_=$nic IP=${local_ip}\nvllm serve m --host $local_ip'
    assert dict(read(text)[0].env) == {"NIC_": "$nic", "IP": "$local_ip"}
    (one,) = read(text, nic="eth1", local_ip="10.0.0.1")
    assert dict(one.env) == {"NIC_": "eth1", "IP": "10.0.0.1"}
    assert one.words == ("m", "--host", "10.0.0.1")


def test_literal_dollars_are_known() -> None:
    (one,) = read("export A='$HOME' B=$HOME C=\"\\$X\"\nvllm serve m")
    assert one.literal == {"A", "C"}


def test_arrays_and_functions() -> None:
    text = (
        'ARGS=(--a "b c"\n  --d)\nARGS+=(--e)\nrun() {\n  vllm serve m "${ARGS[@]}" ${ARGS[*]}\n}'
    )
    (one,) = read(text)
    whole = ("--a", "b c", "--d", "--e")
    assert one.words == ("m", *whole, *whole)
    assert (4, "the function body is not evaluated; its body is read once") in notes(text)


def test_blocks_without_a_server_are_skipped_and_listed() -> None:
    text = 'if [ -z "$A" ]; then\n  export A=1\nfi\ncd /x\npip install y\nvllm serve m\n'
    made = scripts.read(text, "run.sh")
    assert made.scripts[0].env == {}
    assert [(note.line, note.text) for note in made.skipped] == [
        (1, "if …"),
        (4, "cd /x"),
        (5, "pip install y"),
    ]


@pytest.mark.parametrize(
    "start",
    [
        "python3 -m vllm.entrypoints.openai.api_server --model m --a 1",
        "python -u -m vllm.entrypoints.cli.main serve --model m --a 1",
        "/opt/bin/vllm serve --model m --a 1",
        "numactl -N 0 -m 0 vllm serve --model m --a 1",
    ],
)
def test_other_ways_to_start_a_server(start: str) -> None:
    (one,) = read(start)
    assert one.words == ("--model", "m", "--a", "1")


def test_docker_run() -> None:
    text = (
        "export IMAGE=quay.io/ascend/vllm-ascend:v0.13.0-a3\n"
        "docker run --rm --shm-size 16g --device /dev/davinci0 --device=/dev/davinci15 \\\n"
        "  -v /a:/a -e A='x y' --env B=2 -e HOST_ONLY $IMAGE vllm serve m --a 1"
    )
    (one,) = read(text)
    assert dict(one.env) == {"IMAGE": "quay.io/ascend/vllm-ascend:v0.13.0-a3", "A": "x y", "B": "2"}
    assert one.words == ("m", "--a", "1")
    assert one.image.endswith(":v0.13.0-a3")
    assert one.devices == (0, 15)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab$'\"\\\n \t#&|;<>(){}=`-vllm serve", max_size=60))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    scripts.read(text + "\nvllm serve m", "run.sh")
