"""Commands that make images, and what they are made from."""

from __future__ import annotations

from pathlib import Path

from invoke import Context, task

from commands.common import (
    BASE,
    CERTIFICATES,
    FORMAT,
    OS,
    PLATFORM,
    RELEASE,
    data,
    environ,
    problems_in_plain_words,
    say,
    words,
)


@task(
    auto_shortflags=False,
    help={
        "platform": PLATFORM,
        "release": RELEASE,
        "os": OS,
        "arch": "arm64, amd64 or both (default: this machine's)",
        "all": "every platform and OS of the release, in one graph",
        "base": BASE + "; default: the published CANN image",
        "cann-packages": "a directory of CANN's .run installers and SHA256SUMS",
        "share-cann": "take CANN's files in layers that platforms share, instead of the base's own",
        "tools": "image with Python and pip that the stages run on, or 'debian' to make one",
        "registry": "put this before the image's name: registry.example.com/team",
        "push": "push to the registry instead of loading into the engine",
        "builder": "a buildx builder: remote, Kubernetes, … (docker buildx ls)",
        "compression": "zstd (default) or gzip",
        "source": "NAME=DIR|URL for vllm-ascend, mooncake or yalantinglibs; repeatable",
        "engine": "platform cpu: which vLLM of the matrix (default: the release's)",
        "wheels": "platform cpu: a directory with a torch that no index in reach has",
        "pip-index": "package index (default: UV_DEFAULT_INDEX or PIP_INDEX_URL)",
        "torch-index": "PyTorch's CPU index (default: TORCH_CPU_INDEX)",
        "apt-mirror": "replaces the hosts of apt's sources (default: APT_MIRROR)",
        "dnf-mirror": "replaces the hosts of dnf's repositories (default: DNF_MIRROR)",
        "registry-mirror": "MIRROR put before image names, or HOST=MIRROR (or REGISTRY_MIRROR)",
        "certificates": "CA bundle for downloads (default: SSL_CERT_FILE, or the host's)",
        "netrc": "credentials for the indexes (default: NETRC or ~/.netrc)",
        "offline": "a directory that invoke fetch made: build from it, without any network",
        "no-cache": "build every stage again",
        "budget": "--no-budget accepts an image above its budget (images/build/budgets.yaml)",
        "dry-run": "show what would be built and what is there already; build nothing",
        "format": FORMAT,
    },
    iterable=["source"],
)
def build(
    c: Context,
    platform: str = "",
    release: str | None = None,
    os: str = "ubuntu22.04",
    arch: str = "",
    all: bool = False,
    base: str | None = None,
    cann_packages: str | None = None,
    share_cann: bool = False,
    tools: str | None = None,
    registry: str = "",
    push: bool = False,
    builder: str | None = None,
    compression: str = "zstd",
    source: list[str] | None = None,
    engine: str | None = None,
    wheels: str | None = None,
    pip_index: str | None = None,
    torch_index: str | None = None,
    apt_mirror: str | None = None,
    dnf_mirror: str | None = None,
    registry_mirror: str | None = None,
    certificates: str | None = None,
    netrc: str | None = None,
    offline: str | None = None,
    no_cache: bool = False,
    budget: bool = True,
    dry_run: bool = False,
    format: str = "text",
) -> None:
    """Build images: invoke build --platform a3

    Layers CANN, torch with torch_npu and triton_ascend, Mooncake, vLLM and vllm-ascend from the
    locked pins of one release. Anywhere, without a registry:

        invoke build --platform a3 --base stand-in

    Without NPUs, vLLM that serves on the processor: invoke build --platform cpu
    """
    with problems_in_plain_words():
        from images.build import build as builds
        from images.build import bundle as bundles
        from images.build import options as how
        from images.build import report, targets
        from images.matrix import load
        from images.mirrors import Mirrors
        from images.offline import needs

        matrix = load()
        asking = {
            "pip_index": pip_index,
            "torch_index": torch_index,
            "apt_mirror": apt_mirror,
            "dnf_mirror": dnf_mirror,
            "registry_mirror": registry_mirror,
        }
        bundle = bundles.opened(Path(offline), asking) if offline else None
        options = how.Options(
            arches=how.arches(matrix, words(arch)),
            base=base,
            cann_packages=Path(cann_packages) if cann_packages else None,
            share_cann=share_cann,
            tools=tools,
            registry=registry,
            push=push,
            builder=builder,
            compression=compression,
            no_cache=no_cache,
            budget=budget,
            sources=how.sources(source or []),
            wheels=how.wheels(wheels),
            mirrors=bundle.mirrors
            if bundle
            else Mirrors.of(environ(), **asking, certificates=certificates, netrc=netrc),
            offline=bundle,
        )
        variants = how.chosen(matrix, release, words(platform), words(os), all, engine)
        chosen = targets.resolve(matrix, variants, options, say)
        if bundle:
            needs.check(chosen, bundle, say)
        if dry_run:
            planned = builds.planned(chosen)
            data(format, report.plan_data(planned), lambda: report.plan_text(planned))
            return
        built = builds.build(chosen, say)
        data(format, report.built_data(built), lambda: report.built_text(built))
        sizes = {target: one.sizes for target, one in zip(chosen, built, strict=True)}
        builds.enforce_budgets(sizes)


