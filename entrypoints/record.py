"""`typing.NamedTuple` without importing typing, which takes longer than making a plan.

The annotations of a class are its fields, their values the defaults. A type checker sees the
original.
"""

from __future__ import annotations

TYPE_CHECKING = False  # like typing.TYPE_CHECKING

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
        """The base class to name; nothing is an instance of it."""
