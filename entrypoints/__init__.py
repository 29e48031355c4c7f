"""What runs in the container: environment variables in, one `vllm serve` command out.

settings -> recipe -> topology -> launch -> exec. Standard library and PyYAML only; the seams are
`typing.NamedTuple`s, because importing `dataclasses` alone costs as much as starting Python.
"""
