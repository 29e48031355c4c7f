"""`typing.NamedTuple`, without importing typing: that takes longer than making a plan.

Fields are the class's annotations in order, defaults their values. A type checker sees the
original.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, too

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from collections import namedtuple

    class _Record(type):
        def __new__(meta, name, bases, body):
            if not bases:
                return super().__new__(meta, name, bases, body)
            fields = list(body.pop("__annotations__", ()))
            defaults = [body.pop(field) for field in fields if field in body]
            record = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            return type(name, (record,), {"__slots__": (), **body})

    class NamedTuple(metaclass=_Record):
        """The base that a record names; nothing is an instance of it."""
