"""What every reader hands its pictures and boxes to: one place that checks, clips and reports."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

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
            if not self.keep_unreadable or not is_file(path):
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


def is_file(path: Path) -> bool:
    """Whether it is there and a file; False for a name that no file can have: too long, with a zero byte."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _text(numbers: Sequence[float]) -> str:
    return f"[{', '.join(f'{v:g}' for v in numbers)}]"


def read_limited(path: Path, limit: int) -> bytes:
    """A file's bytes.

    Raises:
        DataError: it cannot be read, or has more bytes than ``limit``.
    """
    try:
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise DataError(f"{path} has more than {limit:,} bytes, the most that is read of such a file")
            return file.read(size)  # not the limit: so much memory would be asked for
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _opened(path: Path) -> BinaryIO:
    """A file, and nothing else: a pipe would be waited for, a device read without end."""
    if not path.is_file():
        path.stat()  # says what is wrong with it
        raise DataError(f"{path} is not a file")
    return path.open("rb")


def read_lines(path: Path, limit: int) -> list[str]:
    """The lines of a text file, as Windows writes them too, with a byte order mark.

    Raises:
        DataError: as for :func:`read_limited`.
    """
    return read_limited(path, limit).decode("utf-8-sig", "replace").splitlines()


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


def shown(value: object) -> str:
    """A value of any size and depth, in a message."""
    try:
        return _SHORT.repr(value)[:200]
    except ValueError:  # an integer of more digits than Python writes
        return f"a long {type(value).__name__}"


class Labels:
    """Class name -> label. A name that is not written so is looked for without regard to case.

    Raises:
        DataError: two are the same.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._exact = {name.strip(): label for label, name in enumerate(names)}
        if len(self._exact) < len(names):
            twice = next(name for label, name in enumerate(names) if self._exact[name.strip()] != label)
            raise DataError(f"class names must differ, got {twice[:200]!r} twice")
        self._alike: dict[str, int | None] = {}
        for name, label in self._exact.items():
            # Of "a" and "A", as where letters are detected, neither is meant by another spelling.
            self._alike[name.lower()] = None if name.lower() in self._alike else label

    def get(self, name: str) -> int | None:
        exact = self._exact.get(name.strip())
        return self._alike.get(name.strip().lower()) if exact is None else exact
