"""The messages of findings: env/messages/*.yaml, read when the first finding is made.

The id of a message is its code or, where a code has several, `code.name`.
"""

from __future__ import annotations

from functools import cache

from entrypoints import documents
from entrypoints.findings import Finding, Message, Refused
from entrypoints.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# The launch (rules), the machine (checks), and the inputs: variables, arguments and recipes. The
# inputs are last because most starts do not need them.
KINDS = ("launch", "machine", "inputs")


@cache
def read(kind: str) -> dict[str, dict[str, Any]]:
    """The entries of a kind, by code."""
    path = documents.path_of("messages", f"{kind}.yaml")
    made: dict[str, dict[str, Any]] = documents.load(path)
    return made


def message(id: str) -> Message:
    """The message with this id. Raises LookupError."""
    code, _, name = id.partition(".")
    for entries in map(read, KINDS):
        if code in entries:
            entry = entries[code]
            return _message(code, entry, entry["messages"][name] if name else {})
    raise LookupError(id)


def messages(kind: str) -> dict[str, Message]:
    """All messages of a kind, by id."""
    return {
        f"{code}.{name}" if name else code: _message(code, entry, own)
        for code, entry in read(kind).items()
        for name, own in entry.get("messages", {"": {}}).items()
    }


def _message(code: str, entry: dict[str, Any], own: dict[str, Any]) -> Message:
    fields = {key: value for key, value in entry.items() if key in Message._fields}
    return Message(code=code, **{**fields, **own})


def finding(id: str, where: str = "", /, **values: Any) -> Finding:
    """Make a finding of a message with values; `fix` and `source` replace the message's."""
    return message(id)(where, **values)


def refused(id: str, where: str = "", /, **values: Any) -> Refused:
    """The exception with one finding."""
    return Refused([finding(id, where, **values)])
