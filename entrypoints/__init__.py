"""The entrypoint of the images: from environment variables to one command.

inputs (variables, arguments, recipe, facts of env/) -> launch (what would run here) -> rules (what
cannot work) -> preflight (the machine) -> running (waiting, exec, supervising, health). plan.py
joins the first three. Standard library and PyYAML only; the packages exchange named tuples
(record.py), because importing `dataclasses` or `typing` takes as long as making a plan.
"""
