"""vLLM itself on the CPU, with a tiny model: the image of platform cpu."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from packaging.version import Version

from clusters.model import Cluster
from common.errors import EX_UNAVAILABLE, user_error
from common.paths import WORK
from entrypoints.inputs import model as models
from images import matrix
from images.build.options import native_arch
from images.labels import PIN
from images.locking import cpu
from images.matrix import CPU, Variant
from images.names import REPOSITORY
from validation.rehearsal import cpu_rules, tiny_model
from validation.rehearsal.cpu_rules import Rules
from validation.rehearsal.cpu_translation import Target, translate
from validation.rehearsal.engine import Engine, Mount
from validation.rehearsal.parallel_sizes import Machine

TINY = "tiny"
MODEL = "/rehearsal/model"  # in a container


def engine(cluster: Cluster, image: str = "", model: str = TINY) -> Engine:
    """Return the engine; `model` is `tiny` or a model's directory.

    Raises UserError: 64 for a directory without a model, 65 for invalid rules, 69 without a lock.
    """
    rules = cpu_rules.load()
    variant = select_variant(cluster, rules)
    folder = tiny_model_directory() if model == TINY else model_directory(Path(model))
    found = models.find(str(folder), {})
    target = Target(variant.facts, MODEL, found.longest if found else None, Machine(0, 0))
    vllm = variant.cpu_vllm.version if variant.cpu_vllm else ""
    return Engine(
        image=image or f"{REPOSITORY}:{variant.tag}",
        description=f"vLLM {vllm} on the CPU",
        build_command=f"invoke build --platform {CPU} --release {variant.release.name}"
        f" --vllm {vllm} --wheels DIR",
        translate=partial(_translate, rules, target, model),
        mounts=(Mount(folder, MODEL),),
        timeout=rules.timeout,
        health_interval=rules.health_interval,
        recovery_timeout=rules.recovery_timeout,
        request_interval=rules.request_interval,
        labels={"ascend.platform": CPU, f"{PIN}vllm": vllm},
    )


def select_variant(cluster: Cluster, rules: Rules) -> Variant:
    """The cpu image with the release's own vLLM, else the newest one that has a lock and rules.

    Raises UserError (69) when no such vLLM has a lock for this machine.
    """
    pins = matrix.load()
    arch = native_arch(pins)
    locked = [vllm.version for vllm, for_arch in cpu.locked(pins) if for_arch == arch]
    usable = [vllm for vllm in locked if vllm in rules.vllm_versions]
    release = pins.release(cluster.release)
    if not usable:
        what = f"vLLM {' or '.join(rules.vllm_versions)} has no lock for {arch.name}"
        fix = f"invoke lock --vllm {rules.vllm_versions[-1]} --arch {arch.name} --wheels DIR"
        raise user_error("--engine", what, fix, EX_UNAVAILABLE)
    vllm = release.vllm if release.vllm in usable else max(usable, key=Version)
    return pins.variant(release.name, CPU, "", vllm)


def tiny_model_directory() -> Path:
    """The directory of the tiny model, which is written on first use."""
    folder = WORK / "rehearsal" / "tiny"
    if not (folder / tiny_model.WEIGHTS).is_file():
        tiny_model.write(folder)
    return folder


def model_directory(folder: Path) -> Path:
    """The absolute path of a model's directory. Raises UserError (64) if it holds no model."""
    if not (folder / "config.json").is_file():
        what = f"{folder} has no config.json"
        raise user_error("--model", what, f"give a model's directory, or {TINY}")
    return folder.resolve()


def _translate(
    rules: Rules, target: Target, model: str, cluster: Cluster, machine: Machine
) -> tuple[Cluster, tuple[str, ...]]:
    what = "a tiny model with random weights" if model == TINY else f"the model in {model}"
    translated, changes = translate(cluster, rules, replace(target, machine=machine))
    dialect = f"flags and variables are those of {target.facts}, not of {cluster.release}"
    other = (dialect,) if target.facts != cluster.release else ()
    return translated, (f"every server has {what}", *other, *changes)
