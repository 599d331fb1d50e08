"""Which of the three annotation formats a path holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leyolo.data.builder import Builder
from leyolo.data.coco import read_coco
from leyolo.data.dataset import DataError, Dataset
from leyolo.data.voc import is_voc, read_voc, voc_splits
from leyolo.data.yolo import read_yolo, yolo_splits
from leyolo.errors import nearest

KNOWN = (
    "a COCO json, a VOC folder (Annotations/, JPEGImages/), a YOLO folder (images/, labels/), "
    "a .txt list of pictures, or a yaml that names any of them"
)

WHOLE = ("train", "val", "test", "all")
"""The splits of data that is not split: each is the whole of it."""


def known_splits(path: Path, images: Path | None, *more: str) -> list[str]:
    """The splits of annotations of any format but yaml, none of a COCO json or a list.

    Args:
        images: as for :func:`leyolo.data.read`. more: names that count as splits too, if the data has them.
    """
    if not path.is_dir():
        return []
    return voc_splits(path) if is_voc(path) else yolo_splits(images or path, *more)


def check_split(path: Path, split: str, images: Path | None) -> None:
    """Of data that is not split, a name that nobody gives a whole may be a mistyped one.

    Raises:
        DataError: it is.
    """
    if split not in WHOLE and path.exists() and not known_splits(path, images, split):
        there = ", ".join(WHOLE)
        raise DataError(
            f"{path} has no {split!r}: it is not split, and taken as a whole under each of {there}."
            f"{nearest(split, WHOLE)}"
        )


def names_pictures(path: Path) -> bool:
    """Whether annotations say which pictures they are of, wherever these are; a YOLO folder has those that are found
    (a yaml may name one)."""
    return path.suffix.lower() in (".json", ".txt") or (path.is_dir() and is_voc(path))


def read_one(
    path: Path,
    builder: Builder,
    *,
    split: str,
    images: Path | None = None,
    names: Sequence[str] | None = None,
    numbered: Sequence[str] | None = None,
) -> Dataset:
    """Reads annotations of any format but yaml; arguments as for :func:`leyolo.data.read`.

    Args:
        numbered: what the class numbers of YOLO labels stand for; of the other formats, the classes to read without
            ``names``.
    """
    classes = names or numbered
    if path.suffix.lower() == ".json":
        return read_coco(path, builder, images=images, names=classes)
    if path.is_dir() and is_voc(path):
        return read_voc(path, builder, split=split, images=images, names=classes)
    if path.suffix.lower() == ".txt" and path.parent.parent.name == "ImageSets":
        return read_voc(path.parents[2], builder, split=path.stem, images=images, names=classes)
    if path.is_dir() or path.suffix.lower() == ".txt":
        return read_yolo(path, builder, split=split, images=images, names=names, numbered=numbered)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected {KNOWN}")
    raise DataError(f"{path}: expected {KNOWN}")
