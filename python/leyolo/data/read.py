"""Annotations of any format, as one Dataset."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from leyolo.data import cache
from leyolo.data.builder import Builder
from leyolo.data.dataset import DataError, Dataset
from leyolo.data.describe import read_description
from leyolo.data.formats import check_split, read_one

_DESCRIPTIONS = (".yaml", ".yml")
_NAMES = ("data.yaml", "data.yml", "dataset.yaml")


def read(
    data: str | Path,
    *,
    split: str,
    images: str | Path | None = None,
    names: Sequence[str] | None = None,
    keep_unreadable: bool = False,
) -> Dataset:
    """Reads annotated pictures.

    What is wrong with an annotation costs itself and is reported in ``problems``; boxes are clipped to their picture.
    The result is kept in the user's cache folder until one of the files changes.

    Args:
        data: a COCO json, a VOC folder, a YOLO folder or list, or a yaml that names any of them.
        split: ``"train"``, ``"val"``, ``"test"`` or another that the data has. Data that is not split (a COCO json, a
            list, a folder without either) is taken as a whole under these three, and as ``"all"``.
        images: folder of the pictures, where it is not the usual one; of YOLO's, with a folder for each split or none.
        names: the classes to read, in this order, as for the validation data of a model that has been trained on them;
            None: those of the data.
        keep_unreadable: keeps pictures that cannot be decoded, for an evaluation that counts their objects as missed.

    Raises:
        DataError: there is no dataset, no such split, or no picture in it that can be read.
        MissingDependencyError: VOC and yaml need a package that is not here; the text says how to install it.
    """
    path = Path(data).absolute()
    folder = None if images is None else Path(images).absolute()
    if folder is not None and not folder.is_dir():
        raise DataError(f"{images}: no such folder")
    if names is not None and not names:
        raise DataError("names must have at least one class, got none")
    if split in ("", "..") or Path(split).name != split:
        raise DataError(f"a split is the name of a list or folder, got {split!r}")
    kept = cache.cache_file(data=path, split=split, images=folder, names=names, keep_unreadable=keep_unreadable)
    dataset = cache.load(kept)
    if dataset is None:
        started = time.time_ns()
        builder = Builder(keep_unreadable=keep_unreadable)
        builder.sources.append(path)  # a yaml added to a folder says what it is
        path = described(path)
        if path.suffix.lower() in _DESCRIPTIONS:
            dataset = read_description(path, builder, split=split, images=folder, names=names)
        else:
            check_split(path, split, folder)
            dataset = read_one(path, builder, split=split, images=folder, names=names)
        cache.save(kept, dataset, builder.sources, started)
    return dataset


def described(path: Path) -> Path:
    """A folder with a ``data.yaml``, or with one yaml and nothing else that says what it is, is what the yaml says."""
    if not path.is_dir():
        return path
    for name in _NAMES:
        if (path / name).is_file():
            return path / name
    found = [p for p in path.iterdir() if p.suffix.lower() in _DESCRIPTIONS]
    known = any((path / name).is_dir() for name in ("Annotations", "images", "labels"))
    return found[0] if len(found) == 1 and not known else path
