"""What is inside an image: the environment, the packages, the libraries."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from entrypoints.inputs.data import path_of, read
from images.locking import slices
from images.matrix import load
from tests.e2e.conftest import NATIVE, SITE_PACKAGES, Image, docker
from tests.e2e.entrypoints.test_ray import logs, until

PROXY = "/opt/ascend/proxy/load_balance_proxy"

# Optional back ends that probe for a library at run time and do without it; stack.md's packages do
# not bring them, on any base.
OPTIONAL = re.compile(r"lib(av|sox|tbb|torio|postproc|swscale|swresample)")


def environment(image: Image, *shell: str) -> dict[str, str]:
    lines = image.run(*shell, "env -0", entrypoint="").stdout.split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_plain_shell_has_canns_environment(a3: Image) -> None:
    """Neither a login nor an interactive shell, as docker exec and Kubernetes start it."""
    found = environment(a3, "sh", "-c")
    assert found["ATB_HOME_PATH"].endswith("/nnal/atb/latest/atb/cxx_abi_1")  # as torch was built
    assert found["ASCEND_PLATFORM"] == "a3"
    assert found["PATH"].startswith("/opt/vllm/bin:")
    for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH"):
        entries = found[name].split(":")
        assert "" not in entries
        assert len(entries) == len(set(entries)), name
    assert "cxx_abi_1/lib" in found["LD_LIBRARY_PATH"]


def test_sourcing_set_env_again_changes_nothing_that_matters(a3: Image) -> None:
    scripts = "/usr/local/Ascend/ascend-toolkit/set_env.sh /usr/local/Ascend/nnal/atb/set_env.sh"
    again = (
        environment(
            a3,
            "bash",
            "-c",
        )
        if False
        else dict(
            line.split("=", 1)
            for line in a3.run(
                "-c", f"for script in {scripts}; do . $script; done; env -0", entrypoint="bash"
            ).stdout.split("\0")
            if "=" in line
        )
    )
    baked = environment(a3, "sh", "-c")
    for name in ("ATB_HOME_PATH", "ASCEND_HOME_PATH", "ASCEND_OPP_PATH"):
        assert again[name] == baked[name]
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH"):
        wanted = {entry.rstrip("/") for entry in again[name].split(":") if entry}
        assert wanted <= set(baked[name].split(":"))


def test_everything_imports(a3: Image) -> None:
    code = """
import json, torch, torch_npu, triton, mooncake.engine, ray, transformers, vllm, vllm_ascend
from importlib.metadata import version
names = ["torch", "torch-npu", "triton-ascend", "vllm", "vllm-ascend", "mooncake-transfer-engine"]
print(json.dumps({
    "npu": torch_npu.npu.is_available(),
    "abi": torch.compiled_with_cxx11_abi(),
    "versions": {name: version(name).split("+")[0] for name in names},
}))
"""
    answer = json.loads(a3.python(code).splitlines()[-1])
    assert answer["npu"] is False
    assert answer["abi"] is True
    assert answer["versions"] == {
        "torch": "2.8.0",
        "torch-npu": "2.8.0",
        "triton-ascend": "3.2.0",
        "vllm": "0.13.0",
        "vllm-ascend": "0.13.0rc1",
        "mooncake-transfer-engine": "0.3.7.post2",
    }


def test_the_platform_is_the_images_own(images: dict[str, Image]) -> None:
    for name, image in images.items():
        info = image.python("import vllm_ascend._build_info as info; print(info.__device_type__)")
        assert info.split()[-1] == name.upper()


def test_vllm_serve_knows_its_options_with_the_npu_platform(a3: Image) -> None:
    answer = a3.run("vllm", "serve", "--help=all", entrypoint="")
    assert "--tensor-parallel-size" in answer.stdout
    assert "--kv-transfer-config" in answer.stdout


def test_no_file_belongs_to_two_packages(a3: Image) -> None:
    """Each file has one owner; triton's directory above all, which two packages would share."""
    code = """
import json
from collections import defaultdict
from importlib.metadata import distributions
owners = defaultdict(set)
for one in distributions():
    for file in one.files or []:
        owners[str(one.locate_file(file).resolve())].add(one.metadata["Name"])
print(json.dumps({path: sorted(names) for path, names in owners.items() if len(names) > 1}))
"""
    shared = json.loads(a3.python(code))
    assert {
        path: names for path, names in shared.items() if f"{SITE_PACKAGES}/triton" in path
    } == {}
    assert shared == {}


def test_triton_is_triton_ascend(a3: Image) -> None:
    names = a3.run("-c", f"ls -d {SITE_PACKAGES}/triton*.dist-info", entrypoint="sh").stdout.split()
    assert [name.rpartition("/")[2] for name in names] == ["triton_ascend-3.2.0.dist-info"]


def test_ldd_finds_every_library(a3: Image) -> None:
    """Libraries that a wheel bundles are found through the ones that ask for them, in *.libs."""
    script = f"""
    cd {SITE_PACKAGES}
    export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$PWD/torch/lib:$PWD/torch_npu/lib:$PWD/torchaudio/lib
    find . -name '*.so*' -type f -not -path '*.libs/*' | while read -r file; do
        ldd "$file" 2>/dev/null | sed "s#^#$file #"
    done
    """
    lines = a3.run("-c", script, entrypoint="bash").stdout.splitlines()
    found = [line for line in lines if " => /" in line]
    missing = [line.split()[:2] for line in lines if "not found" in line]
    assert len(found) > 1500
    assert [pair for pair in missing if not OPTIONAL.match(pair[1])] == []


