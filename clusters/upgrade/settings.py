"""What changes in settings (env, args, features, kv_transfer) from one release to another."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clusters.model import Path
from entrypoints.findings import Finding
from entrypoints.inputs import catalogue, data, keys
from entrypoints.inputs.arguments import from_value
from entrypoints.inputs.recipes import EXTRA
from entrypoints.inputs.stack import Feature, Release

CONFIG = "additional-config"
HARMLESS = ("remove it", "nothing")  # to follow advice that begins so loses nothing
FLAG = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(?:\.(?P<key>\w+))?(?: (?P<value>\w+))?")

REMOVED, MOVED, FORM, DEFAULT, LOST = "removed", "moved", "form", "default", "lost"


@dataclass(frozen=True)
class Change:
    """A change of a setting. `name`: of the variable, flag, key or feature.

    `path`: of the setting. `edits`: path → new value, None to remove it. `kind`: a `lost` setting
    has no replacement; for `form` and `default` the release changes, not the file.
    """

    kind: str
    name: str
    what: str
    source: str = ""
    path: Path = ()
    edits: Mapping[Path, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """The step from one release to another."""

    old: Release
    new: Release

    def changes(self, raw: Mapping[str, Any], at: Path) -> Iterator[Change]:
        """The changes in the settings of the mapping at a path."""
        for name, value in _mapping(raw.get("features")).items():
            yield from self._feature(name, value, (*at, "features", name))
        for name, value in _mapping(raw.get("env")).items():
            yield from self._variable(name, value, (*at, "env", name), at)
        for name, value in _mapping(raw.get("args")).items():
            if name.replace("_", "-") == CONFIG and isinstance(value, Mapping):
                yield from self._config(value, (*at, "args", name))
            else:
                yield from self._flag(name, value, (*at, "args", name), at)
        yield from self._transfer(_mapping(raw.get("kv_transfer")), (*at, "kv_transfer"))

    # ---- features and variables ------------------------------------------------------------------

    def _feature(self, name: str, value: Any, path: Path) -> Iterator[Change]:
        was, now = self.old.features.get(name), self.new.features.get(name)
        if value is None or now is None or was is None:
            return
        if now.missing:
            fix = self.new.variables_gone.get(was.env or was.was, {}).get("fix", "")
            harmless = was.missing or not value or fix.startswith(HARMLESS)
            kind = REMOVED if harmless else LOST
            yield Change(kind, name, now.missing, now.source, path, {path: None})
        elif now.values and isinstance(value, int) and int(value) not in now.values:
            what = f"{value} is not one of {', '.join(map(str, now.values))}"
            yield Change(LOST, name, what, now.source, path, {path: None})
        elif _form(was) != _form(now):
            yield Change(FORM, name, f"{_form(was)} becomes {_form(now)}", now.source, path)

    def _variable(self, name: str, value: Any, path: Path, at: Path) -> Iterator[Change]:
        if value is None:
            return
        for feature, form in self.new.features.items():
            was = self.old.features.get(feature)
            if form.arg and name in (form.was, was.env if was else ""):
                what = f"{name} becomes {_form(form)}, in a recipe the feature {feature}"
                edits = {path: None, (*at, "features", feature): _number(value)}
                yield Change(MOVED, name, what, form.source, path, edits)
                return
        before, known = catalogue.load(self.old), catalogue.load(self.new)
        gone = self.new.variables_gone.get(name)
        if name in known.variables or not (gone or name.startswith("VLLM")):
            return
        fix, source = (
            (gone["fix"], gone["source"]) if gone else ("", f"env/variables/{known.release}")
        )
        worked = name in before.variables
        kind = LOST if worked and not fix.startswith(HARMLESS) else REMOVED
        what = "; ".join(filter(None, (f"{self.new.name} does not read it", fix)))
        yield Change(kind, name, what, source, path, {path: None})

    # ---- flags and keys --------------------------------------------------------------------------

    def _flag(self, name: str, value: Any, path: Path, at: Path) -> Iterator[Change]:
        if value is None:
            return
        findings: list[Finding] = []
        flag = from_value(name.replace("_", "-"), value)
        catalogue.check_flags([flag], "", catalogue.load(self.new), findings)
        for one in findings:
            gone = self.new.flags_gone.get(name.replace("_", "-"))
            instead = gone["instead"] if gone else ""
            match = FLAG.fullmatch(instead)
            edits: dict[Path, Any] = {path: None}
            if match:
                target: Path = (*at, "args", *filter(None, (match["name"], match["key"])))
                edits[target] = yaml_value(match["value"]) if match["value"] else value
            kind = MOVED if match else REMOVED if instead.startswith(HARMLESS) else LOST
            what = f"{self.new.name} does not have it; {instead}" if gone else one.message
            yield Change(kind, f"--{name}", what, one.source, path, edits)

    def _config(self, config: Mapping[str, Any], path: Path) -> Iterator[Change]:
        here = keys.load(self.new.facts)["additional_config"]
        before = keys.load(self.old.facts)["additional_config"]
        for one in keys.unread(config, self.new):
            at = (*path, *one.key.split("."))
            moved = keys.moved_to(one.key, here, [before]) if one.key in before else ""
            fix, source, _ = keys.advice(one.key, self.new)
            edits: dict[Path, Any] = {at: None}
            if moved:
                target: Path = (*path, *moved.split("."))
                edits[target] = _inside(config, one.key)
            harmless = one.key not in before or fix.startswith(HARMLESS)
            kind = MOVED if moved else REMOVED if harmless else LOST
            what = f"{self.new.name} does not read it; {f'write {moved}' if moved else fix}"
            yield Change(
                kind, one.key, what, source or f"env/keys/{self.new.facts}.json", at, edits
            )

    def _transfer(self, raw: Mapping[str, Any], path: Path) -> Iterator[Change]:
        name = str(raw.get("kv_connector") or "")
        gone = self.new.connectors_gone.get(name)
        if gone:
            at, instead = (*path, "kv_connector"), gone["instead"]
            yield Change(MOVED, name, f"{instead} replaces it", gone["source"], at, {at: instead})
        for key, advice, source in keys.unread_extra(name, _mapping(raw.get(EXTRA)), self.new):
            at = (*path, EXTRA, *key.split("."))
            what = f"{name} of {self.new.name} does not read it; {advice}"
            yield Change(REMOVED, key, what, source, at, {at: None})

    # ---- what the release changes by itself ------------------------------------------------------

    def defaults(
        self, features: Mapping[str, Any], config: Mapping[str, Any], flags: Collection[str]
    ) -> Iterator[Change]:
        """The defaults that differ, of features, keys and flags that a deployment does not set."""
        for name, now in self.new.features.items():
            was = self.old.features[name]
            both = was.default is not None and now.default is not None
            if both and was.default != now.default and name not in features:
                what = f"{was.default} by default becomes {now.default}"
                yield Change(DEFAULT, name, what, now.source)
        before = keys.load(self.old.facts)["additional_config"]
        for key, entry in keys.load(self.new.facts)["additional_config"].items():
            old, new = before.get(key, {}).get("default"), entry.get("default")
            if None not in (old, new) and old != new and _inside(config, key) is None:
                source = f"vllm-ascend {self.new.facts}: {entry['source']}"
                yield Change(DEFAULT, key, f"{old} by default becomes {new}", source)
        old, new = self.old.gpu_memory_utilization, self.new.gpu_memory_utilization
        if old != new and "gpu-memory-utilization" not in flags:
            what = f"{old} by default becomes {new}"
            yield Change(DEFAULT, "--gpu-memory-utilization", what, f"vllm v{self.new.vllm}")

    def driver(self) -> Iterator[Change]:
        """The driver that the release needs."""
        known = data.read(data.path_of("preflight.yaml"))["driver"]["releases"]
        now, was = known.get(self.new.facts), known.get(self.old.facts)
        if now:
            what = f"needs {now['version']} or later on the hosts"
            what += f"; {self.old.name} needs {was['version']}" if was else ""
            yield Change(DEFAULT, "driver", what, now["source"])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _form(form: Feature) -> str:
    return form.env or (f"--{form.arg}" if form.arg else "nothing")


def _number(value: Any) -> Any:
    text = str(value).lower()
    return {"true": True, "false": False}.get(text, int(text) if text.isdigit() else value)


def yaml_value(text: str) -> Any:
    """A number for digits, else the text."""
    return int(text) if text.isdigit() else text


def _inside(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
