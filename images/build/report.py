"""What the commands print: tables for people, plain data for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from images.build.build import Planned
from images.build.records import Built
from images.matrix import Matrix


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Columns as wide as their widest cell; those in `right` are flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    aligned = set(right)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in aligned else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.1f} MB"


def built_data(built: Iterable[Built]) -> list[dict[str, Any]]:
    return [
        {
            "tag": one.tag,
            "digest": one.digest,
            "size": one.size,
            "compressed": {weight.arch: weight.size for weight in one.weights},
            "up_to_date": one.up_to_date,
            "layers": [vars(layer) for layer in one.layers],
        }
        for one in built
    ]


def built_text(built: Iterable[Built]) -> str:
    return "\n\n".join(_one_built(one) for one in built)


def _one_built(one: Built) -> str:
    lines = [
        one.tag + ("  (up to date: nothing it is made from has changed)" if one.up_to_date else ""),
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
        rows.append(("  total", megabytes(one.size), "", ""))
        lines.append(table(rows, right=(1, 2)))
    lines += [
        f"  on the wire, {weight.arch}: {megabytes(weight.size)}"
        for weight in one.weights
        if weight.size != one.size  # which a pushed image has in its table
    ]
    if not one.weights:
        lines.append("  on the wire: not known, the engine sends it nowhere; held to no budget")
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
    """A job of a GitHub workflow for each image and architecture, on a runner of that one."""
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
