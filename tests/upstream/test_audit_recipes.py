"""The audit of recipes and models against small documents of the tests' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from upstream.audit import audit_models, audit_recipes
from upstream.audit.audit_result import CONFIRMED, CONTRADICTED, UNCHECKED, AuditResult
from upstream.audit.citations import Library
from upstream.sources import Tree

RELEASE, LATER = "v0.13.0rc1", "v0.13.0"
DOCUMENT = """\
# Some model

```bash
export HCCL_BUFFSIZE=512
export VLLM_USE_MODELSCOPE=True
vllm serve org/model --host <host_ip> --tensor-parallel-size 4 --max-num-seqs 24 \\
  --compilation-config '{"cudagraph_mode": "FULL", "more": 1}' \\
  --kv-transfer-config '{"kv_connector": "MooncakeConnectorV1", "kv_port": "30000"}'
```
"""
RECIPE = """\
source: "vllm-ascend v0.13.0rc1: docs/source/tutorials/model.md:6"
releases: [v0.13.0rc1]
model: org/model
sizes: {tp: 4}
env: {HCCL_BUFFSIZE: 512, VLLM_USE_MODELSCOPE: true}
args:
  host: 0.0.0.0
  max-num-seqs: 24
  compilation-config: {cudagraph_mode: FULL}
kv_transfer: {kv_connector: MooncakeConnectorV1}
roles:
  prefill:
    kv_transfer: {kv_port: 30000}
"""


def audited(
    root: Path, recipe: str, later: str = DOCUMENT, first: str = DOCUMENT
) -> list[AuditResult]:
    path = root / "env" / "recipes" / "small" / "one.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe)
    trees = {
        version: Tree("vllm-ascend", version, {"docs/source/tutorials/model.md": text})
        for version, text in {RELEASE[1:]: first, LATER[1:]: later}.items()
    }
    return list(audit_recipes.audit(root, Library({"vllm-ascend": trees}, root)))


def failing(found: list[AuditResult]) -> dict[str, str]:
    return {one.key: one.why for one in found if one.verdict == CONTRADICTED}


def test_a_recipe_as_its_document_has_it(tmp_path: Path) -> None:
    found = audited(tmp_path, RECIPE)
    assert {one.verdict for one in found} == {CONFIRMED}
    assert {one.key.partition(" (")[0] for one in found} == {
        *("env.HCCL_BUFFSIZE", "env.VLLM_USE_MODELSCOPE", "sizes.tp"),
        *("args.host", "args.max-num-seqs", "args.compilation-config"),
        *("kv_transfer.kv_connector", "roles.prefill.kv_transfer.kv_port", "model"),
    }


@pytest.mark.parametrize(
    ("old", "new", "key", "why"),
    [
        ("SIZE: 512", "SIZE: 521", "env.HCCL_BUFFSIZE", "is '512' there"),
        ("HCCL_BUFFSIZE", "HCCL_BUFSIZE", "env.HCCL_BUFSIZE", "is not there"),
        ("tp: 4", "tp: 8", "sizes.tp", "is '4' there"),
        ("seqs: 24", "seqs: 25", "args.max-num-seqs", "is '24' there"),
        ("mode: FULL", "mode: NONE", "args.compilation-config", "is '{"),
        ("30000", "30001", "roles.prefill.kv_transfer.kv_port", "is '30000' there"),
    ],
)
def test_a_setting_unlike_its_source(
    tmp_path: Path, old: str, new: str, key: str, why: str
) -> None:
    (found,) = failing(audited(tmp_path, RECIPE.replace(old, new))).items()
    assert found[0] == f"{key} (prefill, {RELEASE})"
    assert found[1].startswith(why)


def test_a_setting_with_a_source_of_its_own_is_not_compared(tmp_path: Path) -> None:
    own = RECIPE.replace(
        'source: "', 'source:\n  args.max-num-seqs: "vllm-ascend PR 1"\n  "": "', 1
    ).replace("seqs: 24", "seqs: 25")
    assert failing(audited(tmp_path, own)) == {}


CLAIMED = RECIPE.replace("[v0.13.0rc1]", "[v0.13.0rc1, v0.13.0]")


@pytest.mark.parametrize(
    ("later", "verdict"),
    [
        (DOCUMENT, CONFIRMED),
        (DOCUMENT.replace("24", "32"), UNCHECKED),
        (DOCUMENT.replace("24", "32").replace("512", "256"), CONTRADICTED),
        ("no server", CONTRADICTED),
    ],
)
def test_a_release_that_a_recipe_claims(tmp_path: Path, later: str, verdict: str) -> None:
    found = audited(tmp_path, CLAIMED, later)
    (claim,) = [one for one in found if one.key.startswith("releases")]
    assert claim.verdict == verdict


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("[v0", "[v0.14.0, v0", "releases", "v0.14.0"),
        ("env:", "features: {flashcom1: 1}\nenv:", "features.flashcom1", "did you mean flashcomm1"),
    ],
)
def test_names_that_nobody_knows(tmp_path: Path, old: str, new: str, key: str, words: str) -> None:
    ((found, why),) = failing(audited(tmp_path, RECIPE.replace(old, new, 1))).items()
    assert found == key
    assert words in why


# ---- models --------------------------------------------------------------------------------------

PROVIDERS = """\
class Base:
    num_query_groups: int = 8
    kv_channels: int | None = 128

class Small(Base):
    num_layers: int = 48
    num_query_groups: int = 4
    num_attention_heads: int = 32

class Latent:
    num_attention_heads: int = 16
"""


@pytest.mark.parametrize(
    ("name", "config", "wrong"),
    [
        ("Small", {"num_hidden_layers": 48, "num_key_value_heads": 4, "head_dim": 128}, []),
        ("Small", {"num_key_value_heads": 8, "head_dim": 64}, ["num_key_value_heads", "head_dim"]),
        ("Latent", {"num_key_value_heads": 16, "unknown": 1}, []),
        ("Latent", {"num_key_value_heads": 1}, ["num_key_value_heads"]),
        ("Unheard", {"num_key_value_heads": 1}, ["source"]),
    ],
)
def test_a_shape(tmp_path: Path, name: str, config: dict[str, int], wrong: list[str]) -> None:
    source = f"megatron-bridge v0.3.1: megatron/x.py, {name}"
    models = {"models": [{"name": "M", "config": config, "source": source}]}
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "models.yaml").write_text(yaml.safe_dump(models))
    tree = Tree("megatron-bridge", "0.3.1", {"megatron/x.py": PROVIDERS})
    library = Library({"megatron-bridge": {"0.3.1": tree}}, tmp_path)
    keys = list(failing(list(audit_models.audit(tmp_path, library))))
    assert sorted(key.rpartition(".")[2] for key in keys) == sorted(wrong)
