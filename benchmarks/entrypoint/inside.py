"""Run in the image: time each way to start one command, alternating, and print ms as JSON.

inside.py RUNS      the node's variables are in the environment
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

INIT = ["/opt/vllm/bin/dumb-init", "--single-child", "--", "/opt/vllm/bin/entrypoint"]
SOURCES = """\
. /usr/local/Ascend/ascend-toolkit/set_env.sh
. /usr/local/Ascend/nnal/atb/set_env.sh{abi}
"""
# What the ENV of the image adds for us and set_env.sh for the script: taken away from the latter.
BAKED = ("LD_LIBRARY_PATH", "PYTHONPATH", "ATB_", "LCCL_", "ASCEND_", "TOOLCHAIN_HOME")


def script(plan: str, abi: str) -> str:
    """The plan as people would write it by hand: a script that sources, exports and execs."""
    first, rest = plan.split("\n", 1)
    return f"{first}\n{SOURCES.format(abi=abi)}{rest.replace('vllm serve', 'exec vllm serve', 1)}"


def once(command: list[str], environ: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    took = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr.decode()}")
    return took * 1000


def main(runs: int) -> None:
    folder = Path("/tmp/bench")
    (folder / "bin").mkdir(parents=True)
    # Ends at once, so that what is timed ends where the command begins.
    (folder / "bin" / "vllm").symlink_to("/bin/true")
    ours = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    plain = {name: value for name, value in ours.items() if not name.startswith(BAKED)}
    plan = subprocess.run([INIT[-1], "plan"], env=ours, capture_output=True, text=True, check=True)
    shells: dict[str, list[str]] = {}
    for name, abi in (("bash", ""), ("bash, ABI given", " --cxx_abi=1")):
        path = folder / f"{len(shells)}.sh"
        path.write_text(script(plan.stdout, abi))
        shells[name] = ["bash", str(path)]
    ways: dict[str, tuple[list[str], dict[str, str], int]] = {
        "start": (INIT, ours, runs),
        "bash": (shells["bash"], plain, max(runs // 10, 3)),
        "bash, ABI given": (shells["bash, ABI given"], plain, runs),
        "plan": ([INIT[-1], "plan"], ours, runs),
        "python3 -c pass": (["python3", "-c", "pass"], ours, runs),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs):
        for name, (command, environ, count) in ways.items():
            if turn < count:
                times[name].append(once(command, environ))
    print(
        json.dumps(
            {
                name: {
                    "median": median(all_),
                    "p90": quantiles(all_, n=10)[-1],
                    "runs": len(all_),
                }
                for name, all_ in times.items()
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
