"""Tells nnal's set_env.sh the C++ ABI of the installed torch, in place of torch itself.

Importing torch needs its architecture and seconds; its library, TORCH_LIBRARY, shows the same.
"""

import os
import pathlib


def compiled_with_cxx11_abi():
    return b"__cxx11" in pathlib.Path(os.environ["TORCH_LIBRARY"]).read_bytes()
