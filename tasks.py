"""The commands of `invoke`; each is defined in commands/."""

from __future__ import annotations

from invoke import Collection

from commands import (
    building,
    clusters,
    developing,
    documenting,
    importing,
    looking,
    publishing,
    recipes,
    releasing,
    running,
    trying,
)

namespace = Collection()
for module in (
    building,
    publishing,
    looking,
    recipes,
    releasing,
    running,
    importing,
    trying,
    developing,
    documenting,
):
    for task in Collection.from_module(module).tasks.values():
        namespace.add_task(task)
namespace.add_collection(Collection.from_module(clusters, name="cluster"))
