"""What runs in the container: environment variables in, one command out.

inputs (variables, arguments, recipe, facts of env/) -> launch (what would run here) -> rules (what
cannot work) -> preflight (the machine) -> running (waiting, exec, supervising, health). Standard
library and PyYAML only; the seams are named tuples (record.py), because importing `dataclasses` or
`typing` costs as much as a plan.
"""
