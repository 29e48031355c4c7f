"""The benchmark of the proxy: what wrk printed, medians and ratios, the tables, the probe."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.proxy import __main__ as benchmark
from benchmarks.proxy import cases, probe, proxy_report, wrk
from benchmarks.proxy.cases import EVENTS, EXAMPLE, NONE, ROUTER, WAYS, Case, Load, Sample, Way
from benchmarks.proxy.testbed import Processors
from common.errors import UserError

CASE = Case(stream=False, size=65536, connections=16)
SAID = """\
Running 2s test @ http://127.0.0.1:1/v1/completions
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.00ms    1.00ms   1.00ms   99.00%
Requests/sec:   1000.00

{"requests":2000,"seconds":2.0,"p50":0.001,"p99":0.002,"errors":{"wrong":0,"read":3}}
"""
COUNTS: dict[str, Any] = {
    "prefill": 20,
    "decode": 17,
    "again": {"prompt": 0, "id": 0, "other id": 0},
    "refused": {},
    "kept": 3,
}


def sample(way: str, rate: float, case: Case = CASE, **changed: Any) -> Sample:
    """A second of load; a whole processor, and half of another for the client and the servers."""
    load = Load(int(rate), 1.0, 1 / rate, 2 / rate, {"wrong": 0, "timeout": 0})
    cpu = 0.0 if way == NONE else 1.0
    made = Sample(way, case, load, cpu, 0.25, 0.25, int(rate), 0.0, {}, {})
    return replace(made, **changed)


def table(case: Case = CASE, router: float = 1000.0) -> proxy_report.Table:
    rates = {NONE: 10_000.0, ROUTER: router, EXAMPLE: 200.0}
    return proxy_report.figures([sample(way, rate, case) for way, rate in rates.items()], 1, 1)


def test_the_load_is_the_last_line() -> None:
    assert wrk.parse(SAID) == Load(2000, 2.0, 0.001, 0.002, {"wrong": 0, "read": 3})


@pytest.mark.parametrize("printed", ["", "unable to connect", '{"requests":1}', "[]"])
def test_anything_else_is_an_error_that_quotes_it(printed: str) -> None:
    with pytest.raises(UserError, match=r"wrk: printed ") as error:
        wrk.parse(printed)
    assert error.value.exit_code == 70
    assert printed in str(error.value)


def test_command() -> None:
    argv = wrk.command("wrk", "http://h:1", replace(CASE, stream=True), 2, "run", two=True)
    assert argv[:5] == ["wrk", "-t1", "-c16", "-d2s", "--timeout=30s"]
    assert argv[7:] == ["http://h:1/v1/completions", "--", "two", "stream", "65536", "run"]
    assert wrk.command("wrk", "u", CASE, 2, "run", two=False)[-4:-1] == ["one", "whole", "65536"]


def test_wrk_is_told_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="apt-get install wrk") as error:
        wrk.find()
    assert error.value.exit_code == 69


def test_every_way_comes_first_in_turn() -> None:
    firsts = [cases.turn(WAYS, number)[0] for number in range(len(WAYS))]
    assert firsts == list(WAYS)
    assert all(sorted(map(str, cases.turn(WAYS, n))) == sorted(map(str, WAYS)) for n in range(5))


def test_titles() -> None:
    every = cases.cases([False, True], [100, 65536], [1])
    assert [one.title for one in every] == [
        "whole, 100 B, 1",
        "whole, 64 KiB, 1",
        "stream, 100 B, 1",
        "stream, 64 KiB, 1",
    ]


def test_a_client_that_stops_leaves_prefills_behind() -> None:
    assert not any(cases.wrong_of(COUNTS, connections=3).values())
    assert cases.wrong_of(COUNTS, connections=2)["prefill without decode"] == 1


@pytest.mark.parametrize(
    ("changed", "name", "number"),
    [
        ({"refused": {"a": 2, "b": 1}}, "refused by a server", 3),
        ({"again": {"prompt": 4, "id": 0, "other id": 0}}, "prompt prefilled again", 4),
        ({"again": {"prompt": 0, "id": 5, "other id": 0}}, "request id used again", 5),
        ({"again": {"prompt": 0, "id": 0, "other id": 6}}, "another id for the decode", 6),
    ],
)
def test_what_the_servers_find_wrong(changed: Mapping[str, Any], name: str, number: int) -> None:
    found = cases.wrong_of({**COUNTS, **changed}, connections=3)
    assert {key: value for key, value in found.items() if value} == {name: number}


def test_errors_name_their_case() -> None:
    load = Load(1, 1.0, 1.0, 1.0, {"wrong": 0, "timeout": 2})
    samples = [sample(ROUTER, 10), sample(EXAMPLE, 10, load=load, wrong={"held": 1, "cut": 0})]
    assert proxy_report.errors(samples) == ["example: whole, 64 KiB, 16: {'timeout': 2, 'held': 1}"]


def test_medians_over_the_rounds() -> None:
    rounds = [sample(ROUTER, rate, cpu=cpu) for rate, cpu in ((100, 1.0), (400, 0.4), (250, 0.5))]
    rounds[0] = replace(rounds[0], first=(0.5, 0.3), elsewhere={"/tokenize": 300})
    found = proxy_report.figures(rounds, proxies=2, rests=2)[CASE][ROUTER]
    assert (found.rate, found.p50, found.p99) == (250, 1 / 250, 2 / 250)
    assert found.cpu == 0.5 / 250
    assert found.first == 0.4
    assert (found.proxy, found.rest) == (0.25, 0.25)
    assert found.elsewhere == 0


def test_further_requests_are_those_of_a_completion() -> None:
    more = {"/tokenize": 300, "/v1/completions/render": 100}
    found = proxy_report.figures([sample(ROUTER, 100, elsewhere=more), sample(NONE, 100)], 1, 1)
    assert proxy_report.elsewhere(found) == {ROUTER: 4, NONE: 0}


def test_nothing_from_the_peer_is_an_error_and_no_pass() -> None:
    nothing = sample(EXAMPLE, 1, load=Load(0, 1.0, 0.0, 0.0, {}), served=0)
    found = proxy_report.figures([sample(ROUTER, 100), nothing], 1, 1)
    assert proxy_report.verdict(CASE, found[CASE]) == "FAIL"
    assert proxy_report.errors([nothing]) == [
        "example: whole, 64 KiB, 16: {'nothing came back': 1}"
    ]


@pytest.mark.parametrize(("router", "verdict"), [(1000, "pass"), (999, "FAIL")])
def test_the_target(router: float, verdict: str) -> None:
    found = table(router=router)
    assert proxy_report.verdict(CASE, found[CASE]) == verdict
    assert proxy_report.passed(found) == (verdict == "pass")


def test_a_single_connection_has_no_target() -> None:
    case = replace(CASE, connections=1)
    found = table(case, router=300)
    assert proxy_report.verdict(case, found[case]) == ""
    assert proxy_report.passed(found)


def test_tables() -> None:
    assert proxy_report.text(table(), WAYS).split("\n\n") == [
        "| requests/s | none | vllm-router | example | vllm-router / example | |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| whole, 64 KiB, 16 | 10000 | 1000 | 200 | 5.0 | pass |",
        "| ms of a processor for a request | vllm-router | example | example / vllm-router"
        " | none: busy / rest | vllm-router: busy / rest | example: busy / rest |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| whole, 64 KiB, 16 | 1.00 | 5.00 | 5.0 | 0% / 50% | 100% / 50% | 100% / 50% |",
        "| ms: p50 / p99 | none | vllm-router | example | vllm-router adds | example adds"
        " | first event, none | first event, vllm-router | first event, example |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        "| whole, 64 KiB, 16 | 0.10 / 0.20 | 1.00 / 2.00 | 5.00 / 10.00 | 0.90 | 4.90 | | | |",
    ]


def test_another_way_is_in_every_table() -> None:
    samples = [sample(way, 100) for way in (NONE, ROUTER, EXAMPLE, "rr")]
    text = proxy_report.text(
        proxy_report.figures(samples, 1, 1), [*WAYS, Way("rr", ROUTER, ("--policy", "x"))]
    )
    heads = [part.splitlines()[0] for part in text.split("\n\n")]
    assert "| rr / example |" in heads[0]
    assert "| rr: busy / rest |" in heads[1]
    assert "| rr adds |" in heads[2]
    assert all(
        len({line.count("|") for line in part.splitlines()}) == 1 for part in text.split("\n\n")
    )


def test_data_is_json() -> None:
    found = json.loads(json.dumps(proxy_report.data(table())))
    assert found[0]["ways"][ROUTER]["rate"] == 1000
    assert (found[0]["ratio"], found[0]["verdict"]) == (5.0, "pass")


def test_every_wrong_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--rounds=0", "--sizes=100,8", "--answers=whole,slow", "--proxy-cpus=0"]
    assert benchmark.main(["image", *wrong]) == 64
    assert capsys.readouterr().err.splitlines() == [
        "error: --rounds: 0 is less than 1",
        "error: --sizes: 8 is less than 32",
        "error: --proxy-cpus: 0 is less than 1",
        "error: --answers: 'slow' is neither whole nor stream",
    ]


def test_processors() -> None:
    assert Processors.split([0, 1, 2, 3], 1) == Processors((0,), (1, 2, 3))
    assert Processors.split([3], 1) == Processors((3,), (3,))


def test_what_others_disturbed_is_measured_again() -> None:
    shares = iter([0.5, 0.4, 0.1, 0.0])
    found = cases.Patience(60).calmest(lambda: sample(ROUTER, 1, others=next(shares)))
    assert found.others == 0.1
    assert next(shares) == 0.0


def test_a_machine_that_is_never_calm_does_not_take_all_patience() -> None:
    shares = iter([0.9, 0.5, 0.8, 0.0])
    found = cases.Patience(60).calmest(lambda: sample(ROUTER, 1, others=next(shares)))
    assert found.others == 0.5
    assert next(shares) == 0.0


def test_without_patience_there_is_one_measurement() -> None:
    shares = iter([0.5, 0.1])
    assert cases.Patience(0).calmest(lambda: sample(ROUTER, 1, others=next(shares))).others == 0.5


@contextmanager
def server(buffers: bool = False, drops: bool = False) -> Iterator[int]:
    """Answers completions; with `buffers` as a proxy that holds a stream back until its end."""
    opened = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            opened.set()
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            word = asked["prompt"].split()[0]
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(EVENTS - drops):
                self.event(json.dumps({"choices": [{"text": word if number == 0 else ""}]}))
                if number == 0 and not buffers:
                    self.wfile.flush()
                if number == 0:
                    opened.wait(5)
            self.event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")

        def event(self, text: str) -> None:
            data = f"data: {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

        def log_message(self, *_: object) -> None:
            return

    Handler.wbufsize = -1
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    try:
        yield int(served.server_port)
    finally:
        opened.set()
        served.shutdown()
        thread.join()
        served.server_close()


def test_a_stream_s_first_event_comes_before_the_others() -> None:
    with server() as port:
        assert probe.Client(port, port, False).stream("gated-1") > 0


def test_a_stream_that_is_held_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT", 0.2)
    with server(buffers=True) as port, pytest.raises(TimeoutError):
        probe.Client(port, port, False).stream("gated-1")


def test_a_stream_that_is_cut_is_an_error() -> None:
    with server(drops=True) as port, pytest.raises(ValueError, match="gated-1 got"):
        probe.Client(port, port, False).stream("gated-1")
