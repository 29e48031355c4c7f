"""Prints the table of docs/checks.md."""

from entrypoints.rules import CHECKS


def markdown() -> str:
    """One row a check, errors and warnings as they are reported."""
    rows = [f"| `{c.code}` | {c.severity} | {c.what} | {c.source} |" for c in CHECKS]
    return "\n".join(["| code | | when | source |", "|---|---|---|---|", *rows, ""])


if __name__ == "__main__":
    print(markdown(), end="")
