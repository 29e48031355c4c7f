"""Releases and platforms that the tests know to exist."""

from __future__ import annotations

from entrypoints.inputs import stack


def release(name: str | None = None) -> stack.Release:
    found = stack.release(name, [])
    assert found is not None
    return found


def platform(name: str) -> stack.Platform:
    found = stack.platform(name, [])
    assert found is not None
    return found
