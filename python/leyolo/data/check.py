"""What is wrong with a dataset, and what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leyolo.data.dataset import DataError, Dataset, Problem
from leyolo.data.read import read
from leyolo.data.splits import splits
from leyolo.errors import InputError
from leyolo.predict.images import decode_image, read_file


@dataclass(frozen=True)
class Part:
    """One split. ``problems``: those of the annotations, of the pictures, and pictures that other splits have too."""

    split: str
    dataset: Dataset
    problems: tuple[Problem, ...]


def parts(data: str | Path, *, split: str | None = None, images: str | Path | None = None) -> list[tuple[str, Dataset]]:
    """The splits of a dataset, all with the classes of the first; ``split``: that one alone.

    Raises:
        DataError: there is no such split, nothing in it, or the same in two, since ``images`` is the folder of one.
    """
    wanted = [split] if split else splits(data, images)
    found: list[tuple[str, Dataset]] = []
    for name in wanted:
        names = found[0][1].names if found else None
        found.append((name, read(data, split=name, images=images, names=names)))
        if images is not None and len(found) > 1 and found[0][1].same_pictures_as(found[-1][1]):
            raise DataError(f"{images}: {wanted[0]} and {name} would both be its pictures; say which with --split")
    return found


def check(
    data: str | Path,
    *,
    split: str | None = None,
    images: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Part]:
    """Reads all annotations and decodes every picture.

    Args:
        split: that one alone; None: all that there are.
        progress: called with (done, total) after every picture.

    Raises:
        DataError: there is no dataset.
    """
    datasets = parts(data, split=split, images=images)
    total, done = sum(len(dataset) for _, dataset in datasets), 0
    seen: dict[bytes, tuple[str, Path]] = {}
    checked = []
    for name, dataset in datasets:
        problems = list(dataset.problems)
        for image in dataset.images:
            where = f"picture {image.name[:200]}"
            try:
                content = read_file(image.path)
                height, width = decode_image(content).shape[:2]
            except InputError as error:
                problems.append(Problem(name, where, str(error), "picture"))
            else:
                if (width, height) != (image.width, image.height):
                    text = f"is {width} x {height}, its header says {image.width} x {image.height}"
                    problems.append(Problem(name, where, text, "picture"))
                first = seen.setdefault(hashlib.sha256(content).digest(), (name, image.path))
                if first != (name, image.path):
                    text = f"is the same file as {first[1].name} of {first[0]}"
                    problems.append(Problem(name, where, text, "nothing"))
            done += 1
            if progress:
                progress(done, total)
        checked.append(Part(name, dataset, tuple(problems)))
    return checked


_SMALL, _LARGE = 32.0**2, 96.0**2
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


def statistics(dataset: Dataset) -> dict[str, Any]:
    """What is in a dataset, for json: counts by class and by COCO's sizes, and how sides are spread (in pixels)."""
    counts = np.diff(dataset.offsets)
    sides = dataset.annotated[:, 2:]
    areas = dataset.areas
    number = len(dataset.names)
    owner = np.repeat(np.arange(len(dataset)), counts)
    objects = np.bincount(dataset.labels, minlength=number)
    pictures = np.bincount(np.unique(owner * number + dataset.labels) % number, minlength=number)
    classes = {
        name: {"objects": int(objects[label]), "images": int(pictures[label])}
        for label, name in enumerate(dataset.names)
    }
    sizes = [(image.width, image.height) for image in dataset.images]
    return {
        "images": len(dataset),
        "objects": len(dataset.labels),
        "images_without_objects": int((counts == 0).sum()),
        "objects_per_image": {"mean": float(counts.mean()), "most": int(counts.max())},
        "crowd": int(dataset.crowd.sum()),
        "difficult": int(dataset.difficult.sum()),
        "sizes": {
            "small": int((areas < _SMALL).sum()),
            "medium": int(((areas >= _SMALL) & (areas <= _LARGE)).sum()),
            "large": int((areas > _LARGE).sum()),
        },
        "width": _spread(sides[:, 0]),
        "height": _spread(sides[:, 1]),
        "image_width": _spread([width for width, _ in sizes]),
        "image_height": _spread([height for _, height in sizes]),
        "classes": classes,
    }


def _spread(values: Any) -> dict[str, float]:
    """Quantiles in percent."""
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        return {}
    return {str(q): float(value) for q, value in zip(_QUANTILES, np.percentile(numbers, _QUANTILES), strict=True)}


def plot_statistics(datasets: Sequence[tuple[str, Dataset]], path: Path) -> None:
    """Draws class balance, box sizes and objects in a picture of every split.

    Raises:
        MissingDependencyError: matplotlib is not there; the text says how to install it.
    """
    from leyolo.eval.plots import figure, save_figure

    if not datasets:
        raise DataError("there is nothing to draw")
    drawn = figure(14, 4.5)
    balance, boxes, crowding = drawn.subplots(1, 3)
    names = datasets[0][1].names
    width = 0.8 / len(datasets)
    for at, (split, dataset) in enumerate(datasets):
        objects = np.bincount(dataset.labels, minlength=len(names))
        balance.bar(np.arange(len(names)) + at * width, objects, width, label=split)
        sides = dataset.annotated[:, 2:]
        boxes.scatter(sides[:, 0], sides[:, 1], s=4, alpha=0.3, label=split)
        counts = np.diff(dataset.offsets)
        crowding.hist(counts, bins=np.arange(0, counts.max() + 2) - 0.5, histtype="step", linewidth=1.5, label=split)
    balance.set_xticks(np.arange(len(names)), names, rotation=60, ha="right")
    balance.set(ylabel="objects", title="Classes")
    boxes.set(xscale="log", yscale="log", xlabel="width, px", ylabel="height, px", title="Boxes")
    most = 1.3 * max(1.0, *(float(dataset.annotated[:, 2:].max(initial=1)) for _, dataset in datasets))
    boxes.set(xlim=(1, most), ylim=(1, most))
    for side in (32, 96):  # COCO's borders between small, medium and large
        sweep = np.geomspace(1, 4096, 50)
        boxes.plot(sweep, side**2 / sweep, color="0.6", linewidth=1)
        # At its lower end, since boxes that are so much wider than high are rare; in the middle most of them lie.
        end = min(most, side**2) / 1.4
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        boxes.annotate(f"{side}²", (end, side**2 / end), color="0.4", ha="center", va="center", bbox=paper)
    crowding.set(xlabel="objects in a picture", ylabel="pictures", title="Density")
    crowding.legend()
    save_figure(drawn, path)
