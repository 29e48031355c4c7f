"""Every parser, on what the tools say and on any text."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.preflight import parse

FIXTURES = Path(__file__).parent / "fixtures"

PARSERS = (
    parse.smi_chips,
    parse.smi_processes,
    parse.smi_board,
    parse.pairs,
    parse.device_addresses,
    lambda text: parse.hccn_value(text, "link status"),
    parse.tls_switch,
    parse.version,
)
WORDS = (
    "|",
    "0",
    "12",
    "²",
    "Ascend910",
    "OK",
    ":",
    "=",
    "address_",
    "Process id",
    ".",
    "rc",
    "\n",
)


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text()


@pytest.mark.parametrize("parser", PARSERS)
@given(
    text=st.text()
    | st.lists(st.sampled_from(WORDS)).map(" ".join)
    | st.lists(st.sampled_from(WORDS)).map("".join)
)
def test_any_text_is_read(parser: Callable[[str], object], text: str) -> None:
    parser(text)


def test_chips_of_a2() -> None:
    chips = parse.smi_chips(fixture("npu-smi-info.a2.txt"))
    assert [chip.device for chip in chips] == list(range(8))
    assert {(chip.chip, chip.name, chip.health) for chip in chips} == {(0, "910B3", "OK")}


def test_chips_of_a3() -> None:
    chips = parse.smi_chips(fixture("npu-smi-info.a3.txt"))
    assert [chip.device for chip in chips] == list(range(16))
    assert [(chip.npu, chip.chip) for chip in chips] == [(n, c) for n in range(8) for c in (0, 1)]
    assert {chip.name for chip in chips} == {"Ascend910"}


def test_processes() -> None:
    assert parse.smi_processes(fixture("npu-smi-info.a2.txt")) == [(2, 0, 4711, "python3")]
    assert parse.smi_processes(fixture("npu-smi-info.a3.txt")) == [(2, 1, 4711, "python3")]


def test_board_gives_the_soc_as_vllm_ascend_names_it() -> None:
    assert parse.smi_board(fixture("npu-smi-board.a2.txt")) == "ascend910b3"
    assert parse.smi_board(fixture("npu-smi-board.a3.txt")) == "ascend910_9392"
    assert parse.smi_board(fixture("npu-smi-refused.txt")) is None


def test_a_tool_that_refuses_shows_no_chips() -> None:
    assert parse.smi_chips(fixture("npu-smi-refused.txt")) == []


def test_files_of_the_driver() -> None:
    assert parse.pairs(fixture("version.info"))["Version"] == "25.3.rc1"
    assert parse.pairs("# a=b\n") == {}
    text = "address_0=192.0.2.10\nnetmask_0=255.255.255.0\naddress_1=\naddress_x=1\naddress_11=::1"
    assert parse.device_addresses(text) == {0: "192.0.2.10", 11: "::1"}


def test_hccn_tool() -> None:
    assert parse.hccn_value(fixture("hccn-link.txt"), "link status") == "UP"
    assert parse.hccn_value(fixture("hccn-net_health.txt"), "net health status") == "Success"
    assert parse.hccn_value(fixture("hccn-ip.txt"), "ipaddr") == "192.0.2.10"
    assert parse.hccn_value(fixture("hccn-ip-none.txt"), "ipaddr") is None
    assert parse.tls_switch(fixture("hccn-tls.txt")) == "0"


def test_versions_in_order() -> None:
    order = ["24.1.rc3", "24.1.rc3.7", "24.1.0", "24.1.0.1", "25.3.RC1", "25.3.0", "25.5.rc1"]
    order += ["25.5", "25.5.2", "26.0.rc1"]
    versions = [parse.version(text) for text in order]
    known = [version for version in versions if version]
    assert known == versions
    assert all(a < b for a, b in pairwise(known))
    assert parse.version("25.5") == parse.version("25.5.0.0")
    assert parse.version("7.0.t9.0.B798") is None
    assert parse.version("") is None
