"""The build command of setuptools for the wheel."""

from __future__ import annotations

import shutil

from setuptools.command.build_py import build_py


class BuildAnew(build_py):
    """Empties build/lib first, which may contain files of an earlier version."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
