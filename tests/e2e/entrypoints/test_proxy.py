"""Both proxies from the image before real HTTP servers: waiting, protocol, key and health."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests import ROOT
from tests.e2e.conftest import Image, docker
from tests.e2e.entrypoints.test_ray import logs, until

NETWORK = "ascend-images-proxy"
BACKEND = ROOT / "tests/e2e" / "backend.py"
PREFILL, DECODE = f"{NETWORK}-prefill", f"{NETWORK}-decode"
ENDPOINTS = {"PREFILL_ENDPOINTS": f"{PREFILL}:8000", "DECODE_ENDPOINTS": f"{DECODE}:8000"}
REQUEST = {"model": "qwen3", "prompt": "The future of AI is", "max_tokens": 50}
ASK = """\
import sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:12347/v1/completions", sys.argv[1].encode(),
    {"Content-Type": "application/json", "Authorization": "Bearer the client's"})
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""


def backend(image: Image, name: str, side: str) -> None:
    where = ["--network", NETWORK, "--name", name, "-v", f"{BACKEND}:/backend.py:ro"]
    docker("run", "-d", *where, image.tag, "python", "/backend.py", side, "8000")


@pytest.fixture(scope="module", params=["vllm-router", "example"])
def proxy(a3: Image, request: pytest.FixtureRequest) -> Iterator[str]:
    """The proxy's container, started before its servers are."""
    name = f"{NETWORK}-{request.param}"
    everything = (name, PREFILL, DECODE)
    docker("rm", "-f", *everything, check=False)
    docker("network", "rm", NETWORK, check=False)
    docker("network", "create", NETWORK)
    env = {**ENDPOINTS, "ROLE": "proxy", "PROXY": request.param, "VLLM_API_KEY": "our key"}
    options = [f"--env={key}={value}" for key, value in {**env, "CANN_STANDIN": "0"}.items()]
    try:
        docker("run", "-d", "--network", NETWORK, "--name", name, *options, a3.tag)
        until(lambda: "a prefill server" in logs(name), 120, name)
        backend(a3, PREFILL, "prefill")
        backend(a3, DECODE, "decode")
        yield name
    finally:
        docker("rm", "-f", *everything, check=False)
        docker("network", "rm", NETWORK, check=False)


def ask(name: str) -> dict[str, object]:
    done = docker("exec", name, "/opt/vllm/bin/python", "-c", ASK, json.dumps(REQUEST))
    return dict(json.loads(done.stdout))


def test_waits_and_hands_the_request_over(proxy: str) -> None:
    until(lambda: "start: role proxy" in logs(proxy), 120, proxy)
    until(
        lambda: (
            docker("exec", proxy, "/opt/vllm/bin/python", "-c", ASK, "{}", check=False).stderr.find(
                "refused"
            )
            == -1
        ),
        120,
        proxy,
    )
    answer = ask(proxy)
    assert answer["choices"][0]["text"] == "decode"  # type: ignore[index]
    asked = answer["asked"]
    assert isinstance(asked, dict)
    assert (asked["prompt"], asked["max_tokens"]) == (REQUEST["prompt"], 50)
    told = asked["kv_transfer_params"]
    assert told["remote_host"] == "prefill"  # the prefill server's answer, unchanged
    assert told["asked"]["max_tokens"] == 1
    assert told["asked"]["kv_transfer_params"]["do_remote_decode"] is True
    assert answer["key"] == "Bearer our key"


def test_key_is_not_in_the_log(proxy: str) -> None:
    assert "our key" not in logs(proxy)


def test_health_follows_the_backends(proxy: str) -> None:
    def health() -> tuple[int, str]:
        done = docker("exec", proxy, "/opt/vllm/bin/entrypoint", "health", check=False)
        return done.returncode, done.stdout

    end = time.monotonic() + 120
    while (found := health())[0] and time.monotonic() < end:
        time.sleep(1)
    assert found[0] == 0, found
    docker("stop", "-t", "0", DECODE)
    code, text = health()
    assert code == 1
    assert "decode" in text
    docker("start", DECODE)


def test_a_backend_that_never_comes(a3: Image) -> None:
    env = {"ROLE": "proxy", "CANN_STANDIN": "0", "WAIT_TIMEOUT": "2"}
    nobody = {"PREFILL_ENDPOINTS": "127.0.0.1:9", "DECODE_ENDPOINTS": "127.0.0.1:10"}
    done = a3.run(env={**env, **nobody}, check=False)
    assert done.returncode == 69
    assert "127.0.0.1:9" in done.stderr
    assert "127.0.0.1:10" in done.stderr
    assert "Traceback" not in done.stderr
