"""The part of torch that vLLM's setup.py reads to find its device: there is none."""

from . import utils, version

__all__ = ["utils", "version"]
