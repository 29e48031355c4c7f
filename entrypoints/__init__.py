"""What runs in the container: environment variables in, one `vllm serve` command out.

settings -> recipe -> topology -> launch -> exec. Standard library and PyYAML only; the seams are
named tuples (record.py), because importing `dataclasses` or `typing` costs as much as a plan.
"""
