"""Output of build, its dry run and the matrix: text for people, data for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.text import megabytes, table
from images.build.build import Planned
from images.build.records import Built
from images.matrix import Matrix


def built_data(built: Iterable[Built]) -> list[dict[str, Any]]:
    return [
        {
            "tag": one.tag,
            "digest": one.digest,
            "size": one.size,
            "compressed": {size.arch: size.total for size in one.sizes},
            "up_to_date": one.up_to_date,
            "layers": [vars(layer) for layer in one.layers],
        }
        for one in built
    ]


def built_text(built: Iterable[Built]) -> str:
    return "\n\n".join(_one_built(one) for one in built)


def _one_built(one: Built) -> str:
    lines = [
        one.tag + ("  (up to date: no input has changed)" if one.up_to_date else ""),
        f"  {one.digest}",
    ]
    if one.layers:
        rows = [("  layer", "size", "made in", "digest")]
        rows += [
            (
                f"  {layer.name}",
                megabytes(layer.size),
                f"{layer.seconds:.1f} s" if layer.seconds else "-",
                layer.digest[:19],
            )
            for layer in one.layers
        ]
        rows.append(("  total", megabytes(one.size or None), "", ""))
        lines.append(table(rows, right=(1, 2)))
    lines += [
        f"  compressed, {size.arch}: {megabytes(size.total)}"
        for size in one.sizes
        if size.total != one.size  # the table of a pushed image has it
    ]
    if not one.sizes:
        lines.append(
            "  compressed: unknown (the engine cannot push to this machine); budget not checked"
        )
    return "\n".join(lines)


def plan_data(planned: Iterable[Planned]) -> list[dict[str, Any]]:
    return [
        {
            "tag": one.tag,
            "base": one.base,
            "arches": list(one.arches),
            "pins": one.pins,
            "up_to_date": one.up_to_date,
            "stages": [{"name": name, "cached": cached} for name, cached in one.stages],
        }
        for one in planned
    ]


def plan_text(planned: Iterable[Planned]) -> str:
    return "\n\n".join(
        "\n".join(
            [
                f"{one.tag}  ({', '.join(one.arches)})"
                + ("  up to date" if one.up_to_date else ""),
                f"  base    {one.base}",
                f"  pins    {', '.join(f'{name} {version}' for name, version in one.pins.items())}",
                table(
                    [(f"  {'cached' if cached else 'build'}", name) for name, cached in one.stages]
                ),
            ]
        )
        for one in planned
    )


def matrix_data(matrix: Matrix, release: str | None) -> list[dict[str, Any]]:
    releases = [release] if release else list(matrix.releases)
    return [
        {
            "release": variant.release.name,
            "platform": variant.platform.name,
            "os": variant.os.name,
            "arches": list(matrix.arches),
            "tag": variant.tag,
            "cann_image": matrix.cann_image(variant),
            "soc_version": variant.platform.soc_version,
            "python": variant.release.python,
            "pins": variant.release.pins,
        }
        for name in releases
        for variant in matrix.variants(name)
    ]


RUNNERS = {"arm64": "ubuntu-24.04-arm", "amd64": "ubuntu-24.04"}


def matrix_jobs(rows: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """A job of a GitHub workflow for each image and architecture, with its runner."""
    return [
        {
            **{name: row[name] for name in ("release", "platform", "os", "tag")},
            "arch": arch,
            "runner": RUNNERS[arch],
        }
        for row in rows
        for arch in row["arches"]
    ]


def matrix_text(rows: list[dict[str, Any]]) -> str:
    head = ("tag", "CANN base", *rows[0]["pins"])
    body = [(row["tag"], row["cann_image"], *row["pins"].values()) for row in rows]
    return table([head, *body])
