"""What there is to find in a picture: from annotations, from a label file, or from what a model detects itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leyolo.data.builder import Builder
from leyolo.data.check import parts
from leyolo.data.dataset import DataError, Dataset
from leyolo.data.yolo import add_boxes
from leyolo.errors import InputError
from leyolo.predict.images import Pixels
from leyolo.predict.pipeline import Pipeline, Settings


@dataclass(frozen=True)
class Truths:
    """The G objects of one picture.

    boxes    float32 [G, 4], xyxy in pixels of the picture
    labels   int64 [G], positions in ``names``
    names    class names; None: the classes are the model's own
    source   where they come from, for a person
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: Sequence[str] | None
    source: str


def from_data(data: str | Path, image: Path, *, split: str | None, images: str | Path | None) -> Truths:
    """The objects that annotations of any format (``leyolo.data.read``) have for a picture, found by its path, else by
    its name.

    Raises:
        DataError: none of the splits names the picture, or more than one picture has its name.
    """
    found = parts(data, split=split, images=images)
    wanted = image.resolve()
    every = [(dataset, at) for _, dataset in found for at in range(len(dataset))]
    same = [(dataset, at) for dataset, at in every if dataset.images[at].path.resolve() == wanted]
    same = same or [(dataset, at) for dataset, at in every if dataset.images[at].path.name == image.name]
    if not same:
        raise DataError(f"{data}: none of its {len(every)} pictures is {image}")
    if len({dataset.images[at].path.resolve() for dataset, at in same}) > 1:
        raise DataError(f"{data}: several pictures are named {image.name}; give the path of one of them")
    return of_picture(*same[0], source=f"annotations of {Path(data).name}")


def of_picture(dataset: Dataset, index: int, *, source: str) -> Truths:
    """The objects that training would learn in a picture of a dataset: no crowds, no duplicates."""
    return Truths(*dataset.objects(index), dataset.names, source)


def from_labels(file: Path, image: Path) -> Truths:
    """The boxes of a YOLO label file (``class cx cy w h``, shares of the picture); class numbers are the model's.

    Raises:
        DataError: the picture or a line cannot be used; the text says which.
    """
    if not file.is_file():
        raise DataError(
            f"{file}: no such file; expected a YOLO label file, with a line 'class cx cy w h' for every box"
        )
    builder = Builder()
    picture = builder.picture(file, image, image.stem, name=image.name)
    labels = [] if picture is None else add_boxes(builder, file, picture)
    unusable = [problem for problem in builder.problems if problem.costs != "nothing"]
    if unusable:
        raise DataError(str(unusable[0]))
    names = [str(number) for number in range(max(labels, default=-1) + 1)]
    return of_picture(builder.build(file, names, range(len(names))), 0, source=f"boxes of {file.name}")


def from_model(pipeline: Pipeline, pixels: Pixels, settings: Settings) -> Truths:
    """What the model detects: for pictures without annotations.

    Raises:
        InputError: it detects nothing.
    """
    found = pipeline([pixels], settings)[0]
    if not len(found.labels):
        raise InputError(
            f"the model detects nothing above confidence {settings.conf:g}, and there are no annotations\n"
            "Give --data or --boxes, or a lower --conf"
        )
    source = f"the model's own detections above {settings.conf:g}"
    return Truths(found.boxes, found.labels, None, source)


def model_classes(known: Sequence[str], names: Mapping[int, str]) -> list[int] | None:
    """The model's class for each class of the data, by name; None where the model lacks one of them."""
    from leyolo.eval.classes import class_map

    try:
        by_model = class_map(names, known)
    except DataError:
        return None
    back = {label: index for index, label in sorted(by_model.items(), reverse=True)}
    return [back[label] for label in range(len(known))] if len(back) == len(known) else None
