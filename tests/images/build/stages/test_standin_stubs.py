"""Which stubs are made for which files, and what they export."""

from __future__ import annotations

import pytest

from images.build.stages.standin.assembly import assembly, version_script
from images.build.stages.standin.elf import ElfFile, Reference
from images.build.stages.standin.stubs import (
    Plan,
    Stub,
    Vendor,
    opened_by_name,
    plan_stubs,
    remedy,
    vendor,
)

SITE = "opt/vllm/lib/python3.11/site-packages"
LIBC = ElfFile(
    "usr/lib/aarch64-linux-gnu/libc.so.6",
    "libc.so.6",
    defined=frozenset({"memcpy"}),
    defined_versions=frozenset({"GLIBC_2.17", "GLIBC_2.34"}),
)
PYTHON = ElfFile("usr/bin/python3.11", "python3.11", defined=frozenset({"PyErr_Occurred"}))
BASE = [LIBC, PYTHON]


@pytest.mark.parametrize(
    ("soname", "expected"),
    [
        ("libascendcl.so", Vendor.TOOLKIT),
        ("libge_runner.so", Vendor.TOOLKIT),
        ("libopapi_math.so", Vendor.TOOLKIT),
        ("libatb.so", Vendor.ATB),
        ("libascend_hal.so", Vendor.DRIVER),
        ("libcudart.so.12", Vendor.NVIDIA),
        ("libcuda.so.1", Vendor.NVIDIA),
        ("libnvidia-ml.so.1", Vendor.NVIDIA),
        ("libcurl.so.4", None),
        ("libavcodec.so.60", None),
        ("libmlx5.so.1", None),
    ],
)
def test_vendors_are_told_by_name(soname: str, expected: Vendor | None) -> None:
    assert vendor(soname) is expected


def test_an_unknown_library_that_torch_npu_needs_is_the_toolkits() -> None:
    assert vendor("libnovel.so", [f"{SITE}/torch_npu/lib/libtorch_npu.so"]) is Vendor.TOOLKIT


def test_stubs_export_what_is_needed_and_not_provided() -> None:
    plan = plan_stubs([_npu("aclrtMalloc", "memcpy", "PyErr_Occurred", "HcclSend")], BASE)
    assert _symbols(plan) == {
        "libascendcl.so": ["aclrtMalloc"],
        "libhccl.so": ["HcclSend"],
    }


def test_what_another_layer_defines_is_never_stubbed() -> None:
    torch = ElfFile(f"{SITE}/torch/lib/libc10.so", "libc10.so", defined=frozenset({"c10_f"}))
    plan = plan_stubs([torch, _npu("c10_f", "aclInit")], BASE)
    assert _symbols(plan)["libascendcl.so"] == ["aclInit"]


def test_a_version_says_which_library_defines_a_symbol() -> None:
    reference = Reference("cudaMalloc", "function", "libcudart.so.12", "libcudart.so.12")
    engine = ElfFile(
        f"{SITE}/mooncake/engine.so",
        "engine.so",
        needed=("libcudart.so.12",),
        references=(reference,),
        wanted_versions=frozenset({("libcudart.so.12", "libcudart.so.12")}),
    )
    # torchvision bundles a real one under another file name, which serves nobody else.
    bundled = ElfFile(
        f"{SITE}/torchvision.libs/libcudart.e8e8b82a.so.12",
        "libcudart.so.12",
        defined=frozenset({"cudaMalloc"}),
    )
    (stub,) = plan_stubs([engine, bundled], BASE).stubs
    assert stub == Stub("libcudart.so.12", Vendor.NVIDIA, (reference,), ("libcudart.so.12",))


def test_a_file_that_names_no_library_gets_its_symbols_where_the_name_fits() -> None:
    profiler = ElfFile(
        f"{SITE}/torch_npu/lib/libnpu_profiler.so",
        "libnpu_profiler.so",
        references=(Reference("aclAppLog"), Reference("mystery")),
    )
    plan = plan_stubs([_npu("aclInit"), profiler], BASE)
    assert _symbols(plan)["libascendcl.so"] == ["aclAppLog", "aclInit"]
    assert plan.unresolved == {profiler.path: ("mystery",)}


def test_a_library_of_the_distribution_is_reported_instead_of_stubbed() -> None:
    engine = ElfFile(
        f"{SITE}/mooncake/engine.so",
        "engine.so",
        needed=("libcurl.so.4",),
        references=(Reference("curl_easy_init"),),
    )
    plan = plan_stubs([engine], BASE)
    assert plan.stubs == ()
    assert plan.missing == {"libcurl.so.4": (engine.path,)}
    assert plan.unresolved == {}
    assert remedy("libcurl.so.4") == "install libcurl4 in the base"
    assert remedy("libavcodec.so.60") is None


