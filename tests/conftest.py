"""What tests of several folders share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent
# `invoke test` gives the files to its workers in this order, then all others. First the build of
# the images, and beside it what needs none of them; then the rehearsals, which judge answers under
# deadlines; then the cold builds, which keep all CPUs busy, and beside them the tests that mostly
# wait. Short files at the end leave no worker idle. A worker with few tests left already holds its
# next file.
ORDER = (
    "e2e/images/test_image.py",
    "e2e/images/test_publish.py",
    "e2e/images/test_check.py",
    "e2e/images/test_publish_by_parts.py",
    "e2e/entrypoints/test_dryrun.py",
    "upstream/parser/test_serve_parser.py",
    "upstream/test_bump_upstream.py",
    "images/locking/test_lock_real.py",
    "upstream/test_audit_planted.py",
    "entrypoints/inputs/test_random.py",
    "e2e/validation/test_rehearse_faults.py",
    "e2e/validation/test_rehearse.py",
    "e2e/images/test_offline.py",
    "e2e/images/test_layers.py",
    "e2e/images/test_share_cann.py",
    "e2e/test_document_commands.py",
    "e2e/images/test_push.py",
    "e2e/entrypoints/test_proxy.py",
    "e2e/entrypoints/test_ray.py",
    "e2e/entrypoints/test_roles.py",
    "e2e/entrypoints/test_processes.py",
    "e2e/entrypoints/test_proxy_load.py",
    "e2e/images/test_pull.py",
    "e2e/test_bad_input.py",
    "e2e/images/test_cann_sources.py",
    "e2e/images/test_inspect.py",
    "e2e/clusters/test_cluster_up.py",
    "e2e/entrypoints/test_preflight.py",
    "upstream/test_dialect_sources.py",
    "docs/test_document_blocks.py",
    "docs/test_reference_pages.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {HERE / name: number for number, name in enumerate(ORDER)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium-headless-shell", "chromium")
    program = next(filter(None, map(shutil.which, names)), None)
    assert program, "./setup.sh --dev installs one of " + ", ".join(names)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()
