"""What every package of the host side uses: errors, files, processes, YAML, and the version."""

__version__ = "0.2.0"
