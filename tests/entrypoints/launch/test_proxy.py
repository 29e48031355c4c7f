"""The proxy's command for both programs, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrypoints import printing
from entrypoints.findings import Refused
from entrypoints.plan import plan

PD = "qwen3-235b-a22b-w8a8/pd-3node-a3"
PROXY = {
    "ROLE": "proxy",
    "PREFILL_ENDPOINTS": "10.0.0.11:8000,10.0.0.12:8001",
    "DECODE_ENDPOINTS": "http://10.0.0.21:8000/",
}
LAYERWISE = """\
model: m
roles: {prefill: , decode: }
kv_transfer: {kv_connector: MooncakeLayerwiseConnector}
"""


def refused(environ: dict[str, str], *tokens: str) -> list[str]:
    with pytest.raises(Refused) as caught:
        plan(environ, tokens)
    assert caught.value.exit_code == 64
    return [finding.line() for finding in caught.value.findings]


def test_router() -> None:
    launch = plan(PROXY, ["--log-level", "warn"])
    assert list(launch.argv) == [
        "vllm-router",
        *("--host", "0.0.0.0", "--port", "12347"),
        *("--vllm-pd-disaggregation", "--kv-connector", "nixl"),
        *("--prefill", "http://10.0.0.11:8000", "--prefill", "http://10.0.0.12:8001"),
        *("--decode", "http://10.0.0.21:8000"),
        *("--policy", "round_robin"),
        *("--health-check-interval-secs", "5", "--health-check-timeout-secs", "3"),
        *("--health-failure-threshold", "2", "--health-success-threshold", "1"),
        *("--log-level", "warn"),
    ]
    assert launch.ports == {"api": 12347, "metrics": 29000}
    assert [(p.host, p.port, p.path) for p in launch.peers] == [
        ("10.0.0.11", 8000, "/health"),
        ("10.0.0.12", 8001, "/health"),
        ("10.0.0.21", 8000, "/health"),
    ]


def test_arguments_win_over_the_defaults() -> None:
    argv = plan(PROXY, ["--health_check_interval_secs=60"]).argv
    assert argv.count("--health-check-interval-secs") == 1
    assert argv[argv.index("--health-check-interval-secs") + 1] == "60"


def test_no_timeout_is_set_that_would_cut_a_long_answer() -> None:
    assert "--request-timeout-secs" not in plan(PROXY).argv


def test_example_has_the_arguments_of_the_reference() -> None:
    launch = plan({**PROXY, "PROXY": "example", "PORT": "9000"})
    assert list(launch.argv) == [
        *("python", "/opt/ascend/proxy/load_balance_proxy_server_example.py"),
        *("--host", "0.0.0.0", "--port", "9000"),
        *("--prefiller-hosts", "10.0.0.11", "10.0.0.12", "--prefiller-ports", "8000", "8001"),
        *("--decoder-hosts", "10.0.0.21", "--decoder-ports", "8000"),
    ]


@pytest.mark.parametrize("program", ["vllm-router", "example"])
def test_api_key_is_passed_on_and_not_shown(program: str) -> None:
    launch = plan({**PROXY, "PROXY": program, "VLLM_API_KEY": "hidden"})
    assert launch.env == {"OPENAI_API_KEY": "hidden"}
    for shown in (
        printing.plan_json(launch),
        printing.plan_text(launch),
        printing.plan_env(launch),
    ):
        assert "hidden" not in shown
    assert plan({**PROXY, "OPENAI_API_KEY": "x", "VLLM_API_KEY": "y"}).env == {
        "OPENAI_API_KEY": "x"
    }


def test_the_recipe_says_which_protocol(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(LAYERWISE)
    layerwise = {**PROXY, "RECIPE": str(recipe)}
    assert any("does not speak the protocol" in line for line in refused(layerwise))
    script = plan({**layerwise, "PROXY": "example"}).argv[1]
    assert script.endswith("/load_balance_proxy_layerwise_server_example.py")
    assert plan({**PROXY, "RECIPE": PD}).argv[0] == "vllm-router"


def test_the_other_protocol_is_refused() -> None:
    (line,) = refused(PROXY, "--kv-connector", "mooncake")
    assert line.startswith("--kv-connector: 'mooncake' is not the protocol")
    assert "vllm-router 0.1.17" in line
    assert plan(PROXY, ["--kv_connector=nixl"]).argv.count("--kv-connector") == 1


def test_missing_and_doubled_endpoints() -> None:
    lines = refused({"ROLE": "proxy"})
    assert [line.split(":")[0] for line in lines] == ["PREFILL_ENDPOINTS", "DECODE_ENDPOINTS"]
    same = {**PROXY, "DECODE_ENDPOINTS": "10.0.0.11:8000"}
    assert "also a prefill server" in refused(same)[0]


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1:0", ":8000", "a:b", "h:1,", "h:70000"])
def test_wrong_endpoints(text: str) -> None:
    (line,) = refused({**PROXY, "DECODE_ENDPOINTS": text})
    assert "is not a list of endpoints; give host:port" in line


def test_peers_are_in_the_plan() -> None:
    assert "# waits for a decode server at 10.0.0.21:8000" in printing.plan_text(plan(PROXY))


def test_the_routers_metrics_have_a_port() -> None:
    assert plan(PROXY, ["--prometheus-port", "29001"]).ports["metrics"] == 29001
    with pytest.raises(Refused, match="bad-ports"):
        plan(PROXY, ["--prometheus-port", "12347"])
    (line,) = refused(PROXY, "--prometheus-port", "x")
    assert line.startswith("--prometheus-port: 'x' is not a whole number")