# ---- beside vLLM ---------------------------------------------------------------------------------


def config(image: Image) -> dict[str, Any]:
    return dict(
        json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image.tag).stdout)
    )


@pytest.fixture
def start(a3: Image) -> Iterator[Callable[..., str]]:
    """Start a container of the image with these arguments of docker run."""
    names: list[str] = []

    def run(*command: str, options: tuple[str, ...] = ()) -> str:
        names.append(docker("run", "-d", *options, a3.tag, *command).stdout.strip())
        return names[-1]

    yield run
    docker("rm", "-f", *names)


# A process whose parent is gone when it ends: the kernel gives it to process 1.
ORPHAN = "sh -c 'sleep 0.2 &' ; sleep 1; cat /proc/[0-9]*/stat"


def zombies(container: str) -> list[str]:
    lines = docker("exec", container, "sh", "-c", ORPHAN).stdout.splitlines()
    return [line for line in lines if line.rpartition(")")[2].split()[0] == "Z"]


def test_the_init_is_process_1_and_reaps(start: Callable[..., str]) -> None:
    container = start("sleep", "60")
    command = docker("exec", container, "cat", "/proc/1/cmdline").stdout.split("\0")
    assert command[0] == "/opt/vllm/bin/dumb-init"
    assert zombies(container) == []


def test_without_the_init_there_would_be_a_zombie(start: Callable[..., str]) -> None:
    assert len(zombies(start("60", options=("--entrypoint=sleep",)))) == 1


SERVER = """
sh -c 'trap "echo engine got it" TERM; while :; do sleep 0.1; done' &
trap "echo server got it; exit 7" TERM
echo ready
wait
"""


def test_a_signal_goes_to_the_server_alone_and_its_code_comes_back(
    start: Callable[..., str],
) -> None:
    """vLLM ends its engines itself."""
    container = start("sh", "-c", SERVER)
    until(lambda: "ready" in logs(container), 120, container)
    docker("kill", "--signal=TERM", container)
    assert docker("wait", container).stdout.strip() == "7"
    assert logs(container).splitlines() == ["ready", "server got it"]


def test_the_health_check_leaves_time_to_load(a3: Image) -> None:
    second = 10**9
    assert config(a3)["Healthcheck"] == {
        "Test": ["CMD", "/opt/vllm/bin/entrypoint", "health"],
        "Interval": 30 * second,
        "StartInterval": 5 * second,
        "Timeout": 10 * second,
        "StartPeriod": 1800 * second,
        "Retries": 3,
    }


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("vllm-router", {"--vllm-pd-disaggregation", "--kv-connector", "--prefill", "--decode"}),
        ("vllm-router", set(read(path_of("proxies.yaml"))["vllm-router"]["defaults"])),
        (f"python {PROXY}_server_example.py", {"--prefiller-hosts", "--decoder-ports"}),
        (f"python {PROXY}_layerwise_server_example.py", {"--prefiller-hosts", "--decoder-ports"}),
        ("ray start", {"--head", "--address", "--node-ip-address"}),
    ],
)
def test_the_other_roles_programs_are_there(a3: Image, command: str, words: set[str]) -> None:
    assert words <= set(re.findall(r"--[a-z-]+", a3.run(*command.split(), "--help").stdout))


def test_ray_is_the_locked_one(a3: Image) -> None:
    found = slices.read(load(), load().release(None), NATIVE)
    (locked,) = (package.version for package in found["libraries"] if package.name == "ray")
    assert a3.run("ray", "--version").stdout.split()[-1] == locked


def test_jemalloc_can_be_preloaded(a3: Image) -> None:
    """From the first of the places in env/defaults.yaml that is there."""
    code = "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'jemalloc' in line})"
    library = f"/usr/lib/{platform.machine()}-linux-gnu/libjemalloc.so.2"
    found = a3.run("python", "-c", code, env={"LD_PRELOAD": library}, entrypoint="")
    assert found.stdout.split() == [library]
    assert found.stderr == ""


def test_the_start_reads_its_data_without_yaml(a3: Image) -> None:
    """The cache is valid in the image: the times of its files came through the layer."""
    code = """
import sys; sys.path.insert(0, "/opt/ascend"); sys.path.append(sys.argv[1])
from entrypoints.inputs import data
for name in data.names(""):
    data.read(data.path_of(f"{name}.yaml"))
print(len(data.names("")), "yaml" in sys.modules)
"""
    answer = a3.run("python", "-IS", "-c", code, SITE_PACKAGES, entrypoint="").stdout.split()
    assert int(answer[0]) > 5
    assert answer[1] == "False"


def test_labels_say_what_is_inside_and_what_is_not(a3: Image) -> None:
    labels = json.loads(
        docker("image", "inspect", "--format", "{{json .Config.Labels}}", a3.tag).stdout
    )
    assert labels["ascend.platform"] == "a3"
    assert labels["ascend.pin.torch-npu"] == "2.8.0"
    assert "no CANN" in labels["ascend.stand-in"]
    assert labels["ascend.fallback.vllm-ascend"] == "without kernels"
    assert a3.tag.endswith("-standin")
