"""How setuptools makes the wheel."""

from __future__ import annotations

import shutil

from setuptools.command.build_py import build_py


class BuildAnew(build_py):
    """Starts from nothing: what an earlier version of the project left in build/lib is no part."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
