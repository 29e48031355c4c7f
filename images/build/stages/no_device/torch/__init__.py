"""The part of torch in which vLLM's setup.py looks for a device: there is none."""

from . import utils, version

__all__ = ["utils", "version"]