@task(
    auto_shortflags=False,
    help={
        "directory": "where the bundle goes, or is completed",
        "platform": PLATFORM,
        "release": RELEASE,
        "os": OS,
        "arch": "arm64, amd64 or both (default: this machine's)",
        "all": "every platform and OS of the release",
        "base": BASE + "; default: the published CANN image",
        "cann-packages": "as build has it; the directory does not go into the bundle",
        "share-cann": "as build has it",
        "tools": "as build has it",
        "builder": "as build has it",
        "source": "as build has it; repeatable",
        "engine": "as build has it",
        "wheels": "as build has it; what is taken of it goes into the bundle",
        "pip-index": "as build has it",
        "torch-index": "as build has it",
        "registry-mirror": "as build has it; apt's and dnf's mirrors come from the environment",
        "certificates": CERTIFICATES,
        "format": FORMAT,
    },
    iterable=["source"],
)
def fetch(
    c: Context,
    directory: str,
    platform: str = "",
    release: str | None = None,
    os: str = "ubuntu22.04",
    arch: str = "",
    all: bool = False,
    base: str | None = None,
    cann_packages: str | None = None,
    share_cann: bool = False,
    tools: str | None = None,
    builder: str | None = None,
    source: list[str] | None = None,
    engine: str | None = None,
    wheels: str | None = None,
    pip_index: str | None = None,
    torch_index: str | None = None,
    registry_mirror: str | None = None,
    certificates: str | None = None,
    format: str = "text",
) -> None:
    """Bring what a build needs from the network into DIR: invoke fetch DIR --platform a3

    invoke build --offline DIR then needs none. Cut off and run again, it completes.
    """
    with problems_in_plain_words():
        from images.build import options as how
        from images.build import targets
        from images.matrix import load
        from images.mirrors import Mirrors
        from images.offline import fetch as fetching

        matrix = load()
        options = how.Options(
            arches=how.arches(matrix, words(arch)),
            base=base,
            cann_packages=Path(cann_packages) if cann_packages else None,
            share_cann=share_cann,
            tools=tools,
            builder=builder,
            sources=how.sources(source or []),
            wheels=how.wheels(wheels),
            mirrors=Mirrors.of(
                environ(),
                pip_index=pip_index,
                torch_index=torch_index,
                registry_mirror=registry_mirror,
                certificates=certificates,
            ),
        )
        variants = how.chosen(matrix, release, words(platform), words(os), all, engine)
        chosen = targets.resolve(matrix, variants, options, say)
        made = fetching.fetch(chosen, Path(directory), say)
        data(format, fetching.fetched_data(made), lambda: fetching.fetched_text(made))


@task(
    auto_shortflags=False,
    help={
        "platform": "a platform of the matrix: a2, a3, …",
        "release": RELEASE,
        "os": "ubuntu22.04 (default) or openeuler24.03",
        "base": BASE,
        "share-cann": "as build has it",
        "engine": "as build has it",
        "environment": "an environment.json captured by a build, to bake it as the build does",
    },
)
def render(
    c: Context,
    platform: str = "",
    release: str | None = None,
    os: str = "ubuntu22.04",
    base: str | None = None,
    share_cann: bool = False,
    engine: str | None = None,
    environment: str | None = None,
) -> None:
    """Print the Dockerfile of an image, without network or engine: invoke render --platform a3"""
    with problems_in_plain_words():
        from images.build import options as how
        from images.build import render as renders
        from images.matrix import load

        matrix = load()
        names = [platform] if platform else []
        (variant,) = how.chosen(matrix, release, names, [os], False, engine)
        captured = renders.Environment.read(Path(environment)) if environment else None
        print(renders.printed(matrix, variant, base, share_cann, captured))


