"""python -m benchmarks.proxy: ROLE=proxy under load, compared with its peers; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.layers import machine
from benchmarks.proxy import cases, probe, proxy_report, wrk
from benchmarks.proxy.cases import ROUTER, WAYS, Case, Sample, Way
from benchmarks.proxy.testbed import (
    Processors,
    Target,
    Testbed,
    cpu_seconds,
    memory,
    open_testbed,
    pin_to,
)
from common.errors import EX_SOFTWARE, EX_USAGE, Finding, UserError, user_error

CHECKED = 400  # completions of the check, half of them streams
CHECKED_SIZE = 4096  # bytes of their prompts


def measure(bed: Testbed, wrk_: str, way: Way, target: Target, case: Case, seconds: int) -> Sample:
    """Measure a case with one way to the servers."""
    url = f"http://127.0.0.1:{target.port}"
    run = uuid.uuid4().hex[:12]
    argv = wrk.command(wrk_, url, case, seconds, run, target.two)
    looks = probe.Probe(target.port, bed.servers, target.two) if case.stream else None
    proxy, servers, own, (used, all_) = target.cpu(), cpu_seconds(bed.backend), _own(), _ticks()
    with looks or nullcontext():
        load = wrk.run(argv)
    counts = bed.counts(run)
    proxy, servers = target.cpu() - proxy, cpu_seconds(bed.backend) - servers
    own, (used_after, all_after) = _own() - own, _ticks()
    ours = (proxy + servers + own) * os.sysconf("SC_CLK_TCK")
    wrong = cases.wrong_of(counts, case.connections)
    if looks:
        wrong["stream held back or cut"] = len(looks.wrong)
    return Sample(
        way=way.name,
        case=case,
        load=load,
        cpu=proxy,
        servers_cpu=servers,
        client_cpu=own,
        served=counts["decode"],
        others=max(0.0, (used_after - used - ours) / max(1, all_after - all_)),
        wrong=wrong,
        elsewhere=counts["elsewhere"],
        first=looks.first if looks else (),
    )


def check(bed: Testbed, way: Way, target: Target) -> list[str]:
    """Check that CHECKED concurrent answers are complete and correct, with a pair of hops each."""
    bed.counts()
    filling = "the future of AI is " * (CHECKED_SIZE // 20)
    wrong = list(probe.many(target.port, bed.servers, target.two, CHECKED, filling))
    counts = bed.counts()
    wrong += [f"{name}: {n}" for name, n in cases.wrong_of(counts, 0).items() if n]
    hops = counts["prefill"], counts["decode"]
    if hops != (CHECKED, CHECKED):
        wrong.append(f"{CHECKED} requests were {hops[0]} prefills and {hops[1]} decodes")
    return [f"{way.name}: {one}" for one in wrong]


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    # Ended from outside, it still removes its containers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return _run(given)
    except UserError as error:
        print("\n".join(f"error: {one}" for one in error.findings), file=sys.stderr)
        return error.exit_code


def _run(given: argparse.Namespace) -> int:
    _refuse(given)
    wrk_ = wrk.find()
    processors = Processors.split(sorted(os.sched_getaffinity(0)), given.proxy_cpus)
    ways = [*WAYS, *(_also(one) for one in given.also)]
    kinds = [one == "stream" for one in given.answers]
    all_ = cases.cases(kinds, given.sizes, given.connections)
    load, busy = os.getloadavg(), machine.busy()
    samples: list[Sample] = []
    patience = cases.Patience(given.patience)
    begun = time.monotonic()
    with open_testbed(given.image, processors) as bed:
        targets = {way.name: bed.start(way) for way in ways}
        pin_to(processors.rest)
        for target in targets.values():
            bed.wait(target)
        wrong = [one for way in ways for one in check(bed, way, targets[way.name])]
        for number in range(given.rounds):
            for count, case in enumerate(all_):
                for way in cases.turn(ways, number + count):
                    _say(f"round {number + 1}/{given.rounds}: {case.title}: {way.name}")
                    samples.append(
                        patience.calmest(
                            partial(measure, bed, wrk_, way, targets[way.name], case, given.seconds)
                        )
                    )
        held = {name: memory(one.container) for name, one in targets.items() if one.container}
    wrong += proxy_report.errors(samples)
    table = proxy_report.figures(samples, len(processors.proxy), len(processors.rest))
    others = [one.others for one in samples]
    about = {
        "architecture": platform.machine(),
        "processors": asdict(processors),
        "load_before": load,
        "busy_before": busy,
        "load_after": os.getloadavg(),
        "others": {"median": median(others), "most": max(others)},
        "seconds": time.monotonic() - begun,
    }
    print(proxy_report.text(table, ways))
    more = proxy_report.elsewhere(table)
    print("\nfurther requests to the servers for a completion:", end=" ")
    print(", ".join(f"{name} {more[name]:.1f}" for name in held))
    print("MiB at the end:", ", ".join(f"{name} {bytes_ >> 20}" for name, bytes_ in held.items()))
    print(
        f"load before {load[0]:.1f}, {busy:.0%} of the processors in use;"
        f" others used {median(others):.0%} of them meanwhile, {max(others):.0%} at most;"
        f" {about['seconds']:.0f} s in all"
    )
    print("\n".join(f"error: {one}" for one in wrong) or "errors: 0")
    if given.out:
        answer = {
            "machine": about,
            "image": given.image,
            "ways": [asdict(way) for way in ways],
            "memory": held,
            "wrong": wrong,
            "table": proxy_report.data(table),
            "samples": [asdict(one) for one in samples],
        }
        given.out.write_text(json.dumps(answer, indent=1) + "\n")
    if wrong:
        return EX_SOFTWARE
    return 0 if proxy_report.passed(table) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxy", description=__doc__)
    parser.add_argument("image", help="an image made by `invoke build`")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--seconds", type=int, default=2, help="of load for each (2)")
    parser.add_argument(
        "--sizes", type=_numbers, default=[100, 65536], help="bytes of a prompt (100,65536)"
    )
    parser.add_argument(
        "--connections",
        type=_numbers,
        default=[1, 16, 128],
        help="each with a request at a time (1,16,128)",
    )
    parser.add_argument(
        "--answers",
        type=lambda text: text.split(","),
        default=["whole", "stream"],
        help="(whole,stream)",
    )
    parser.add_argument("--proxy-cpus", type=int, default=1, help="processors of the proxy (1)")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=ARGUMENTS",
        help=f"another way: {ROUTER} with more arguments, as 'rr=--policy round_robin'",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60,
        help="seconds in which to repeat what others on the machine disturbed (60)",
    )
    parser.add_argument("--out", type=Path, help="write everything measured as JSON")
    return parser


def _refuse(given: argparse.Namespace) -> None:
    """Raise UserError (64) with every invalid option."""
    least = (
        ("--rounds", [given.rounds], 1),
        ("--seconds", [given.seconds], 1),
        ("--sizes", given.sizes, cases.LEAST_SIZE),
        ("--connections", given.connections, 1),
        ("--proxy-cpus", [given.proxy_cpus], 1),
    )
    wrong = [
        Finding(name, f"{one} is less than {limit}")
        for name, values, limit in least
        for one in values
        if one < limit
    ]
    kinds = set(given.answers) - {"whole", "stream"}
    wrong += [Finding("--answers", f"{one!r} is neither whole nor stream") for one in sorted(kinds)]
    if wrong:
        raise UserError(wrong)


def _also(text: str) -> Way:
    name, equals, arguments = text.partition("=")
    if not equals or not arguments:
        raise user_error("--also", f"{text!r} is not NAME=ARGUMENTS", "", EX_USAGE)
    return Way(name, ROUTER, tuple(arguments.split()))


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def _own() -> float:
    """CPU seconds of this process and of its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _ticks() -> tuple[int, int]:
    total, idle = machine.ticks()
    return total - idle, total


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
