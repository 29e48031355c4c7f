"""What is inside an image: the environment, the packages, the libraries."""

from __future__ import annotations

import json
import re

from tests.e2e.conftest import SITE_PACKAGES, Image, docker

# Optional back ends that probe for a library at run time and do without it; stack.md's packages do
# not bring them, on any base.
OPTIONAL = re.compile(r"lib(av|sox|tbb|torio|postproc|swscale|swresample)")


def environment(image: Image, *shell: str) -> dict[str, str]:
    lines = image.run(*shell, "env -0", entrypoint="").stdout.split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)  # type: ignore[misc]


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


def test_labels_say_what_is_inside_and_what_is_not(a3: Image) -> None:
    labels = json.loads(
        docker("image", "inspect", "--format", "{{json .Config.Labels}}", a3.tag).stdout
    )
    assert labels["ascend.platform"] == "a3"
    assert labels["ascend.pin.torch-npu"] == "2.8.0"
    assert "no CANN" in labels["ascend.stand-in"]
    assert labels["ascend.fallback.vllm-ascend"] == "without kernels"
    assert a3.tag.endswith("-standin")
