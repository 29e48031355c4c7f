"""What tests of several folders share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium-headless-shell", "chromium")
    program = next(filter(None, map(shutil.which, names)), None)
    assert program, "./setup.sh --dev installs one of " + ", ".join(names)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()
