"""The generated parts of the READMEs: the table of versions and the diagram of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clusters.checks import load_deployment
from clusters.show.picture import svg
from clusters.show.topology import topology
from common.errors import EX_DATAERR, user_error
from common.paths import ROOT
from docs.render.compatibility import rows
from docs.render.markdown import MARK, Page, page
from images.matrix import Matrix

END = "<!-- end of the generated part -->"
EXAMPLE = "clusters/examples/pd-3node.yaml"
PICTURE = "../cluster.svg"
WORDS: Mapping[str, tuple[str, ...]] = {
    "README.md": ("release", "platforms", "locked for", "default", "not locked"),
    "README.zh.md": ("发布版本", "平台", "已锁定架构", "默认", "未锁定"),
}


def render(matrix: Matrix) -> Iterator[Page]:
    """Render the READMEs and the diagram. Raises UserError (65) if a mark is missing."""
    for name, words in WORDS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        before, mark, rest = text.partition(MARK)
        _, end, after = rest.partition(END)
        if not mark or not end:
            raise user_error(name, "has no generated part", f"add {MARK} and {END}", EX_DATAERR)
        table = page(name, "versions.md.j2", rows=rows(matrix), words=words).text
        yield Page(f"../../{name}", f"{before}{table}\n{END}{after}")
    yield Page(PICTURE, svg(topology(load_deployment(str(ROOT / EXAMPLE)))))
