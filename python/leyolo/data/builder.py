"""What every reader hands its pictures and boxes to: one place that checks, clips and reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from leyolo.data.dataset import PER_BOX, DataError, Dataset, Id, ImageRecord, Problem
from leyolo.data.probe import picture_size
from leyolo.errors import InputError

Four = tuple[float, float, float, float]

_SLACK = 1.0
"""Pixels by which a box may reach outside its picture before that is worth a line: rounding does as much."""


class _Box(NamedTuple):
    picture: int
    boxes: Four
    labels: int
    crowd: bool
    difficult: bool
    duplicate: bool
    annotated: Four
    areas: float


class Builder:
    """Collects one dataset.

    Args:
        keep_unreadable: keeps pictures that cannot be read (size 0 x 0), so that an evaluation counts their objects as
            missed; otherwise they are left out.

    ``sources`` lists every file that was looked at, for the cache.
    """

    def __init__(self, *, keep_unreadable: bool = False) -> None:
        self.keep_unreadable = keep_unreadable
        self.images: list[ImageRecord] = []
        self.problems: list[Problem] = []
        self.sources: list[Path] = []
        self._boxes: list[_Box] = []
        self._seen: dict[tuple[Any, ...], str] = {}

    def problem(
        self, file: Path, where: str, text: str, costs: Literal["nothing", "box", "picture"] = "nothing"
    ) -> None:
        self.problems.append(Problem(file.name, where, text, costs))

    def picture(
        self, file: Path, path: Path, id: Id, *, name: str, declared: tuple[float, float] | None = None
    ) -> int | None:
        """Adds a picture; its position, or None where it is left out.

        Args:
            file: the annotation file that names it. path: the picture. name: as the file writes it.
            declared: (width, height) that the annotations say; another size is reported, and the picture's is taken.
        """
        self.sources.append(path)
        try:
            width, height = picture_size(path)
        except InputError as error:
            self.problem(file, f"picture {name[:200]}", str(error), "picture")
            if not self.keep_unreadable or not _is_file(path):
                return None
            width = height = 0
        if declared and width and tuple(declared) not in ((width, height), (0, 0)):
            said = f"{declared[0]:g} x {declared[1]:g}"
            hint = "; turned by EXIF?" if tuple(declared) == (height, width) else ""
            self.problem(file, f"picture {name[:200]}", f"is {width} x {height}, annotated as {said}{hint}")
        self.images.append(ImageRecord(path, id, width, height, name))
        return len(self.images) - 1

    def box(
        self,
        file: Path,
        where: str,
        picture: int,
        xywh: Four,
        label: int,
        *,
        area: float | None = None,
        crowd: bool = False,
        difficult: bool = False,
    ) -> None:
        """Adds a box of finite numbers, in pixels; what cannot be used of it is reported.

        Args:
            where: its place in the file. picture: the picture's position. area: None for that of the box.
        """
        box = self._clipped(file, where, self.images[picture], xywh)
        if box is None:
            return
        first = self._seen.setdefault((picture, label, crowd, *box), where)
        duplicate = first is not where
        if duplicate:
            self.problem(file, where, f"has the class and bbox of {first}: training leaves it out", "box")
        area = xywh[2] * xywh[3] if area is None else area
        self._boxes.append(_Box(picture, box, label, crowd, difficult, duplicate, xywh, area))

    def _clipped(self, file: Path, where: str, image: ImageRecord, xywh: Four) -> Four | None:
        """The box xyxy within its picture; None, and a report, where nothing is left."""
        x, y, width, height = xywh
        if not (width > 0 and height > 0):
            self.problem(file, where, f"bbox has no area: {_text(xywh)}", "box")
            return None
        box = (x, y, x + width, y + height)
        if not image.width:
            return box
        x1, x2 = (min(max(v, 0.0), image.width) for v in box[0::2])
        y1, y2 = (min(max(v, 0.0), image.height) for v in box[1::2])
        size = f"{image.width} x {image.height}"
        if not (np.float32(x2) > np.float32(x1) and np.float32(y2) > np.float32(y1)):  # as they are kept
            self.problem(file, where, f"bbox is outside the picture of {size}: {_text(xywh)}", "box")
            return None
        if max(abs(a - b) for a, b in zip(box, (x1, y1, x2, y2), strict=True)) > _SLACK:
            self.problem(file, where, f"bbox reaches outside the picture of {size}: {_text(xywh)}, clipped")
        return x1, y1, x2, y2

    def build(self, file: Path, names: Sequence[str], categories: Sequence[Id | None]) -> Dataset:
        """The dataset. ``file``: what to name where no picture is left.

        Raises:
            DataError: there is no picture.
        """
        if not self.images:
            causes = [str(p) for p in self.problems if p.costs == "picture"]
            reason = f", {len(causes)} cannot be used; the first: {causes[0]}" if causes else ""
            raise DataError(f"{file}: no picture{reason}")
        order = sorted(self._boxes, key=lambda box: box.picture)  # stable: in a picture as in the file
        counts = np.bincount([box.picture for box in order], minlength=len(self.images))
        arrays = {
            key: np.array([getattr(box, key) for box in order], dtype).reshape(
                (-1, 4) if key in ("boxes", "annotated") else (-1,)
            )
            for key, dtype in PER_BOX.items()
        }
        return Dataset(
            images=tuple(self.images),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            **arrays,
            names=tuple(names),
            categories=tuple(categories),
            problems=tuple(self.problems),
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # a name that no file can have: too long, with a zero byte


def _text(numbers: Sequence[float]) -> str:
    return f"[{', '.join(f'{v:g}' for v in numbers)}]"


def read_limited(path: Path, limit: int) -> bytes:
    """A file's bytes.

    Raises:
        DataError: it cannot be read, or has more bytes than ``limit``.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > limit:
        raise DataError(f"{path} has more than {limit:,} bytes, the most that is read of such a file")
    return content


def label_map(names: Sequence[str]) -> dict[str, int]:
    """Class name -> label. Names are compared without regard to case and outer spaces.

    Raises:
        DataError: two are the same.
    """
    labels: dict[str, int] = {}
    for index, name in enumerate(names):
        if labels.setdefault(spelt(name), index) != index:
            raise DataError(f"class names must differ, got {name!r} twice")
    return labels


def spelt(name: str) -> str:
    return name.strip().lower()
