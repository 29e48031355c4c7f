"""Answers for the installed torch when nnal's set_env.sh asks which C++ ABI it was built with.

Importing the real one would need its architecture and a second or two; its library tells the same.
TORCH_LIBRARY names libc10.so of the torch layer.
"""

import os
import pathlib


def compiled_with_cxx11_abi():
    return b"__cxx11" in pathlib.Path(os.environ["TORCH_LIBRARY"]).read_bytes()
