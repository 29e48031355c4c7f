"""Commands that put a running endpoint to the test."""

from __future__ import annotations

import sys
from pathlib import Path

from invoke import Context, Exit, task

from commands import common
from commands.common import CERTIFICATES, FORMAT, data, environ, problems_in_plain_words, say

KEY_ENV = "the variable that holds the API key (default: VLLM_API_KEY)"
OUT = "the directory of results (default: build/trials)"


@task(
    auto_shortflags=False,
    help={
        "url": "the API: http://HOST:PORT, of a server, a leader or a proxy",
        "model": "the served model's name (default: the first that the endpoint lists)",
        "key-env": KEY_ENV,
        "timeout": "seconds that an answer may take (default: 60)",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
)
def verify(
    c: Context,
    url: str,
    model: str = "",
    key_env: str = "VLLM_API_KEY",
    timeout: float = 60.0,
    certificates: str = "",
    format: str = "text",
) -> None:
    """Check that an endpoint answers as it should: invoke verify http://10.0.0.1:8000

    Models, completions and chat, streamed and not, usage, stop, requests at once, and what bad
    requests are answered. Exits with 70 when something is wrong, 69 when nobody answers.
    """
    with problems_in_plain_words():
        from common.errors import EX_SOFTWARE
        from validation.endpoint import verify as checks
        from validation.endpoint.client import Endpoint

        endpoint = Endpoint(url, environ().get(key_env, ""), timeout, certificates)
        results = []
        for result in checks.verify(endpoint, model):
            results.append(result)
            tell = print if format == "text" else say
            tell(checks.result_text(result))
        data(format, checks.results_data(results), lambda: checks.summary_text(results))
        if any(one.state == checks.FAILED for one in results):
            raise Exit(code=EX_SOFTWARE)


@task(
    auto_shortflags=False,
    iterable=["fault"],
    help={
        "file": "a cluster file: docs/clusters.md",
        "engine": "recorded (default): in seconds; vllm: vLLM itself on the processor, in minutes",
        "image": "what the nodes run (default: the engine's image of the release)",
        "model": "with --engine vllm: tiny (default), made here, or a model's directory",
        "faults": "kill, stop, freeze and cut off one after the other while requests go on",
        "fault": "of them only: killed, stopped, frozen, isolated, severed, a container, a node, a "
        "role, or several of these at once, as killed:decode-0; again for more",
        "timeout": "seconds until everything has to be healthy (default: the engine's)",
        "out": "where the page of the report goes (default: build/rehearsal/NAME.html)",
        "keep": "leave the containers and their network for a look",
        "format": FORMAT,
    },
)
def rehearse(
    c: Context,
    file: str,
    engine: str = "recorded",
    image: str = "",
    model: str = "",
    faults: bool = False,
    fault: list[str] | None = None,
    timeout: float = 0.0,
    out: str = "",
    keep: bool = False,
    format: str = "text",
) -> None:
    """Run a whole cluster on this machine, without NPUs: invoke rehearse cluster.yaml

    Every node is a container with an address of its own, with the image's entrypoint and roles. In
    place of vLLM on NPUs runs a recorded engine, or with --engine vllm, which wants the image of
    platform cpu, vLLM itself on the processor with a tiny model:

    invoke rehearse clusters/examples/pd-3node.yaml --engine vllm

    Exits with 70 when anything fails.
    """
    with problems_in_plain_words():
        from clusters.file.read import load
        from common.errors import EX_SOFTWARE
        from common.paths import WORK
        from validation.rehearsal import engines, html_report
        from validation.rehearsal.rehearsal_report import report_data, report_text
        from validation.rehearsal.rehearse import Options
        from validation.rehearsal.rehearse import rehearse as run

        cluster = load(file, say)
        runs = engines.select(engine, cluster, image, model)
        ills = tuple(fault or ()) if faults or fault else None
        report = run(cluster, runs, Options(ills, timeout or None, keep), sys.stderr)
        path = Path(out) if out else WORK / "rehearsal" / f"{cluster.name}.html"
        data(format, report_data(report), lambda: report_text(report))
        say(f"page: {html_report.write(report, path)}")
        if not report.passed:
            raise Exit(code=EX_SOFTWARE)


@task(
    auto_shortflags=False,
    iterable=["compare"],
    help={
        "target": "the API, http://HOST:PORT; for latency and throughput the model instead",
        "recipe": "what is served: a name of `recipes`, a .yaml file, or the recipe itself",
        "case": "one of the benchmarks (default: the first that belongs to the recipe)",
        "kind": "serve (default), or without a server latency or throughput",
        "image": "run `vllm bench` of this image",
        "vllm": "run `vllm bench` of this command, in place of --image",
        "model": "the served model's name (default: the recipe's)",
        "tokenizer": "directory or name of the tokenizer (default: the recipe's model)",
        "scale": "a small run of the same shape: 0.01 makes 8 requests of 800 (default: 1)",
        "args": "further arguments of `vllm bench`, quoted as for a shell",
        "docker-args": "further options of `docker run`: devices, mounts",
        "key-env": KEY_ENV,
        "out": OUT,
        "compare": "a result to compare with; again for more (default: all of the case in --out)",
        "format": FORMAT,
    },
)
def bench(
    c: Context,
    target: str,
    recipe: str = "",
    case: str = "",
    kind: str = "serve",
    image: str = "",
    vllm: str = "",
    model: str = "",
    tokenizer: str = "",
    scale: float = 1.0,
    args: str = "",
    docker_args: str = "",
    key_env: str = "VLLM_API_KEY",
    out: str = "build/trials",
    compare: list[str] | None = None,
    format: str = "text",
) -> None:
    """Benchmark as the reference did: invoke bench http://10.0.0.1:8000 --recipe R --image IMAGE

    Runs `vllm bench`, keeps its result in --out as JSON, compares it with earlier ones and with
    the reference, and draws them all into --out/index.html. The case of prefill and decode wants
    the proxy's address.

    invoke bench http://10.0.0.9:12347 --recipe qwen3-235b-a22b-w8a8/pd-3node-a3 --image IMAGE
    invoke bench http://127.0.0.1:8000 --recipe R --vllm vllm --scale 0.01
    invoke bench /weights/Qwen3 --kind latency --vllm vllm --args "--tensor-parallel-size 8"

    Exits with 69 when nobody answers, 70 when the benchmark fails or a request did, 65 for a
    result to compare with that is none.
    """
    with problems_in_plain_words():
        from common.errors import EX_SOFTWARE
        from validation.endpoint import (
            bench,
            benchmark_html,
            benchmark_report,
            benchmark_results,
            benchmarks,
            run_records,
        )
        from validation.endpoint.client import Endpoint

        known = benchmarks.load()
        program = bench.select_vllm(image, vllm, bench.split_words("--docker-args", docker_args))
        chosen = bench.load_recipe(recipe, kind)
        one = known.case(kind, chosen.name, case)
        more = bench.split_words("--args", args)
        run = bench.plan_run(one, target, chosen, model, tokenizer, scale, more)
        folder = run_records.create_directory(Path(out))
        earlier = benchmark_results.read_all(folder, known)
        others = (
            benchmark_results.read_comparable(compare, one, scale, known) if compare else earlier
        )
        key = environ().get(key_env, "")
        if kind == bench.SERVE:
            Endpoint(run.target, key).served_model(run.model)
        record = bench.run_benchmark(run, program, known, key)
        file = run_records.write(folder, record, record["recipe"] or run.target, one.name)
        result = benchmark_results.result(record, known, str(file))
        drawn = benchmark_html.write(folder, [*earlier, result], known)
        rows = benchmark_results.compare(result, others)
        files = {"file": str(file), "page": str(drawn)}
        data(
            format,
            benchmark_report.benchmark_data(result, rows, files),
            lambda: benchmark_report.benchmark_text(result, rows, known),
        )
        say(f"kept in {file}, drawn in {drawn}")
        if result.failed:
            raise Exit(code=EX_SOFTWARE)


@task(
    auto_shortflags=False,
    help={
        "url": "the API: http://HOST:PORT, of a server, a leader or a proxy",
        "dataset": "ceval or gsm8k",
        "data": "the directory of the data set, which you supply",
        "model": "the served model's name (default: the first that the endpoint lists)",
        "max-out-len": "tokens that an answer may have (default: 32768, upstream's)",
        "batch-size": "questions asked at once (default: 32)",
        "ais-bench": "an ais_bench that is installed (default: one made in build/ais-bench)",
        "key-env": KEY_ENV,
        "out": OUT,
        "format": FORMAT,
    },
)
def accuracy(
    c: Context,
    url: str,
    dataset: str = "",
    data: str = "",
    model: str = "",
    max_out_len: int = 32768,
    batch_size: int = 32,
    ais_bench: str = "",
    key_env: str = "VLLM_API_KEY",
    out: str = "build/trials",
    format: str = "text",
) -> None:
    """Score answers by AISBench: invoke accuracy http://10.0.0.1:8000 --dataset ceval --data DIR

    With upstream's settings, on data that you supply; keeps the result in --out as JSON and
    AISBench's own files beside it, and compares it with the reference's figure. A whole set takes
    hours on one node. Exits with 65 when the data are incomplete, 69 when nobody answers or
    AISBench cannot be installed, 70 when it fails or a question got no answer.
    """
    with problems_in_plain_words():
        from common.errors import EX_SOFTWARE, user_error
        from images.locking.index import Wheels
        from validation.endpoint import accuracy as measurement
        from validation.endpoint import ais_bench as program
        from validation.endpoint import datasets, run_records

        settings = datasets.Settings.load()
        known = settings.dataset(dataset)
        if not data:
            raise user_error("--data", "is missing", known.advice)
        given = datasets.check_data(known, Path(data))
        target = measurement.check_target(
            url, model, environ().get(key_env, ""), max_out_len, batch_size
        )
        path = (
            program.find_program(ais_bench)
            if ais_bench
            else program.install(settings, Wheels.of(environ()), say)
        )
        folder = run_records.create_directory(Path(out))
        work = run_records.create_run_directory(folder, "ais-bench", dataset)
        record = measurement.measure(settings, given, target, path, work)
        file = run_records.write(folder, record, dataset, record["model"])
        common.data(format, record, lambda: "\n".join(measurement.report_lines(record, given)))
        say(f"kept in {file}, AISBench's files in {work}")
        if record["failed"]:
            raise Exit(code=EX_SOFTWARE)