@task(
    auto_shortflags=False,
    help={
        "release": RELEASE,
        "all": "every release of the matrix that can be locked",
        "check": "resolve nothing: fail where the matrix and the locks disagree",
        "tools": "what the build itself installs, instead of a release",
        "engine": "a vLLM of platform cpu, instead of a release",
        "arch": "with --engine: arm64, amd64 or both (default: this machine's)",
        "wheels": "with --engine: where wheels lie (default: UV_ or PIP_FIND_LINKS)",
        "torch-index": "PyTorch's CPU index (default: TORCH_CPU_INDEX); for a release, of amd64",
    },
)
def lock(
    c: Context,
    release: str | None = None,
    all: bool = False,
    check: bool = False,
    tools: bool = False,
    engine: str | None = None,
    arch: str = "",
    wheels: str | None = None,
    torch_index: str | None = None,
) -> None:
    """Resolve a release's packages as of its date into hash-pinned slices: invoke lock --release R

    Without --release, --check looks at everything that has a lock.
    """
    with problems_in_plain_words():
        from common.errors import EX_DATAERR, UserError
        from images.build import options as how
        from images.locking import cpu as engines
        from images.locking import lock as locks
        from images.locking.index import Wheels
        from images.matrix import load

        matrix = load()
        if check:
            checked = locks.checked(matrix, release)
            of_cpu = list(engines.locked(matrix))
            problems = [
                *locks.check_tools(matrix),
                *(p for r in checked for p in locks.check(matrix, r)),
                *(p for one, its in of_cpu for p in engines.check(matrix, one, [its])),
            ]
            if problems:
                raise UserError(problems, EX_DATAERR)
            names = [*(r.name for r in checked), *dict.fromkeys(one.lock for one, _ in of_cpu)]
            print(f"locks agree with the matrix: {', '.join(names)}")
            return
        if engine:
            found = Wheels.of(environ(), wheels, torch_index)
            chosen_arches = how.arches(matrix, words(arch))
            for path in engines.make(matrix, matrix.engine(engine), chosen_arches, found, say):
                print(path)
            return
        if tools:
            locks.lock_tools(matrix, say)
            return
        chosen = matrix.releases.values() if all else [matrix.release(release)]
        index = torch_index or environ().get("TORCH_CPU_INDEX")
        for one in chosen:
            print(locks.lock(matrix, one, index, say))


@task(
    auto_shortflags=False,
    help={
        "release": RELEASE + "; repeatable",
        "all": "every release of the matrix",
        "check": "write nothing: fail where the files differ from what vLLM says",
        "find-links": "where wheels lie, for a torch without CUDA (default: UV_ or PIP_FIND_LINKS)",
        "torch-index": "PyTorch's CPU index, for the same (default: TORCH_CPU_INDEX)",
        "format": FORMAT,
    },
    iterable=["release"],
)
def flags(
    c: Context,
    release: list[str] | None = None,
    all: bool = False,
    check: bool = False,
    find_links: str | None = None,
    torch_index: str | None = None,
    format: str = "text",
) -> None:
    """Ask a release's vLLM for its flags and variables: invoke flags --release R

    Writes env/flags and env/variables, by which the container checks what it is given.
    """
    with problems_in_plain_words():
        from common.errors import EX_DATAERR, UserError
        from images.locking.index import Wheels
        from images.matrix import load
        from upstream.catalogues import flags as catalogues

        matrix = load()
        chosen = catalogues.chosen(matrix, release or [], all)
        wheels = Wheels.of(environ(), find_links, torch_index)
        changed: list[Path] = []
        if check:
            problems = catalogues.check(chosen, wheels, say)
            if problems:
                raise UserError(problems, EX_DATAERR)
        else:
            changed = catalogues.update(chosen, wheels, say)
        rows = catalogues.summary(chosen, changed)
        data(format, rows, lambda: catalogues.summary_text(rows))
