"""Derive the pins of a release: what its Dockerfiles install, and where other files contradict.

Precedence: Dockerfile, requirements.txt, pyproject.toml, documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from images.locking.lock import compatible
from upstream import shipped
from upstream.bump import image_questions
from upstream.bump.fact_collector import Claim, FactCollector
from upstream.dockerfile import Dockerfile, dockerfiles
from upstream.facts import Derived, Fact, join_citations
from upstream.sources import Sources

# Requirements that determine the libraries layer; the lock gets the others from vllm-ascend's
# metadata.
NAMED = (
    "transformers",
    "torchvision",
    "torchaudio",
    "opencv-python-headless",
    "numpy",
    "fastapi",
)
# Source distributions with native code, which get their own image layer.
COMPILED = ("arctic-inference",)
# Packages of every image (images/matrix.yaml: common_requirements), and those with a pin.
COMMON = ("modelscope", "ray", "protobuf")
PINNED = ("torch", "torch-npu", "triton-ascend")
MOONCAKE = ("mooncake-transfer-engine", "mooncake-transfer-engine-npu")

# quay.io/ascend/cann:8.5.1-a3-ubuntu22.04-py3.11; the version may be 9.1.0-beta.1 or have a date.
CANN_TAG = re.compile(
    r"(?:(?P<image>.*):)?(?P<cann>\d[\w.]*(?:-[\w.]+)*)-(?P<part>\w+)-(?P<os>[a-z]+[\d.]+)"
    r"-py(?P<python>[\d.]+)(?:@sha256:\w+)?"
)
# A wheel in a Dockerfile, complete or in parts: torch_npu-2.9.0.post1%2Bgit4c901a4-…
WHEEL = r"\b{}-(\d[\w.]*?)(?:(?:%2B|\+)[\w.]+)?-(?=cp\d|\$)"
USUAL_IMAGE = "quay.io/ascend/cann"  # as images/matrix.yaml has it; another one becomes a pin
INSTALLER = "tools/mooncake_installer.sh"
YALANTINGLIBS = (
    r"^YALANTINGLIBS_VERSION=[\"']?(\d[\w.]*)",
    r"git clone -b (\d[\w.]*) .*yalantinglibs",
)
POLICY = "docs/source/community/versioning_policy.md"
INSTALLATION = "docs/source/installation.md"
CONF = "docs/source/conf.py"


def derive(sources: Sources) -> Derived:
    """Derive images/releases/{release}.yaml from upstream's files.

    `published` and `later` come from the package index (upload_dates.py).
    """
    return _Pins(sources).derived()


def soc_versions(sources: Sources) -> list[Fact]:
    """A fact for the SOC_VERSION of each platform; releases before v0.13 have none."""
    found: dict[str, Fact] = {}
    for one in dockerfiles(sources.vllm_ascend):
        if "SOC_VERSION" in one.arguments:
            value, line = one.arguments["SOC_VERSION"]
            found.setdefault(one.platform, Fact(one.platform, value, one.cite(line)))
    return list(found.values())


def cann_tags(sources: Sources) -> list[Fact]:
    """A fact for each platform's part of the tag of the base image."""
    found: dict[str, Fact] = {}
    for one in dockerfiles(sources.vllm_ascend):
        match = CANN_TAG.fullmatch(one.base[0]) if one.base else None
        if one.base and match:
            found.setdefault(one.platform, Fact(one.platform, match["part"], one.cite(one.base[1])))
    return list(found.values())


