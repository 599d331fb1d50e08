"""The assigners side by side over a dataset: who gets how much, who gets nothing, and how far they agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from leyolo.data.dataset import DataError, Dataset
from leyolo.errors import InputError
from leyolo.explain.assigners import agreement, run, shares
from leyolo.explain.scene import Predictor, Scene
from leyolo.explain.truths import of_picture
from leyolo.predict.images import read_image

SMALL = 32.0**2
"""Objects below this area, in pixels of the network input, are counted as small (COCO's border, in the input)."""


@dataclass
class Totals:
    """Sums of one assigner over the pictures.

    asked      anchors asked for, of assigners that have such a number
    anchors    anchors given
    without    objects that got none; ``small_without``: those of them that are small
    iou        sum of IoU of predicted box and object, over the anchors given
    lone       objects that got a single anchor
    seconds    of every call
    """

    asked: int | None = None
    anchors: int = 0
    without: int = 0
    small_without: int = 0
    lone: int = 0
    iou: float = 0.0
    seconds: list[float] = field(default_factory=list)


@dataclass
class Summary:
    """``pairs``: for two assigners, anchors given alike and anchors given by either."""

    assigners: tuple[str, ...]
    pictures: int = 0
    objects: int = 0
    small: int = 0
    totals: dict[str, Totals] = field(default_factory=dict)
    pairs: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def add(self, scene: Scene) -> None:
        """Runs all assigners on one picture."""
        boxes = scene.targets.boxes[0]
        small = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) < SMALL).tolist()
        self.pictures += 1
        self.objects += len(scene.names)
        self.small += sum(small)
        found = {}
        for name in self.assigners:
            totals = self.totals.setdefault(name, Totals())
            start = time.perf_counter()
            found[name] = run(name, scene)
            totals.seconds.append(time.perf_counter() - start)
            for share, is_small in zip(shares(name, scene, found[name]), small, strict=True):
                if share.asked is not None:
                    totals.asked = (totals.asked or 0) + share.asked
                totals.anchors += len(share.anchors)
                totals.without += not share.anchors
                totals.small_without += is_small and not share.anchors
                totals.lone += len(share.anchors) == 1
                totals.iou += (share.iou or 0.0) * len(share.anchors)
        for a, b in pairs(self.assigners):
            same, either = agreement(found[a], found[b])
            before = self.pairs.get((a, b), (0, 0))
            self.pairs[a, b] = before[0] + same, before[1] + either

    def rows(self) -> list[dict[str, Any]]:
        """For json and tables, one for each assigner."""
        return [
            {
                "assigner": name,
                "asked": totals.asked,
                "anchors": totals.anchors,
                "anchors_per_object": totals.anchors / max(self.objects, 1),
                "objects_without": totals.without,
                "small_objects_without": totals.small_without,
                "objects_with_one": totals.lone,
                "mean_iou": totals.iou / totals.anchors if totals.anchors else None,
                "median_ms": 1e3 * median(totals.seconds),
            }
            for name, totals in self.totals.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures,
            "objects": self.objects,
            "small_objects": self.small,
            "assigners": self.rows(),
            "agreement": {f"{a}/{b}": share(*counts) for (a, b), counts in self.pairs.items()},
        }


def pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]


def share(same: int, either: int) -> float:
    """Two assigners that give nothing agree."""
    return same / either if either else 1.0


def summarise(
    predictor: Predictor,
    dataset: Dataset,
    assigners: Iterable[str],
    size: int | tuple[int, int],
    *,
    progress: Callable[[], None] = lambda: None,
) -> Summary:
    """Runs the assigners on every picture of a dataset that has objects; ``progress`` is called after each.

    Raises:
        DataError: no picture has objects, or one cannot be read.
    """
    summary = Summary(tuple(assigners))
    for index, record in enumerate(dataset.images):
        truths = of_picture(dataset, index, source="annotations")
        if len(truths.labels):
            try:
                pixels = read_image(record.path)
            except InputError as error:
                raise DataError(f"{record.path}: {error}") from error
            summary.add(predictor.scene(pixels, truths, size))
        progress()
    if not summary.pictures:
        raise DataError(f"none of {len(dataset)} pictures has an object")
    return summary