def test_a_version_that_the_base_is_too_old_for_is_reported() -> None:
    wanted = frozenset({("libc.so.6", "GLIBC_2.34"), ("libc.so.6", "GLIBC_2.38")})
    wheel = ElfFile(f"{SITE}/a/b.so", "b.so", needed=("libc.so.6",), wanted_versions=wanted)
    plan = plan_stubs([wheel], BASE)
    assert plan.unmet_versions == (f"GLIBC_2.38 of libc.so.6 for {SITE}/a/b.so",)


def test_libraries_opened_by_name_become_empty_stubs() -> None:
    content = b"\0libopapi.so\0libopapi_nn.so\0libcust_opapi.so\0libc.so\0libopapi.so.1\0"
    opened = opened_by_name(content)
    assert opened == {"libopapi.so", "libopapi_nn.so"}
    plan = plan_stubs([], BASE, opened)
    assert _symbols(plan) == {"libopapi.so": [], "libopapi_nn.so": []}


def test_the_plan_does_not_depend_on_the_order_of_the_layers() -> None:
    files = [_npu("aclInit", "HcclSend"), _npu("acltdtSend", name="other.so")]
    assert plan_stubs(files, BASE).stubs == plan_stubs(files[::-1], BASE).stubs


@pytest.mark.parametrize(
    ("arch", "instruction"), [("arm64", "mov x0, #0"), ("amd64", "movl $0, %eax")]
)
def test_functions_return_zero(arch: str, instruction: str) -> None:
    text = assembly(Stub("libascendcl.so", Vendor.TOOLKIT, (Reference("aclInit"),)), arch)
    assert f"aclInit:\n{instruction}\nret\n" in text
    assert ".globl aclInit\n.type aclInit, %function" in text
    assert ".bss" not in text


def test_device_counts_of_nvidia_fail_instead_of_leaving_garbage() -> None:
    stub = Stub("libcudart.so.12", Vendor.NVIDIA, (Reference("cudaGetDeviceCount"),))
    assert "movl $100, %eax" in assembly(stub, "amd64")


def test_texts_are_empty_instead_of_null() -> None:
    stub = Stub("libascendcl.so", Vendor.TOOLKIT, (Reference("aclrtGetSocName"),))
    assert "aclrtGetSocName:\nadrp x0, .Lempty\n" in assembly(stub, "arm64")
    assert '.Lempty:\n.asciz ""\n' in assembly(stub, "arm64")


def test_data_is_zeroed_and_typed() -> None:
    text = assembly(
        Stub("libgraph.so", Vendor.TOOLKIT, (Reference("_ZTIN2ge1A", "object"),)), "arm64"
    )
    assert ".bss" in text
    assert ".type _ZTIN2ge1A, %object\n_ZTIN2ge1A:\n.zero 256" in text


def test_version_script_has_every_version_and_the_unversioned_symbols() -> None:
    stub = Stub(
        "libx.so",
        Vendor.NVIDIA,
        (Reference("a", "function", "libx.so", "V1"), Reference("b"), Reference("c$d")),
        ("V1", "V2"),
    )
    assert version_script(stub) == ('V1 {\n  global:\n    a;\n    b;\n    "c$d";\n};\nV2 {\n};\n')


def test_no_version_script_where_nothing_asks_for_a_version() -> None:
    assert version_script(Stub("libascendcl.so", Vendor.TOOLKIT, (Reference("aclInit"),))) == ""


def test_a_symbol_of_two_versions_is_defined_twice() -> None:
    stub = Stub(
        "libx.so",
        Vendor.NVIDIA,
        (Reference("a", "function", "libx.so", "V1"), Reference("a", "function", "libx.so", "V2")),
    )
    assert ".symver standin_1, a@V2" in assembly(stub, "amd64")


def _npu(*names: str, name: str = "libtorch_npu.so") -> ElfFile:
    return ElfFile(
        f"{SITE}/torch_npu/lib/{name}",
        name,
        needed=("libascendcl.so", "libhccl.so", "libc.so.6"),
        references=tuple(Reference(symbol) for symbol in names),
    )


def _symbols(plan: Plan) -> dict[str, list[str]]:
    return {stub.soname: [symbol.name for symbol in stub.symbols] for stub in plan.stubs}
