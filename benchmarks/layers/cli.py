"""Our command line as users run it, for a base shaped like CANN that has no compiler.

`python -m benchmarks.layers.cli build …` is `invoke build …` with two differences. A base does not
compile: vllm-ascend is built without kernels, Mooncake is the package index's wheel and the
distribution's packages are left out, as on a stand-in. BuildKit's events go to the file that
BENCHMARK_RAWJSON names, for benchmarks.layers.steps.
"""

from __future__ import annotations

import os

from images.build.render import Base


def keep_events(path: str) -> None:
    """Append every line that BuildKit reports to `path`."""
    from images.build.progress import Progress

    feed = Progress.feed

    def feed_and_keep(self: Progress, line: str) -> None:
        with open(path, "a") as file:  # noqa: PTH123
            file.write(line)
        feed(self, line)

    Progress.feed = feed_and_keep  # type: ignore[method-assign]


def main() -> None:
    Base.compiles = property(lambda self: False)  # type: ignore[method-assign,assignment]
    if path := os.environ.get("BENCHMARK_RAWJSON"):
        keep_events(path)
    from invoke.main import program

    program.run()


if __name__ == "__main__":
    main()
