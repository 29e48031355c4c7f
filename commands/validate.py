"""Commands that ask a running endpoint, or a whole cluster in rehearsal, whether it works."""

from __future__ import annotations

import sys
from pathlib import Path

from invoke import Exit

from commands.command import argument, command, option, output, say
from commands.options import (
    CERTIFICATES,
    CLUSTER_FILE,
    FORMAT,
    KEY_ENV,
    RESULTS,
    URL,
    environ,
    recipes,
)
from common.paths import WORK

SERVED_MODEL = option("the served model's name (default: the first that the endpoint lists)")


@command
def verify(
    url: str = URL,
    model: str = SERVED_MODEL,
    key_env: str = KEY_ENV,
    timeout: float = option("seconds that an answer may take", default=60),
    certificates: str = CERTIFICATES,
    format: str = FORMAT,
) -> None:
    """Check that an endpoint answers correctly

    Models, completions and chat, streamed and not, usage, stop, concurrent requests, and the
    answers to bad requests. Exits with 70 when something is wrong, 69 when there is no answer.

        invoke verify http://10.0.0.1:8000
    """
    from common.errors import EX_SOFTWARE
    from validation.endpoint import verify as checks
    from validation.endpoint.client import Endpoint

    endpoint = Endpoint(url, environ().get(key_env, ""), timeout, certificates)
    results = []
    for result in checks.verify(endpoint, model):
        results.append(result)
        tell = print if format == "text" else say
        tell(checks.result_text(result))
    output(format, checks.results_data(results), lambda: checks.summary_text(results))
    if any(one.state == checks.FAILED for one in results):
        raise Exit(code=EX_SOFTWARE)


@command
def rehearse(
    file: str = CLUSTER_FILE,
    engine: str = option(
        "recorded: takes seconds; vllm: vLLM itself on the CPU, minutes",
        ("recorded", "vllm"),
        default="recorded",
    ),
    image: str = option("what the nodes run (default: the engine's image of the release)"),
    model: str = option(
        "with --engine vllm: a model's directory, or tiny (default), generated here"
    ),
    faults: bool = option("inject every fault, one after the other, under continuous requests"),
    fault: list[str] = option(
        "inject only the faults of a kind (killed, stopped, frozen, isolated, severed), container,"
        " node or role, or of a combination such as killed:decode-0; repeatable",
        ("killed", "stopped", "frozen", "isolated", "severed"),
    ),
    timeout: float = option("seconds until everything has to be healthy (default: the engine's)"),
    out: str = option("write the report's page here (default: build/rehearsal/NAME.html)"),
    keep: bool = option("leave the containers and their network in place"),
    format: str = FORMAT,
) -> None:
    """Run a whole cluster on this machine, without NPUs

    Each node is a container with its own address that runs the image's entrypoint and roles. A
    recorded engine replaces vLLM on NPUs; with --engine vllm, vLLM itself runs on the CPU with a
    tiny model, in the image of platform cpu. Exits with 70 when anything fails.

        invoke rehearse cluster.yaml
        invoke rehearse clusters/examples/pd-3node.yaml --engine vllm
    """
    from clusters.file.read import load
    from common.errors import EX_SOFTWARE
    from validation.rehearsal import html_report, select_engine
    from validation.rehearsal.rehearsal_report import report_data, report_text
    from validation.rehearsal.rehearse import Options
    from validation.rehearsal.rehearse import rehearse as run

    cluster = load(file, say)
    runs = select_engine.select(engine, cluster, image, model)
    ills = tuple(fault) if faults or fault else None
    report = run(cluster, runs, Options(ills, timeout or None, keep), sys.stderr)
    path = Path(out) if out else WORK / "rehearsal" / f"{cluster.name}.html"
    output(format, report_data(report), lambda: report_text(report))
    say(f"page: {html_report.write(report, path)}")
    if not report.passed:
        raise Exit(code=EX_SOFTWARE)


