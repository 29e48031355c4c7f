"""Prints the table of docs/cluster-checks.md."""

from clusters.checks import CHECKS


def markdown() -> str:
    """One row a check."""
    rows = [f"| `{c.code}` | {c.severity} | {c.what} | {c.source} |" for c in CHECKS]
    return "\n".join(["| code | | when | source |", "|---|---|---|---|", *rows, ""])


if __name__ == "__main__":
    print(markdown(), end="")
