"""The commands of `invoke` in a checkout: those of `ascend-images`, in its program."""

import sys

from invoke.main import program

sys.dont_write_bytecode = False  # Invoke sets it; every start would compile commands/ anew

from commands.program import Program, namespace  # noqa: E402

program.__class__ = Program  # parses, lists and completes from here on

__all__ = ["namespace"]
