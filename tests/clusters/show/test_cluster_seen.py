"""The picture of a cluster in a browser: every text has its room, in the light and in the dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from clusters.checks import load_deployment
from clusters.show.picture import svg
from clusters.show.topology import topology

EXAMPLES = sorted(Path("clusters/examples").glob("*.yaml"))
# The texts that leave the picture, or the box in which they begin.
OUTSIDE = """
() => {
  const within = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top
    && a.bottom <= b.bottom;
  const page = document.querySelector('svg').getBoundingClientRect();
  const boxes = [...document.querySelectorAll('g rect')].map(one => one.getBoundingClientRect());
  return [...document.querySelectorAll('text')].filter(text => {
    const own = text.getBoundingClientRect(), x = own.left + 1, y = (own.top + own.bottom) / 2;
    const inside = box => x > box.left && x < box.right && y > box.top && y < box.bottom;
    const around = text.classList.contains('port') ? [] : boxes.filter(inside);
    return !within(own, page) || around.some(box => !within(own, box));
  }).map(text => text.textContent);
}
"""


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda path: path.stem)
def test_the_picture_in_a_browser(browser: Browser, file: Path) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.set_content(svg(topology(load_deployment(file))))
        assert page.evaluate(OUTSIDE) == []
        assert page.locator("text").count() > 5
        colours.add(page.evaluate("getComputedStyle(document.querySelector('.page')).fill"))
        page.close()
    assert len(colours) == 2
