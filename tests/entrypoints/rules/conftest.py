"""Facts from a few words: see `Setup` in cases.yaml."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from entrypoints.findings import Finding
from entrypoints.inputs import arguments, model, recipes, settings, stack
from entrypoints.inputs.arguments import Flag
from entrypoints.launch import kv, topology
from entrypoints.launch.facts import Facts

Setup = dict[str, Any]


def _recipe(raw: Any, folder: Path) -> recipes.Recipe | None:
    if not isinstance(raw, dict):
        return recipes.load(raw) if raw else None
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"model": "m", **raw}))
    return recipes.load(str(path))


def _model(raw: Any, flags: arguments.Flags, folder: Path) -> model.Model | None:
    if isinstance(raw, dict):
        (folder / "config.json").write_text(json.dumps(raw))
        raw = str(folder)
    return model.find(raw, flags) if raw else None


@pytest.fixture
def facts(tmp_path: Path) -> Callable[[Setup], Facts]:
    """Setup -> Facts, through the same steps as a launch."""

    def make(setup: Setup) -> Facts:
        findings: list[Finding] = []
        variables = {key: str(value) for key, value in setup.get("set", {}).items()}
        given = settings.read({"ROLE": "single", **variables}, findings)
        role = topology.role_of(given, findings)
        release = stack.release(setup.get("release"), [])  # of an unknown one it warns
        platform = stack.platform(setup.get("platform", "a3"), findings)
        assert role
        recipe = _recipe(setup.get("recipe"), tmp_path)
        place = topology.find_place(role, given, recipe, platform, None, findings)
        assert not findings
        assert release
        assert platform
        assert place
        flags = arguments.merge({}, place.block.flags())
        config = setup.get("kv") or kv.config(given, recipe, place, release.kv_port)
        if config:
            flag = Flag("--kv-transfer-config", (json.dumps(config),))
            flags = arguments.merge(flags, [flag])
        if place.role.headless:
            flags = arguments.merge(flags, [Flag("--headless")])
        tokens = shlex.split(setup.get("args", ""))
        flags = arguments.merge(flags, arguments.parse(tokens, {}, findings))
        transfer = kv.read(json.loads(json.dumps(config)), findings) if config else None
        assert not findings
        ports = dict(setup.get("ports", {}))
        if transfer and transfer.mooncake:
            ports["adxl"] = list(release.adxl_ports.of(platform))
        return Facts(
            release,
            platform,
            recipe,
            place,
            transfer,
            ports,
            flags,
            {key: str(value) for key, value in setup.get("env", {}).items()},
            _model(setup.get("model"), flags, tmp_path),
            setup.get("concurrency"),
            "ray" if place.layout == topology.RAY else "",
            setup.get("name") or (recipe.model if recipe else ""),
        )

    return make
