"""Compare the digests in labels (inputs, base) with annotation, tag and provenance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from common.errors import Finding
from images.attestations.provenance import Statement, base_digest
from images.labels import BASE_DIGEST, BASE_NAME, INPUTS

DIGESTS = {INPUTS: r"[0-9a-f]{64}", BASE_DIGEST: r"sha256:[0-9a-f]{64}"}
IMMUTABLE = re.compile(r".*-(?P<inputs>[0-9a-f]{12})")


def problems(
    labels: Mapping[str, str],
    tag: str,
    annotations: Mapping[str, str],
    provenance: Iterable[Statement],
) -> Iterator[Finding]:
    for name, form in DIGESTS.items():
        value = labels.get(name, "")
        if not re.fullmatch(form, value):
            what = f"is '{value}', not a digest" if value else "is missing"
            yield Finding(name, what, "invoke build and publish set it")
    inputs, base = labels.get(INPUTS, ""), labels.get(BASE_DIGEST, "")
    noted = annotations.get(INPUTS)
    if noted not in (None, inputs):
        yield Finding(INPUTS, f"is '{inputs}', the annotation says '{noted}'")
    named = IMMUTABLE.fullmatch(tag)
    if named and not inputs.startswith(named["inputs"]):
        yield Finding(INPUTS, f"is '{inputs}', the tag {tag} says {named['inputs']}")
    built_on = base_digest(provenance, labels.get(BASE_NAME, ""))
    if built_on not in ("", base):
        yield Finding(BASE_DIGEST, f"is '{base}', the provenance says '{built_on}'")
