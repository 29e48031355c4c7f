"""vLLM itself, on the processor, with a small model: the image of platform cpu."""

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
from images.build.targets import native_arch
from images.labels import PIN
from images.locking import cpu as engines
from images.matrix import CPU, Variant
from images.names import REPOSITORY
from validation.rehearsal import rules, tiny
from validation.rehearsal.engines import Engine, Mount
from validation.rehearsal.rules import Rules
from validation.rehearsal.sizes import Machine
from validation.rehearsal.translation import Target, translate

TINY = "tiny"
PLACE = "/rehearsal/model"


def engine(cluster: Cluster, image: str = "", model: str = TINY) -> Engine:
    """`model`: `tiny`, or a directory with a model.

    Raises UserError: 64 for a directory without a model, 65 for bad rules, 69 without any lock.
    """
    known = rules.load()
    variant = variant_of(cluster, known)
    folder = made() if model == TINY else given(Path(model))
    found = models.find(str(folder), {})
    target = Target(variant.facts, PLACE, found.longest if found else None, Machine(0, 0))
    vllm = variant.engine.vllm if variant.engine else ""
    return Engine(
        image=image or f"{REPOSITORY}:{variant.tag}",
        runs=f"vLLM {vllm} on the processor",
        build=f"invoke build --platform {CPU} --release {variant.release.name} --engine {vllm}"
        " --wheels DIR",
        translate=partial(_translated, known, target, model),
        mounts=(Mount(folder, PLACE),),
        timeout=known.timeout,
        interval=known.interval,
        patience=known.patience,
        every=known.every,
        labels={"ascend.platform": CPU, f"{PIN}vllm": vllm},
    )


def variant_of(cluster: Cluster, known: Rules) -> Variant:
    """The release's image with its own vLLM, or with the newest that has a lock here.

    Only with a vLLM for which there are rules.

    Raises UserError (69) when none has one.
    """
    pins = matrix.load()
    arch = native_arch(pins)
    locked = [one.vllm for one, its in engines.locked(pins) if its == arch]
    have = [vllm for vllm in locked if vllm in known.engines]
    release = pins.release(cluster.release)
    if not have:
        what = f"vLLM {' or '.join(known.engines)} has no lock for {arch.name}"
        fix = f"invoke lock --engine {known.engines[-1]} --arch {arch.name} --wheels DIR"
        raise user_error("--engine", what, fix, EX_UNAVAILABLE)
    own = release.vllm if release.vllm in have else max(have, key=Version)
    return pins.variant(release.name, CPU, "", own)


def made() -> Path:
    """The tiny model, made when it is not there yet."""
    folder = WORK / "rehearsal" / "tiny"
    if not (folder / tiny.LAST).is_file():
        tiny.make(folder)
    return folder


def given(folder: Path) -> Path:
    """A directory with a model. Raises UserError (64) for another."""
    if not (folder / "config.json").is_file():
        what = f"{folder} has no config.json"
        raise user_error("--model", what, f"give a model's directory, or {TINY}")
    return folder.resolve()


def _translated(
    known: Rules, target: Target, model: str, cluster: Cluster, machine: Machine
) -> tuple[Cluster, tuple[str, ...]]:
    what = "a tiny model with random weights" if model == TINY else f"the model in {model}"
    made, said = translate(cluster, known, replace(target, machine=machine))
    first = (
        f"every server has {what}",
        f"flags and variables are those of {target.facts}, not of {cluster.release}",
    )
    return made, (*first[: 1 if target.facts == cluster.release else 2], *said)
