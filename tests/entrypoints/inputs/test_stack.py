"""The facts of every release, against the catalogue that comes from vLLM itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrypoints import documents
from entrypoints.findings import Finding
from entrypoints.inputs import catalogue, data, stack
from tests.entrypoints import known_facts

RELEASES = data.names("releases")
ENV = Path(documents.ENV_DIR)


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> stack.Release:
    findings: list[Finding] = []
    found = stack.release(request.param, findings)
    assert found is not None
    assert not findings
    return found


def test_each_feature_has_one_form_and_a_source(release: stack.Release) -> None:
    for name, form in release.features.items():
        assert sum(map(bool, (form.arg, form.env, form.missing))) == 1, name
        assert form.source, name
        assert not form.was or form.arg, name


def test_the_same_features_in_every_release() -> None:
    names = [set(known_facts.release(one).features) for one in RELEASES]
    assert names == [names[0]] * len(RELEASES)


def test_forms_exist_in_the_release(release: stack.Release) -> None:
    known = catalogue.load(release)
    for name, form in release.features.items():
        if form.arg:
            assert "--" + form.arg.partition(".")[0] in known.options, name
        for variable in filter(None, (form.env, form.was)):
            assert variable in known.variables, name
        if "has no --" in form.missing:
            assert form.missing.partition("has no ")[2] not in known.options, name


def test_what_is_gone_is_gone(release: stack.Release) -> None:
    known = catalogue.load(release)
    assert not [name for name in release.flags_gone if f"--{name}" in known.options]
    assert not [name for name in release.variables_gone if name in known.variables]
    assert not set(release.connectors_gone) & set(release.connectors)
    assert {gone["instead"] for gone in release.connectors_gone.values()} <= set(release.connectors)


def test_memory_share_is_that_of_vllm(release: stack.Release) -> None:
    option = catalogue.load(release).options["--gpu-memory-utilization"]
    assert option["default"] == release.gpu_memory_utilization


def test_every_release_registers_the_mooncake_connector(release: stack.Release) -> None:
    assert "MultiConnector" in release.connectors
    alone = release.name.startswith("cpu-")
    assert ("MooncakeConnectorV1" in release.connectors) != alone
    assert ("MooncakeConnectorV1" in release.connectors_gone) == alone


def test_yarn_by_release() -> None:
    forms = {name: known_facts.release(name).features["yarn"].arg for name in RELEASES}
    assert forms.pop("v0.11.0") == "rope-scaling"
    assert set(forms.values()) == {"hf-overrides.rope_parameters"}


def test_a_variable_that_became_a_key() -> None:
    before, after = (
        known_facts.release(n).features["fused_mc2"] for n in ("v0.18.0", "v0.23.0.post1")
    )
    assert before.env == after.was == "VLLM_ASCEND_ENABLE_FUSED_MC2"
    assert after.arg == "additional-config.enable_fused_mc2"
    assert before.values == after.values == (0, 1, 2)


def test_unknown_names_are_findings() -> None:
    findings: list[Finding] = []
    assert stack.release("v9", findings) is None
    assert stack.platform("../a2", findings) is None
    assert [p.code for p in findings] == ["unknown-release", "unknown-platform"]
    assert "v0.23.0.post1" in findings[0].fix


@pytest.mark.parametrize("path", sorted(ENV.rglob("*.yaml")), ids=lambda p: str(p.relative_to(ENV)))
def test_every_document_can_be_kept_as_json(path: Path) -> None:
    """Otherwise each start would parse YAML (entrypoints/documents.py)."""
    document = data.read(str(path))
    assert json.loads(json.dumps(document)) == document
