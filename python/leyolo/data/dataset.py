"""Annotated pictures, whatever file they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leyolo.errors import InputError

Id = int | str


class DataError(InputError):
    """Annotations or pictures that cannot be used: the text says what was expected and what came."""


@dataclass(frozen=True)
class Problem:
    """What an annotation file has wrong.

    file     its name
    where    the place in it: a line, an annotation, a picture
    text     what was expected and what came
    costs    what could not be used because of it
    """

    file: str
    where: str
    text: str
    costs: Literal["nothing", "box", "picture"]

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.text}"


@dataclass(frozen=True)
class ImageRecord:
    """One picture.

    path             of the file
    id               the user's own: a COCO image id, else the file's stem
    width, height    in pixels, turned upright by EXIF; 0 where the file cannot be read
    name             as the annotations write it
    """

    path: Path
    id: Id
    width: int
    height: int
    name: str


@dataclass(frozen=True)
class Dataset:
    """N pictures with n boxes of C classes; those of picture i are the rows ``rows(i)``.

    images       N records
    offsets      int64 [N + 1], ``offsets[i] : offsets[i + 1]`` are picture i's boxes
    boxes        float32 [n, 4], xyxy in pixels of the picture, clipped to it
    labels       int64 [n], positions in ``names``
    crowd        bool [n], a COCO region with many objects: neither to be learnt nor to be found
    difficult    bool [n], VOC's mark: left out of VOC's average precision
    duplicate    bool [n], the picture has this very box before: counted in evaluation, left out of training
    annotated    float64 [n, 4], xywh as the file has it, for evaluation: pycocotools does not clip either
    areas        float64 [n], COCO's ``area`` in pixels (of the mask, where there is one), else that of the box
    names        class names
    categories   the ids of the classes in the user's file; None for a class of ``names`` that the file does not have
    problems     what could not be used, or was not as expected
    """

    images: tuple[ImageRecord, ...]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    duplicate: NDArray[np.bool_]
    annotated: NDArray[np.float64]
    areas: NDArray[np.float64]
    names: tuple[str, ...]
    categories: tuple[Id | None, ...]
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: int) -> slice:
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def objects(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What there is to learn in a picture: boxes float32 [g, 4] and labels int64 [g], without crowds and
        duplicates. Difficult objects stay: left out, they would be taught as background."""
        rows = self.rows(index)
        kept = ~(self.crowd[rows] | self.duplicate[rows])
        return self.boxes[rows][kept], self.labels[rows][kept]

    def same_pictures_as(self, other: Dataset) -> bool:
        """Whether both have the same pictures, in whatever order."""
        return {image.path for image in self.images} == {image.path for image in other.images}

    def subset(self, positions: Sequence[int]) -> Dataset:
        """The pictures at these positions, in this order."""
        rows = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in positions]
        kept = np.concatenate([np.empty(0, np.int64), *rows])
        counts = np.array([0, *(len(each) for each in rows)], np.int64)
        arrays = {key: getattr(self, key)[kept] for key in PER_BOX}
        return Dataset(
            images=tuple(self.images[i] for i in positions),
            offsets=np.cumsum(counts),
            **arrays,
            names=self.names,
            categories=self.categories,
            problems=self.problems,
        )


PER_BOX: dict[str, Any] = {
    "boxes": np.float32,
    "labels": np.int64,
    "crowd": np.bool_,
    "difficult": np.bool_,
    "duplicate": np.bool_,
    "annotated": np.float64,
    "areas": np.float64,
}
"""The arrays of a Dataset that have a row for every box, with their types."""


def joined(parts: Sequence[Dataset]) -> Dataset:
    """Datasets of the same classes as one, in order."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if any(part.names != first.names for part in parts):
        raise DataError("parts of a dataset must have the same class names: give them under 'names'")
    offsets = [first.offsets]
    for part in parts[1:]:
        offsets.append(part.offsets[1:] + offsets[-1][-1])
    columns = zip(*(part.categories for part in parts), strict=True)
    return Dataset(
        images=tuple(image for part in parts for image in part.images),
        offsets=np.concatenate(offsets),
        **{key: np.concatenate([getattr(part, key) for part in parts]) for key in PER_BOX},
        names=first.names,
        categories=tuple(next((c for c in column if c is not None), None) for column in columns),
        problems=tuple(problem for part in parts for problem in part.problems),
    )