@command
def bench(
    target: str = argument("the API, http://HOST:PORT; for latency and throughput the model"),
    recipe: str = option("a recipe's name, a .yaml file, or the recipe itself", recipes),
    case: str = option("one of the benchmarks (default: the first that belongs to the recipe)"),
    kind: str = option(
        "serve, or without a server latency or throughput",
        ("serve", "latency", "throughput"),
        default="serve",
    ),
    image: str = option("run `vllm bench` of this image"),
    program: str = option("run `vllm bench` of this vllm executable instead of --image"),
    model: str = option("the served model's name (default: the recipe's)"),
    tokenizer: str = option("directory or name of the tokenizer (default: the recipe's model)"),
    scale: float = option(
        "a smaller run of the same shape: 0.01 sends 8 requests of 800", default=1
    ),
    args: str = option("more arguments of `vllm bench`, quoted as for a shell"),
    docker_args: str = option("more options of `docker run`: devices, mounts"),
    key_env: str = KEY_ENV,
    out: str = RESULTS,
    compare: list[str] = option("a result to compare with; repeatable (default: those in --out)"),
    format: str = FORMAT,
) -> None:
    """Benchmark an endpoint and compare with the reference

    Runs `vllm bench`, keeps its result in --out as JSON, compares it with earlier ones, with the
    reference and with upstream's own tests, and draws them all into --out/index.html. Cases of
    prefill and decode need the proxy's address. Exits with 69 when there is no answer, 70 when the
    benchmark or a request fails, 65 when a file to compare with is not a result.

        invoke bench http://10.0.0.1:8000 --recipe R --image IMAGE
        invoke bench http://10.0.0.9:12347 --recipe qwen3-235b-a22b-w8a8/pd-3node-a3 --image IMAGE
        invoke bench http://127.0.0.1:8000 --recipe R --program vllm --scale 0.01
        invoke bench /weights/Qwen3 --kind latency --program vllm --args "--tensor-parallel-size 8"
    """
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
    vllm = bench.select_vllm(image, program, bench.split_words("--docker-args", docker_args))
    chosen = bench.load_recipe(recipe, kind)
    one = known.case(kind, chosen.name, case)
    more = bench.split_words("--args", args)
    run = bench.plan_run(one, target, chosen, model, tokenizer, scale, more)
    folder = run_records.create_directory(Path(out) if out else WORK / "results")
    earlier = benchmark_results.read_all(folder, known)
    others = benchmark_results.read_comparable(compare, one, scale, known) if compare else earlier
    key = environ().get(key_env, "")
    if kind == bench.SERVE:
        Endpoint(run.target, key).served_model(run.model)
    record = bench.run_benchmark(run, vllm, known, key)
    file = run_records.write(folder, record, record["recipe"] or run.target, one.name)
    result = benchmark_results.result(record, known, str(file))
    drawn = benchmark_html.write(folder, [*earlier, result], known)
    rows = benchmark_results.compare(result, others)
    files = {"file": str(file), "page": str(drawn)}
    output(
        format,
        benchmark_report.benchmark_data(result, rows, files),
        lambda: benchmark_report.benchmark_text(result, rows, known),
    )
    say(f"kept in {file}, drawn in {drawn}")
    if result.failed:
        raise Exit(code=EX_SOFTWARE)


@command
def accuracy(
    url: str = URL,
    dataset: str = option("ceval or gsm8k", ("ceval", "gsm8k")),
    data: str = option("the directory of the data set, which you supply"),
    model: str = SERVED_MODEL,
    recipe: str = option("the recipe that is served, to compare with upstream's figure", recipes),
    max_out_len: int = option("maximum tokens of an answer; upstream's value", default=32768),
    batch_size: int = option("concurrent questions", default=32),
    ais_bench: str = option("an installed ais_bench (default: one in build/ais-bench)"),
    key_env: str = KEY_ENV,
    out: str = RESULTS,
    format: str = FORMAT,
) -> None:
    """Score the answers of an endpoint with AISBench

    With upstream's settings, on data that you supply. Keeps the result in --out as JSON and
    AISBench's own files beside it. Compares it with the reference's figure and, given --recipe,
    with that of upstream's test of the recipe. A whole set takes hours on one node. Exits with 65
    when the data are incomplete, 69 when there is no answer or AISBench cannot be installed, 70
    when it fails or a question got no answer.

        invoke accuracy http://10.0.0.1:8000 --dataset ceval --data DIR
    """
    from common.errors import EX_SOFTWARE, user_error
    from entrypoints.inputs import recipes as recipe_library
    from images.locking.index import Wheels
    from validation.endpoint import accuracy as measurement
    from validation.endpoint import ais_bench as program
    from validation.endpoint import datasets, run_records

    if recipe and recipe not in recipe_library.names():
        unknown = recipe_library.unknown(recipe)
        raise user_error("--recipe", unknown.message, unknown.fix)
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
    folder = run_records.create_directory(Path(out) if out else WORK / "results")
    work = run_records.create_run_directory(folder, "ais-bench", dataset)
    record = measurement.measure(settings, given, target, path, work, recipe)
    file = run_records.write(folder, record, dataset, record["model"])
    output(format, record, lambda: "\n".join(measurement.report_lines(record, given)))
    say(f"kept in {file}, AISBench's files in {work}")
    if record["failed"]:
        raise Exit(code=EX_SOFTWARE)
