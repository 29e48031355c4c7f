"""Run `vllm bench`: with a vllm of this machine, or from an image."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import (
    EX_SOFTWARE,
    Finding,
    UserError,
    user_error,
)
from entrypoints.findings import Refused
from entrypoints.inputs import recipes
from validation.endpoint import external_program, run_records
from validation.endpoint.benchmarks import Benchmarks, Case
from validation.endpoint.client import Endpoint

RESULT = "result.json"
RESULTS = "/results"  # in a container
SERVE = "serve"
KEY = "OPENAI_API_KEY"  # where `vllm bench` reads the key
PASSED = ("VLLM_USE_MODELSCOPE",)  # from the recipe, for the tokenizer


@dataclass(frozen=True)
class Recipe:
    """The parts of a recipe that a benchmark uses."""

    name: str = ""
    served: str = ""
    model: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


def load_recipe(name: str, kind: str) -> Recipe:
    """Load by name, path or text; optional for kinds without a server. Raises UserError."""
    if not name and kind != SERVE:
        return Recipe()
    if not name:
        raise user_error("--recipe", "is missing", f"known: {', '.join(recipes.names())}")
    try:
        read = recipes.load(name)
    except Refused as refused:
        problems = [Finding(one.where, one.message, one.fix) for one in refused.findings]
        raise UserError(problems, refused.exit_code) from None
    env = next(iter(read.groups.values())).env
    passed = {key: str(env[key]) for key in PASSED if env.get(key) is not None}
    return Recipe(read.title, (*read.served_model_name, read.model)[0], read.model, passed)


@dataclass(frozen=True)
class Vllm:
    """The vllm program: `path` on this machine, or in `image`, run with `options` of docker."""

    path: str = ""
    image: str = ""
    options: tuple[str, ...] = ()

    def argv(
        self,
        words: Sequence[str],
        results: Path,
        env: Sequence[str] = (),
        directories: Sequence[Path] = (),
    ) -> list[str]:
        """The command; a container gets the variables `env` by name, and mounts `directories`."""
        if self.path:
            return [self.path, *words]
        mounts = [f"type=bind,source={results},target={RESULTS}"]
        mounts += [f"type=bind,source={path},target={path},readonly" for path in directories]
        return [
            *("docker", "run", "--rm", "--init", "--network", "host"),
            *(word for name in env for word in ("-e", name)),
            *(word for mount in mounts for word in ("--mount", mount)),
            *(*self.options, self.image, "vllm", *words),
        ]

    def directory(self, results: Path) -> str:
        """The directory of the results, as the program sees it."""
        return str(results) if self.path else RESULTS

    def version(self) -> str:
        """The version of vLLM. Raises UserError."""
        command = ["docker", "run", "--rm", self.image, "vllm"] if self.image else [self.path]
        return external_program.version([*command, "--version"], os.environ)


def select_vllm(image: str, path: str, options: Sequence[str]) -> Vllm:
    """The program that the options select. Raises UserError unless they select one."""
    if bool(image) == bool(path):
        what = "exclude each other" if image else "are both missing"
        raise user_error(
            "--image and --program", what, "give one: an image, or a vllm of this machine"
        )
    return Vllm(path, image, tuple(options))


@dataclass(frozen=True)
class Run:
    """A planned benchmark. `target`: the URL of the API, or the model of kinds without a server."""

    case: Case
    target: str
    recipe: Recipe
    model: str
    tokenizer: str = ""
    scale: float = 1
    more: tuple[str, ...] = ()

    def words(self, benchmarks: Benchmarks, vllm: str, directory: str) -> list[str]:
        """The arguments of `vllm`."""
        words = ["bench", self.case.kind.name, "--model", self.model]
        if self.tokenizer:
            words += ["--tokenizer", self.tokenizer]
        if self.case.kind.name == SERVE:
            words += ["--base-url", self.target]
        words += flag_words(benchmarks.flags(self.case, vllm, self.scale))
        if self.case.kind.name == SERVE:
            words += ["--save-result", "--result-dir", directory, "--result-filename", RESULT]
        else:
            words += ["--output-json", f"{directory}/{RESULT}"]
        return [*words, *self.more]

    @property
    def env(self) -> Mapping[str, str]:
        """The recipe's variables for model names; a directory needs none."""
        return {} if Path(self.tokenizer or self.model).is_dir() else self.recipe.env

    @property
    def directories(self) -> list[Path]:
        """The local directories that the program reads."""
        own = "" if self.case.kind.name == SERVE else self.model
        named = (Path(one) for one in (own, self.tokenizer) if one)
        return list(dict.fromkeys(path for path in named if path.is_dir()))


def plan_run(
    case: Case,
    target: str,
    recipe: Recipe,
    model: str,
    tokenizer: str,
    scale: float,
    more: Sequence[str],
) -> Run:
    """The run: names default to the recipe's, and directories become absolute paths."""
    if not 0 < scale <= 1:
        raise user_error("--scale", f"{scale:g} is not above 0 and at most 1", "for example 0.01")
    if case.kind.name == SERVE:
        target = Endpoint(target).url
        model = model or recipe.served
        tokenizer = tokenizer or recipe.model
    elif model:
        raise user_error(
            "--model", f"is not for {case.kind.name}", "give the model first, as the target"
        )
    else:
        model = target = _resolve(target)
    return Run(case, target, recipe, model, _resolve(tokenizer), scale, tuple(more))


def split_words(option: str, text: str) -> list[str]:
    """Split the value of an option as a shell does. Raises UserError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise user_error(option, f"{text}: {error}", "quote it as for a shell") from None


def flag_words(flags: Mapping[str, Any]) -> list[str]:
    """The flags as arguments of a command."""
    return [
        word
        for name, value in flags.items()
        for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


def run_benchmark(run: Run, vllm: Vllm, benchmarks: Benchmarks, key: str = "") -> dict[str, Any]:
    """Run the benchmark and return the run record. Raises UserError: 69, or 70 if it fails."""
    version = vllm.version()
    secrets = {KEY: key} if key else {}
    env = {**run.env, **secrets}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        results = Path(scratch)
        words = run.words(benchmarks, version, vllm.directory(results))
        argv = vllm.argv(words, results, list(env), run.directories)
        date, begun = run_records.utc_now(), time.monotonic()
        external_program.run(argv, {**run.env, **os.environ, **secrets})
        seconds = time.monotonic() - begun
        try:
            result = json.loads((results / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            what = "succeeded but wrote no result"
            raise user_error(argv[0], what, "see its output above", EX_SOFTWARE) from None
    return {
        "date": date,
        "kind": run.case.kind.name,
        "case": run.case.name,
        "recipe": run.recipe.name,
        "target": run.target,
        "scale": run.scale,
        "vllm": version,
        "seconds": round(seconds, 3),
        "argv": [word.replace(scratch, RESULTS) for word in argv],
        "result": result,
    }


def _resolve(name: str) -> str:
    """The absolute path of a directory; any other name unchanged."""
    path = Path(name)
    return str(path.resolve()) if name and path.is_dir() else name
