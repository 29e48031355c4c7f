"""python -m benchmarks.entrypoint: the time until the server starts; see README.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

INSIDE = Path(__file__).parent / "inside.py"
NODE = {
    "ROLE": "decode",
    "RECIPE": "qwen3-235b-a22b-w8a8/pd-3node-a3",
    "LOCAL_IP": "10.0.0.21",
    "NIC": "eth0",
    "PREFLIGHT": "off",
    "CANN_STANDIN": "0",
}
RATIOS = (
    ("start", "bash", 1.5),
    ("start", "bash, ABI given", None),
    ("plan", "python3 -c pass", 3.0),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.entrypoint", description=__doc__)
    parser.add_argument("image", help="an image made by `invoke build`")
    parser.add_argument("--runs", type=int, default=60, help="turns of each way (60)")
    parser.add_argument("--out", type=Path, help="write everything measured as JSON")
    given = parser.parse_args()
    command = ["docker", "run", "--rm", "-v", f"{INSIDE}:/inside.py:ro"]
    command += [f"--env={name}={value}" for name, value in NODE.items()]
    command += ["--entrypoint", "/opt/vllm/bin/python", given.image, "/inside.py", str(given.runs)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"error: {done.stderr.strip()}", file=sys.stderr)
        return 1
    times = json.loads(done.stdout)
    for name, time in times.items():
        print(f"{name:16} {time['median']:8.1f} ms, p90 {time['p90']:8.1f}, {time['runs']} runs")
    for ours, peer, target in RATIOS:
        ratio = times[ours]["median"] / times[peer]["median"]
        wanted = f" (target {target:.1f})" if target else ""
        print(f"{ours} / {peer}: {ratio:.3g}{wanted}")
    if given.out:
        given.out.write_text(json.dumps(times, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
