"""`vllm bench` as the reference runs it: with a command of this machine, or from an image."""

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
    EX_DATAERR,
    EX_SOFTWARE,
    EX_UNAVAILABLE,
    Finding,
    UserError,
    did_you_mean,
    user_error,
)
from entrypoints.inputs import recipes
from entrypoints.problems import Refused
from validation.endpoint import program, store
from validation.endpoint.benchmarks import Benchmarks, Case
from validation.endpoint.client import Endpoint

RESULT = "result.json"
RESULTS = "/results"  # in a container
SERVE = "serve"
KEY = "OPENAI_API_KEY"  # the variable from which `vllm bench` takes the key
PASSED = ("VLLM_USE_MODELSCOPE",)  # of a recipe, for the tokenizer


@dataclass(frozen=True)
class Recipe:
    """What a benchmark takes from a recipe."""

    name: str = ""
    served: str = ""
    model: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


def recipe(name: str, kind: str) -> Recipe:
    """By name, path or text; without a server it may be none. Raises UserError."""
    if not name and kind != SERVE:
        return Recipe()
    if not name:
        raise user_error("--recipe", "is missing", f"known: {', '.join(recipes.names())}")
    try:
        read = recipes.load(name)
    except Refused as refused:
        problems = [Finding(one.where, one.message, one.fix) for one in refused.problems]
        raise UserError(problems, refused.exit_code) from None
    env = next(iter(read.groups.values())).env
    passed = {key: str(env[key]) for key in PASSED if env.get(key) is not None}
    return Recipe(read.title, (*read.served_model_name, read.model)[0], read.model, passed)


@dataclass(frozen=True)
class Vllm:
    """The program: `path` of this machine, or the one in `image`, run with `options` of docker."""

    path: str = ""
    image: str = ""
    options: tuple[str, ...] = ()

    def argv(
        self,
        words: Sequence[str],
        results: Path,
        env: Sequence[str] = (),
        shown: Sequence[Path] = (),
    ) -> list[str]:
        """The command. In a container it gets the variables `env` by name, and sees `shown`."""
        if self.path:
            return [self.path, *words]
        mounts = [f"type=bind,source={results},target={RESULTS}"]
        mounts += [f"type=bind,source={path},target={path},readonly" for path in shown]
        return [
            *("docker", "run", "--rm", "--init", "--network", "host"),
            *(word for name in env for word in ("-e", name)),
            *(word for mount in mounts for word in ("--mount", mount)),
            *(*self.options, self.image, "vllm", *words),
        ]

    def directory(self, results: Path) -> str:
        """The results' directory as the program sees it."""
        return str(results) if self.path else RESULTS

    def version(self) -> str:
        """Of vLLM. Raises UserError."""
        asked = ["docker", "run", "--rm", self.image, "vllm"] if self.image else [self.path]
        return program.version([*asked, "--version"], os.environ)


def program_of(image: str, path: str, options: Sequence[str]) -> Vllm:
    """The program that the options name. Raises UserError."""
    if bool(image) == bool(path):
        what = "are given both" if image else "are both missing"
        raise user_error(
            "--image and --vllm", what, "give one: an image, or a vllm of this machine"
        )
    return Vllm(path, image, tuple(options))


@dataclass(frozen=True)
class Run:
    """One benchmark to be made. `target` is the API's address, or without a server the model."""

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
        words += written(benchmarks.flags(self.case, vllm, self.scale))
        if self.case.kind.name == SERVE:
            words += ["--save-result", "--result-dir", directory, "--result-filename", RESULT]
        else:
            words += ["--output-json", f"{directory}/{RESULT}"]
        return [*words, *self.more]

    @property
    def env(self) -> Mapping[str, str]:
        """The recipe's way to names; directories need none."""
        return {} if Path(self.tokenizer or self.model).is_dir() else self.recipe.env

    @property
    def shown(self) -> list[Path]:
        """Directories of this machine that the program reads."""
        own = "" if self.case.kind.name == SERVE else self.model
        named = (Path(one) for one in (own, self.tokenizer) if one)
        return list(dict.fromkeys(path for path in named if path.is_dir()))


def planned(
    case: Case,
    target: str,
    chosen: Recipe,
    model: str,
    tokenizer: str,
    scale: float,
    more: Sequence[str],
) -> Run:
    """The run, with the recipe's names where none are given; directories as absolute paths."""
    if not 0 < scale <= 1:
        raise user_error("--scale", f"{scale:g} is not above 0 and up to 1", "for example 0.01")
    if case.kind.name == SERVE:
        target = Endpoint(target).url
        model = model or chosen.served
        tokenizer = tokenizer or chosen.model
    elif model:
        raise user_error(
            "--model", f"is not for {case.kind.name}", "give the model first, as the target"
        )
    else:
        model = target = _found(target)
    return Run(case, target, chosen, model, _found(tokenizer), scale, tuple(more))


def words(option: str, text: str) -> list[str]:
    """The words of an option, quoted as for a shell. Raises UserError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise user_error(option, f"{text}: {error}", "quote it as for a shell") from None


def written(flags: Mapping[str, Any]) -> list[str]:
    """Flags as words."""
    return [
        word
        for name, value in flags.items()
        for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


def served(endpoint: Endpoint, model: str) -> str:
    """The model by its name, or the first that the endpoint lists.

    Raises UserError: 69 when the endpoint does not answer, 65 when it serves another model.
    """
    answer = endpoint.get("/v1/models")
    if answer.status == 404 and model:
        return model  # a proxy may have no list
    if answer.status != 200:
        advice = "is the key the server's?" if answer.status in (401, 403) else "is it ready?"
        raise user_error(
            endpoint.url, f"/v1/models answers {answer.status}", advice, EX_UNAVAILABLE
        )
    listed = answer.body.get("data", []) if isinstance(answer.body, dict) else []
    names = [str(one.get("id")) for one in listed if isinstance(one, dict)]
    if model and model not in names:
        hint = did_you_mean(model, names)
        raise user_error("--model", f"{model} is not served there", hint, EX_DATAERR)
    if not names:
        raise user_error(endpoint.url, "/v1/models lists no model", exit_code=EX_DATAERR)
    return model or names[0]


def make(run: Run, vllm: Vllm, benchmarks: Benchmarks, key: str = "") -> dict[str, Any]:
    """Run it and return its record. Raises UserError: 69, or 70 when it ran and failed."""
    version = vllm.version()
    secrets = {KEY: key} if key else {}
    env = {**run.env, **secrets}
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        results = Path(made)
        words = run.words(benchmarks, version, vllm.directory(results))
        argv = vllm.argv(words, results, list(env), run.shown)
        date, begun = store.now(), time.monotonic()
        program.run(argv, {**run.env, **os.environ, **secrets})
        seconds = time.monotonic() - begun
        try:
            result = json.loads((results / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            what = "ended well and left no result"
            raise user_error(argv[0], what, "its words are above", EX_SOFTWARE) from None
    return {
        "date": date,
        "kind": run.case.kind.name,
        "case": run.case.name,
        "recipe": run.recipe.name,
        "target": run.target,
        "scale": run.scale,
        "vllm": version,
        "seconds": round(seconds, 3),
        "argv": [word.replace(made, RESULTS) for word in argv],
        "result": result,
    }


def _found(name: str) -> str:
    """A directory by its absolute path; another name as it is."""
    path = Path(name)
    return str(path.resolve()) if name and path.is_dir() else name
