"""Our command line as the user runs it, for a base that has CANN's shape and not CANN's compiler.

`python -m benchmarks.layers.cli build …` is `invoke build …` with one difference: a base image does
not compile, so vllm-ascend is built without kernels, Mooncake is the package index's wheel and the
distribution's packages are left out, as on a stand-in.
"""

from __future__ import annotations

from images.render import Base


def main() -> None:
    Base.compiles = property(lambda self: False)  # type: ignore[method-assign,assignment]
    from invoke.main import program

    program.run()


if __name__ == "__main__":
    main()
