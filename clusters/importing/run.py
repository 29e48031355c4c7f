"""`invoke import`: reads scripts, writes recipes and cluster files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clusters.importing import external_dp, proxies, servers, sources, write
from clusters.importing.compare import CLUSTER, RECIPE, Comparison, compare
from clusters.importing.layout import Layout, OpenValue, build_layout
from clusters.importing.scripts import PROXY, RAY, SERVER, Script
from clusters.importing.servers import Server
from clusters.importing.shell import Note
from clusters.importing.sources import Source
from clusters.importing.write import Files
from common.errors import EX_DATAERR, EX_USAGE, Finding, UserError, user_error
from common.files import write_atomically
from entrypoints.findings import Finding as LaunchFinding
from entrypoints.inputs import catalogue, data, releases, stack
from entrypoints.inputs.catalogue import Catalogue

_IMAGE = re.compile(
    r"(?P<repository>.*vllm-ascend):(?P<release>v\d+(?:\.\d+)+(?:rc\d+|\.post\d+)?)(?P<more>[-\w]*)"
)


@dataclass(frozen=True)
class Options:
    """Options of the command line; empty when not given."""

    out: str = ""
    release: str = ""
    platform: str = ""
    name: str = ""
    given: Mapping[str, str] | None = None
    force: bool = False


@dataclass(frozen=True)
class Imported:
    """One deployment: its files, its layout, and notes about the scripts."""

    name: str
    files: Files
    layout: Layout
    comparison: Comparison
    guesses: tuple[str, ...]
    skipped: tuple[Note, ...]
    doubts: tuple[Note, ...]
    unread: tuple[Note, ...]
    folder: Path | None = None

    @property
    def open(self) -> tuple[OpenValue, ...]:
        return self.layout.open

    @property
    def lost(self) -> list[str]:
        return list(dict.fromkeys(map(str, (*self.unread, *self.comparison.lost))))


def run(paths: Sequence[str], options: Options) -> list[Imported]:
    """Import scripts, and write a recipe and a cluster file for each deployment in them.

    Raises UserError when a script cannot be read or starts no server, or when a file exists.
    """
    result = import_all(paths, options)
    root = Path(options.out or ".")
    folders = [root if len(result) == 1 else root / one.name for one in result]
    found = [f / name for f in folders for name in (RECIPE, CLUSTER) if (f / name).exists()]
    if found and not options.force:
        fix = "give another directory by --out, or replace it by --force"
        raise UserError([Finding(str(path), "exists already", fix) for path in found], EX_USAGE)
    done = []
    for one, folder in zip(result, folders, strict=True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in texts(one).items():
                write_atomically(folder / name, text)
        except OSError as error:
            raise user_error(str(error.filename or folder), error.strerror or str(error)) from None
        findings = tuple(
            replace(finding, file=str(folder / CLUSTER)) for finding in one.comparison.findings
        )
        done.append(
            replace(one, folder=folder, comparison=replace(one.comparison, findings=findings))
        )
    return done


def texts(one: Imported) -> dict[str, str]:
    """Both files as text, with comments where a value has to be filled in."""
    notes: dict[str, str] = {}
    machines = one.layout.machines
    places = {text for machine in machines for text in (machine.address, machine.nic)}
    for item in one.open:
        if item.stands in places:
            notes.setdefault(item.stands, f"to fill in: {item.name}")
    return {RECIPE: write.text(one.files.recipe), CLUSTER: write.text(one.files.cluster, notes)}


def import_all(paths: Sequence[str], options: Options) -> list[Imported]:
    """Import all deployments in the inputs, without writing files."""
    if not paths:
        raise user_error("SCRIPT", "is missing", "give shell scripts, documents or YAML files")
    found = sources.read(paths, options.given or {})
    result = [one for source in found for one in _import_source(source, options)]
    if not result:
        fix = "give scripts that run `vllm serve`"
        raise user_error(", ".join(paths), "starts no server", fix, EX_DATAERR)
    return _unique_names(result)


def _unique_names(result: Sequence[Imported]) -> list[Imported]:
    seen: Counter[str] = Counter()
    done = []
    for one in result:
        seen[one.name] += 1
        name = one.name if seen[one.name] == 1 else f"{one.name}-{seen[one.name]}"
        one.files.cluster["name"] = name
        done.append(replace(one, name=name))
    return done


def _import_source(source: Source, options: Options) -> Iterator[Imported]:
    scripts, notes = external_dp.expand(source.scripts, source.apart)
    serving = [one for one in scripts if one.kind == SERVER]
    if not serving:
        return
    release, stated = _release(scripts, options)
    known, own = _catalogue(release, serving)
    release = release or own
    guesses = [stated or f"release {release}: not stated, but the scripts fit it"]
    read = {one: servers.read(one, known) for one in dict.fromkeys(serving)}
    for deployment in _deployments(source, scripts, read):
        those, workers = _ray(deployment, [read[one] for one in deployment if one.kind == SERVER])
        layout = build_layout(those, workers)
        platform, why = _platform(source, deployment, those, options)
        match = _IMAGE.fullmatch(next((one.image for one in deployment if one.image), ""))
        image = match["repository"] if match and "$" not in match[0] else ""
        proxy, others = _proxy(deployment, layout)
        files = write.build_files(
            layout, _name(source, those, options), release, platform, image, proxy
        )
        unread = tuple(
            one.script.note(f"{word}: does not belong to a flag")
            for one in those
            for word in one.stray
        )
        yield Imported(
            name=files.cluster["name"],
            files=files,
            layout=layout,
            comparison=compare(files, layout, known),
            guesses=(*guesses, why),
            skipped=(*source.skipped, *others),
            doubts=(*source.doubts, *notes, *(note for one in those for note in one.notes)),
            unread=unread,
        )


def _ray(scripts: Sequence[Script], those: list[Server]) -> tuple[list[Server], list[Server]]:
    """The servers, with the settings of the Ray head, and the workers of the Ray cluster."""
    starts = [one for one in scripts if one.kind == RAY]
    heads = [one for one in starts if "--head" in one.words]
    runs = next((i for i, one in enumerate(those) if one.ray), 0)
    if heads:
        those = [*those[:runs], servers.ray_node(heads[0], those[runs]), *those[runs + 1 :]]
    return those, [servers.ray_node(one) for one in starts if one not in heads]


def _known(option: str, name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise user_error(option, f"{name!r} is unknown", f"known: {', '.join(names)}")
    return name


def _release(scripts: Sequence[Script], options: Options) -> tuple[str, str]:
    """The release of --release or of an image, and the text that says so."""
    names = data.names("releases")
    if options.release:
        if not releases.facts_of(options.release, names):
            what, fix = f"{options.release!r} is unknown", releases.meant(options.release, names)
            raise user_error("--release", what, fix)
        return _release_of(options.release, "--release")
    for one in scripts:
        match = _IMAGE.fullmatch(one.image)
        if match and releases.facts_of(match["release"], names):
            return _release_of(match["release"], f"the image at {one.at}")
    return "", ""


def _release_of(name: str, stated: str) -> tuple[str, str]:
    """A release, and a note: where it is stated, and whose facts it has if not its own."""
    found: list[LaunchFinding] = []
    release = stack.release(name, found)
    assert release is not None
    return release.name, ". ".join(
        (f"release {release.name}: {stated}", *(f.message for f in found))
    )


def _catalogue(release: str, serving: Sequence[Script]) -> tuple[Catalogue, str]:
    """The catalogue of the release, else of the one that knows most flags of the scripts."""
    default = data.read(data.path_of("defaults.yaml"))["release"]
    choices = [release] if release else [default, *reversed(data.names("releases"))]
    best: tuple[int, Catalogue, str] | None = None
    for name in dict.fromkeys(choices):
        result = stack.release(name, [])
        assert result is not None
        known = catalogue.load(result)
        read = [servers.read(one, known) for one in serving]
        unknown = {word for one in read for word in servers.unknown_names(one, known)}
        if best is None or len(unknown) < best[0]:
            best = (len(unknown), known, name)
        if not unknown:
            break
    assert best is not None
    return best[1], best[2]


def _platform(
    source: Source, scripts: Iterable[Script], those: Sequence[Server], options: Options
) -> tuple[str, str]:
    if options.platform:
        platform = _known("--platform", options.platform, data.names("platforms"))
        return platform, f"platform {platform}: --platform"
    for one in scripts:
        match = _IMAGE.fullmatch(one.image)
        if match and "-a3" in match["more"]:
            return "a3", f"platform a3: the image at {one.at}"
        if any(device > 7 for device in one.devices):
            return "a3", f"platform a3: the devices at {one.at}"
    if source.devices:
        platform = "a3" if source.devices > 8 else "a2"
        return platform, f"platform {platform}: {source.devices} NPUs on each node"
    for server in those:
        ranks = server.numbers.get("dp_local", server.numbers.get("dp", 1))
        local = server.each * (1 if server.external else ranks)
        if local > 8 * server.numbers.get("nnodes", 1):
            return "a3", f"platform a3: {local} NPUs on a node at {server.script.at}"
    words = " ".join(one.title for one in scripts).lower()
    for platform in ("a3", "a2"):
        if platform in words:
            return platform, f"platform {platform}: the document's titles"
    return "a3", "platform a3: not stated, the default"


def _name(source: Source, those: Sequence[Server], options: Options) -> str:
    name = options.name or source.name
    if source.apart and not options.name:
        sides = {one.side for one in those}
        name = f"{name}-{'pd' if 'prefill' in sides and 'decode' in sides else 'serve'}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "cluster"


def _proxy(scripts: Sequence[Script], layout: Layout) -> tuple[dict[str, Any] | None, list[Note]]:
    """The proxy, and notes about commands of others."""
    result, others = None, []
    roles = {group.role for group in layout.groups}
    for one in scripts:
        if one.kind != PROXY:
            continue
        found = proxies.proxy(one, layout)
        if found and result is None and {"prefill", "decode"} <= roles:
            result = dict(found)
        else:
            why = "another proxy" if found else "a proxy that is not in the image"
            others.append(one.note(f"{one.words[0]}: {why}"))
    return result, others


# ---- which servers belong together ---------------------------------------------------------------


def _deployments(
    source: Source, scripts: Sequence[Script], read: Mapping[Script, Server]
) -> list[list[Script]]:
    """The scripts of each deployment; in a document, consecutive ones."""
    if not source.apart:
        return [list(scripts)]
    result: list[list[Script]] = []
    rays = [one for one in scripts if one.kind == RAY]
    for one in scripts:
        serves = one.kind == SERVER
        if serves and not (result and _together(result[-1], one, read)):
            result.append([*(rays if read[one].ray else ()), one])
        elif serves or (result and one.kind != RAY):
            result[-1].append(one)
    return result


def _together(those: Sequence[Script], one: Script, read: Mapping[Script, Server]) -> bool:
    before = [read[other] for other in those if other.kind == SERVER]
    server, last = read[one], before[-1]
    if server.external and last.external and last.side == server.side:
        return server.model == last.model
    if server.follows:
        return not server.side or server.side == last.side
    if server.side and last.side:
        again = server.side == "prefill" and last.side == "decode"
        return not again and server.model == last.model
    return False
