"""The catalogue as files: plain HTML, SVG and CSS, without requests to other servers."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.errors import EX_UNAVAILABLE, user_error
from common.text import short_size
from images.catalogue.pages import platforms, releases
from images.inspect.model import Image, brief
from images.matrix import Matrix

TEMPLATES = Path(__file__).parent / "templates"
STATIC = ("style.css", "filter.js")
TITLE = "vLLM on Ascend: the images"
MARK = ".catalogue"  # in a directory that may be replaced


def rendered(matrix: Matrix, images: Iterable[Image]) -> dict[str, bytes]:
    """Path → content of every file; equal images give equal content."""
    found = releases(matrix, images)
    pages = [page for release in found for page in release.pages]
    templates = _templates()
    files = {name: (TEMPLATES / name).read_bytes() for name in STATIC}
    index = templates.get_template("index.html.j2").render(
        title=TITLE, root="", releases=found, pages=pages, platforms=platforms(matrix, found)
    )
    files["index.html"] = index.encode()
    template = templates.get_template("image.html.j2")
    for page in pages:
        title = f"{page.tag} {page.image.platform}"
        text = template.render(title=title, root="../", page=page, image=page.image)
        files[page.path] = text.encode()
        files |= {one.path: one.content for one in page.sboms}
    return files


def write(files: Mapping[str, bytes], out: Path) -> Path:
    """Replace an earlier catalogue as a whole; return the index.

    Raises UserError: 64 if the directory holds something else, 69 if it cannot be written.
    """
    if out.exists() and not (out.is_dir() and ((out / MARK).is_file() or not any(out.iterdir()))):
        raise user_error(
            "--out",
            f"{out} exists and is not a catalogue",
            "choose another directory, or remove it",
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
        old = scratch.with_name(f"{scratch.name}.old")
        try:
            for name, content in {**files, MARK: b""}.items():
                path = scratch / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            scratch.chmod(0o777 & ~_umask())
            if out.exists():
                out.rename(old)
            scratch.rename(out)
        finally:
            for rest in (scratch, old):
                shutil.rmtree(rest, ignore_errors=True)
    except OSError as error:
        words = f"cannot be written: {error.strerror}"
        raise user_error(str(out), words, "another --out", EX_UNAVAILABLE) from None
    return out / "index.html"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "megabytes": short_size,
        "brief": brief,
        "short": lambda digest: digest[:19],
        "shell": shlex.join,
        "seconds": lambda value: f"{value:g} s",
    }
    return templates