class _Pins:
    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.tree = sources.vllm_ascend
        self.files = dockerfiles(self.tree)
        self.snapshots = shipped.snapshots(self.tree)
        self.found = FactCollector()

    def derived(self) -> Derived:
        found, policy = self.found, self.policy
        found.settle("python", self.bases("python"), _same_version)
        said = [*self.bases("cann"), *policy("Stable CANN"), *self.installation("CANN")]
        found.settle("cann", said, _same_version)
        images = [(value, source) for value, source in self.bases("image") if value]
        if any(value != USUAL_IMAGE for value, _ in images):
            found.settle("cann_image", images)
        self.platforms()
        said = [*self.vllm_tags(), *policy("vLLM"), *self.substitution("pip_vllm_version")]
        found.settle("vllm", said, _same_version)
        own = self.tree.version
        found.settle(
            "vllm_ascend",
            [(own, self.tree.cite("PKG-INFO")), *self.substitution("pip_vllm_ascend_version")],
            _same_version,
        )
        torch = self.exact("torch", [*policy("PyTorch/torch_npu", 0), *self.installation("torch")])
        self.exact("torch-npu", [*policy("PyTorch/torch_npu", 1), *self.installation("torch-npu")])
        self.exact("triton-ascend", policy("Triton Ascend"))
        self.mooncake()
        self.requirements(torch)
        self.os_packages()
        found.decisions += image_questions.ask(self.tree)
        return found.derived()

    # ---- claims ----------------------------------------------------------------------------------

    def bases(self, part: str) -> Iterator[Claim]:
        for one in self.files:
            match = CANN_TAG.fullmatch(one.base[0]) if one.base else None
            if one.base and match:
                yield match[part], one.cite(one.base[1])
        for value, source in self.substitution("cann_image_tag"):
            match = CANN_TAG.fullmatch(value)
            if match:
                yield match[part], source

    def vllm_tags(self) -> Iterator[Claim]:
        for one in self.files:
            if "VLLM_TAG" in one.arguments:
                value, line = one.arguments["VLLM_TAG"]
                yield value.removeprefix("v"), one.cite(line)

    def substitution(self, name: str) -> Iterator[Claim]:
        """The value of a substitution in the documentation's conf.py."""
        pattern = rf"""^\s*["']{name}["']:\s*["']v?(\d[^"']*)["']"""
        for match, source in self.tree.find(CONF, pattern):
            yield match[1], source

    def policy(self, column: str, part: int | None = None) -> Iterator[Claim]:
        """The release's row in the documentation's table of releases."""
        header: list[str] = []
        rows = self.tree.files.get(POLICY, "").splitlines()
        for number, line in enumerate(rows, 1):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if cells[0] == "vLLM Ascend":
                header = cells
            elif cells[0] == f"v{self.tree.version}" and column in header:
                said = dict(zip(header, cells, strict=False)).get(column, "")
                if part is not None:
                    said = (*said.split("/"), "")[part].strip()
                if re.fullmatch(r"v?\d\S*", said):
                    yield said.removeprefix("v"), self.tree.cite(POLICY, number)

    def installation(self, software: str) -> Iterator[Claim]:
        """The documentation's table: `| torch-npu | == 2.9.0 | …`."""
        pattern = rf"^\s*\|\s*{software}\s*\|\s*==\s*(\d\S*)\s*\|"
        for match, source in self.tree.find(INSTALLATION, pattern):
            yield match[1], source

    def docker(self, name: str) -> Iterator[tuple[Requirement, str]]:
        """The Dockerfiles' requirements of a package, by name or by the file name of a wheel."""
        for one in self.files:
            for text, line in one.required():
                requirement = _requirement(text)
                if requirement and canonicalize_name(requirement.name) == name:
                    yield requirement, one.cite(line)
            pattern = WHEEL.format(name.replace("-", "[-_]"))
            for match, source in self.tree.find(one.path, pattern):
                yield Requirement(f"{name}=={match[1]}"), source

    def listed(self, name: str) -> Iterator[tuple[Requirement, str]]:
        """The requirements of a package in requirements.txt and pyproject.toml."""
        spelled = name.replace("-", "[-_]")
        for match, source in self.tree.find("requirements.txt", rf"^{spelled}\b[^#\n]*"):
            requirement = _requirement(match[0])
            if requirement and canonicalize_name(requirement.name) == name:
                yield requirement, source
        for match, source in self.tree.find("pyproject.toml", rf'^\s*"({spelled}\b[^"]*)"'):
            requirement = _requirement(match[1])
            if requirement and canonicalize_name(requirement.name) == name:
                yield requirement, source

    def of_vllm(self, name: str) -> Iterator[tuple[Requirement, str]]:
        """vLLM's requirements of a package that apply to every platform."""
        tree = self.sources.vllm
        spelled = re.sub(r"[-_.]", "[-_.]", name)
        for path in ("requirements/common.txt", *tree.matching(r"[^/]+\.dist-info/METADATA")):
            for match, source in tree.find(path, rf"^(?:Requires-Dist: )?({spelled}\b[^#\n]*)"):
                requirement = _requirement(match[1])
                if requirement and "extra ==" not in str(requirement.marker or ""):
                    yield requirement, source

    # ---- pins ------------------------------------------------------------------------------------

    def platforms(self) -> None:
        names = list(dict.fromkeys(one.platform for one in self.files))
        order = sorted(names, key=lambda name: (not name.startswith("a"), name))
        # Upstream's order: two generations of servers, the card, then new platforms.
        known = ["a2", "a3", "310p"]
        value = [*(n for n in known if n in names), *(n for n in order if n not in known)]
        self.found.facts.append(Fact("platforms", value, self.tree.cite("Dockerfile*")))
        for name in names:
            missing = {"apt", "dnf"} - {f.packager for f in self.files if f.platform == name}
            for packager in missing:
                os = "openEuler" if packager == "dnf" else "Ubuntu"
                self.found.ask(
                    f"platforms.{name}",
                    f"{name} has no Dockerfile for {os}: does it have an image?",
                    "built like the other platforms",
                )

    def exact(self, name: str, documented: Iterable[Claim]) -> str | None:
        """Derive a pinned version. 310p has no triton_ascend, which is not a contradiction."""
        required = [*self.docker(name), *self.listed(name)]
        said = [(v, source) for one, source in required if (v := _exact(one))]
        said += [(one.version, one.source) for one in self.snapshots if one.package == name]
        taken = self.found.settle(name.replace("-", "_"), [*said, *documented], _same_version)
        return taken if isinstance(taken, str) else None

    def mooncake(self) -> None:
        wheels, clones = list[Claim](), list[Claim]()
        for one in self.files:
            for text, line in one.required():
                requirement = _requirement(text)
                if requirement and canonicalize_name(requirement.name) in MOONCAKE:
                    wheels.append((_exact(requirement) or "", one.cite(line)))
            if "MOONCAKE_TAG" in one.arguments and _clones(one, "Mooncake"):
                value, line = one.arguments["MOONCAKE_TAG"]
                clones.append((value.removeprefix("v"), one.cite(line)))
        said = wheels or clones
        if not said:
            self.found.ask("mooncake", "no Dockerfile installs Mooncake: which version is right?")
            return
        self.found.settle("mooncake.version", [*said, *self.policy("Mooncake")], _same_version)
        origin = [("wheel", source) for _, source in wheels]
        origin += [("source", source) for _, source in clones]
        if self.found.settle("mooncake.from", origin) == "source":
            self.found.settle("mooncake.yalantinglibs", self.yalantinglibs(), _same_version)

    def yalantinglibs(self) -> Iterator[Claim]:
        for pattern in YALANTINGLIBS:
            for match, source in self.tree.find(INSTALLER, pattern):
                yield match[1], source

    def requirements(self, torch: str | None) -> None:
        taken: list[tuple[str, tuple[str, ...]]] = []
        for name in NAMED:
            said = [*self.docker(name), *self.listed(name)]
            bound = [(one, source) for one, source in said if one.specifier]
            if bound:
                taken.append(self.bounded(name, *bound[0]))
                wider = [(str(one.specifier), source) for one, source in bound]
                self.found.dispute(f"requirements.{name}", wider[0][0], wider, _same_specifier)
            elif torch and name in COMPANIONS:
                version = COMPANIONS[name](torch)
                rule = "as torch's" if name == "torchaudio" else "made for torch's"
                taken.append((f"{name}=={version}", (f"{rule} {torch}",)))
        taken += self.against_vllm()
        taken += self.installed_besides()
        if taken:
            cited = join_citations(source for _, sources in taken for source in sources)
            self.found.facts.append(Fact("requirements", [text for text, _ in taken], cited))
        compiled = [(name, source) for name in COMPILED for _, source in self.listed(name)]
        if compiled:
            names = list(dict.fromkeys(name for name, _ in compiled))
            self.found.facts.append(Fact("compiled", names, compiled[0][1]))

    def bounded(
        self, name: str, requirement: Requirement, source: str
    ) -> tuple[str, tuple[str, ...]]:
        """Add vLLM's upper bound if vllm-ascend gives none and is compatible with it."""
        text = f"{name}{_specifier_text(requirement.specifier)}"
        theirs = next(iter(self.of_vllm(name)), None)
        if theirs is None:
            return text, (source,)
        if not compatible(requirement.specifier, theirs[0].specifier):
            said = [(_specifier_text(requirement.specifier), source)]
            said.append((_specifier_text(theirs[0].specifier), theirs[1]))
            self.found.dispute(f"requirements.{name}", said[0][0], said)
        elif not _upper(requirement.specifier) and (upper := _upper(theirs[0].specifier)):
            return f"{text},{upper}", (source, theirs[1])
        return text, (source,)

    def against_vllm(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Other requirements of vllm-ascend that conflict with vLLM's, for the resolver."""
        every = r"^(?P<name>[A-Za-z][\w.-]*)[^#\n]*"
        for match, source in self.tree.find("requirements.txt", every):
            requirement = _requirement(match[0])
            if requirement is None or canonicalize_name(requirement.name) in {*NAMED, *PINNED}:
                continue
            theirs = next(iter(self.of_vllm(requirement.name)), None)
            if theirs and not compatible(requirement.specifier, theirs[0].specifier):
                text, sources = self.bounded(requirement.name, requirement, source)
                yield text, sources

    def installed_besides(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What pip installs in at least half of the Dockerfiles and no other pin covers."""
        texts: dict[str, list[tuple[str, str, Dockerfile]]] = {}
        for one in self.files:
            for text, line in one.required():
                requirement = _requirement(text)
                if requirement:
                    package = str(canonicalize_name(requirement.name))
                    texts.setdefault(package, []).append((str(requirement), one.cite(line), one))
        for name, said in texts.items():
            claims = [(text, source) for text, source, _ in said]
            if name in COMMON:
                self.found.dispute(f"common_requirements.{name}", claims[0][0], claims)
            elif name not in {*NAMED, *PINNED, *MOONCAKE, *COMPILED}:
                if 2 * len({one.path for *_, one in said}) >= len(self.files):
                    yield claims[0][0], (claims[0][1],)
                else:
                    self.found.dispute(f"requirements.{name}", None, claims)

    def os_packages(self) -> None:
        """What at least half of the Dockerfiles for an OS install; others are contradictions."""
        for packager in ("apt", "dnf"):
            files = [one for one in self.files if one.packager == packager]
            places: dict[str, dict[str, str]] = {}
            for one in files:
                for package, line in one.installed(packager):
                    places.setdefault(package, {}).setdefault(one.path, one.cite(line))
            taken = [name for name, said in places.items() if 2 * len(said) >= len(files)]
            if taken:
                cited = join_citations(next(iter(places[name].values())) for name in taken)
                self.found.facts.append(Fact(f"os_packages.{packager}", taken, cited))
            groups: dict[tuple[str, ...], list[str]] = {}
            for name, said in places.items():
                if len(said) < len(files):
                    groups.setdefault(tuple(said), []).append(name)
            for paths, names in groups.items():
                cited = join_citations(cite for name in names for cite in places[name].values())
                others = join_citations(
                    self.tree.cite(f.path) for f in files if f.path not in paths
                )
                with_, without = f"with {', '.join(names)}", f"without {', '.join(names)}"
                verdict = with_ if names[0] in taken else without
                claims = [(with_, cited), (without, others)]
                self.found.dispute(f"os_packages.{packager}", verdict, claims)


def _torchvision(torch: str) -> str:
    """torch 2.x.y has torchvision 0.(15+x).y, by torchvision's table of versions."""
    major, minor, patch = Version(torch).release[:3]
    return f"0.{15 + minor + 100 * (major - 2)}.{patch}"


# Packages that are built for one version of torch; torchaudio has the same version.
COMPANIONS: dict[str, Callable[[str], str]] = {
    "torchvision": _torchvision,
    "torchaudio": lambda torch: torch,
}


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text.strip())
    except InvalidRequirement:  # a URL or a path
        return None


def _exact(requirement: Requirement) -> str | None:
    (*parts,) = requirement.specifier
    if len(parts) == 1 and parts[0].operator == "==":
        return parts[0].version.partition("+")[0]
    return None


def _upper(specifier: SpecifierSet) -> str:
    return ",".join(str(part) for part in specifier if part.operator in ("<", "<=", "==", "~="))


def _specifier_text(specifier: SpecifierSet) -> str:
    """The specifier as text, lower bounds first."""
    return ",".join(sorted(map(str, specifier), key=lambda part: (part[0] != ">", part)))


def _same_version(one: Any, other: Any) -> bool:
    """Compare without local parts: a vendor's build counts as the same version."""
    try:
        return Version(str(one)).public == Version(str(other)).public
    except InvalidVersion:
        return str(one).lower() == str(other).lower()


def _same_specifier(one: Any, other: Any) -> bool:
    return SpecifierSet(one) == SpecifierSet(other)


def _clones(one: Dockerfile, repository: str) -> bool:
    return any(
        "clone" in command.words and any(word.endswith(repository) for word in command.words)
        for command in one.commands
    )
