"""What ``leyolo explain assign`` says about a picture or a dataset: tables, and the same as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leyolo.explain.assigners import Share
    from leyolo.explain.heat import Candidates
    from leyolo.explain.scene import Scene
    from leyolo.ops import Assignment

_SHOWN = 12
"""So many candidates go to the screen; --json has all."""


def print_shares(scene: Scene, shares: Mapping[str, Sequence[Share]], found: Mapping[str, Assignment]) -> None:
    from leyolo.cli.console import table
    from leyolo.explain.assigners import TITLES

    levels = "/".join(map(str, scene.levels))
    rows = []
    for at, name in enumerate(scene.names):
        x1, y1, x2, y2 = scene.targets.boxes[0, at].tolist()
        for assigner, each in shares.items():
            share = each[at]
            rows.append(
                (
                    *(
                        (at + 1, name, f"{x2 - x1:.0f} x {y2 - y1:.0f}")
                        if assigner == next(iter(shares))
                        else ("", "", "")
                    ),
                    TITLES[assigner],
                    "" if share.asked is None else share.asked,
                    len(share.anchors),
                    "/".join(str(count) for count in share.levels.values()),
                    "none" if share.iou is None else f"{share.iou:.3f}",
                )
            )
    table("", ("", "object", "pixels", "assigner", "k", "anchors", f"at {levels}", "mean IoU"), rows)
    if len(shares) > 1:
        print()
        _print_agreement(tuple(shares), _agreements(found))


def _agreements(found: Mapping[str, Assignment]) -> dict[tuple[str, str], float]:
    from leyolo.explain.assigners import agreement
    from leyolo.explain.summary import pairs, share

    return {(a, b): share(*agreement(found[a], found[b])) for a, b in pairs(tuple(found))}


def _print_agreement(names: Sequence[str], values: Mapping[tuple[str, str], float]) -> None:
    """Of the anchors that either gives, the share that both give to the same object."""
    from leyolo.cli.console import table
    from leyolo.explain.assigners import TITLES

    rows = [(TITLES[a], *(f"{values[a, b]:.3f}" if (a, b) in values else "" for b in names[1:])) for a in names[:-1]]
    table("", ("agreement", *(TITLES[b] for b in names[1:])), rows)


def as_numbers(
    image: Path,
    scene: Scene,
    objects: str,
    predictions: str,
    found: Mapping[str, Assignment],
    shares: Mapping[str, Sequence[Share]],
    candidates: Candidates | None,
) -> dict[str, Any]:
    """Everything, with positions in pixels of the network input."""
    boxes = scene.targets.boxes[0].tolist()
    centers, strides = scene.points.centers.tolist(), scene.points.strides.tolist()
    rows = []
    for at, name in enumerate(scene.names):
        by_assigner = {
            assigner: {
                "asked": each[at].asked,
                "anchors": len(each[at].anchors),
                "levels": {str(stride): count for stride, count in each[at].levels.items()},
                "mean_iou": each[at].iou,
                "points": [[*centers[anchor], strides[anchor]] for anchor in each[at].anchors],
            }
            for assigner, each in shares.items()
        }
        rows.append({"number": at + 1, "class": name, "box": boxes[at], "assigners": by_assigner})
    return {
        "image": str(image),
        "input": [scene.image.shape[1], scene.image.shape[0]],
        "scale": scene.scale,
        "padding": list(scene.content[:2]),
        "objects_from": objects,
        "predictions_from": predictions,
        "objects": rows,
        "agreement": {f"{a}/{b}": value for (a, b), value in _agreements(found).items()},
        **({} if candidates is None else {"candidates": [each._asdict() for each in candidates.rows]}),
    }


def print_summary(found: dict[str, Any], names: Sequence[str]) -> None:
    from leyolo.cli.console import table
    from leyolo.explain.assigners import TITLES

    rows = [
        (
            TITLES[row["assigner"]],
            "" if row["asked"] is None else f"{row['asked'] / found['objects']:.2f}",
            f"{row['anchors_per_object']:.2f}",
            row["objects_without"],
            row["small_objects_without"],
            row["objects_with_one"],
            "none" if row["mean_iou"] is None else f"{row['mean_iou']:.3f}",
            f"{row['median_ms']:.2f}",
        )
        for row in found["assigners"]
    ]
    header = ("", "k", "anchors", "without", "of them small", "with one", "mean IoU", "ms a picture")
    table("", header, rows)
    if len(names) > 1:
        print()
        values = {(a, b): found["agreement"][f"{a}/{b}"] for at, a in enumerate(names) for b in names[at + 1 :]}
        _print_agreement(names, values)


def print_candidates(title: str, candidates: Candidates) -> None:
    """SimOTA's candidates of one object, the cheapest first; those among the first k that it did not get are lost to
    another object."""
    from leyolo.cli.console import table

    print()
    print(
        f"{title}: the largest IoUs sum to {candidates.iou_sum:.3f}, so k is {candidates.k}; "
        f"{len(candidates.rows)} candidates"
    )
    rows = [
        (
            f"{row.x:g}, {row.y:g}",
            f"{row.stride:g}",
            f"{row.iou:.3f}",
            f"{row.probability:.3f}",
            f"{row.cost:.3f}",
            "taken" if row.taken else "lost to another" if rank < candidates.k else "",
        )
        for rank, row in enumerate(candidates.rows[:_SHOWN])
    ]
    table("", ("anchor", "stride", "IoU", "p", "cost", ""), rows)
