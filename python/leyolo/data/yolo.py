"""YOLO's text files: for every picture one with a line ``class cx cy w h`` for every box, as shares of the picture."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from leyolo.data.builder import Builder, Labels, is_file, read_lines
from leyolo.data.dataset import DataError, Dataset
from leyolo.predict.images import IMAGE_SUFFIXES

MAX_BYTES = 64 << 20
_SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_NAME_FILES = ("classes.txt", "labels/classes.txt", "obj.names")


def read_yolo(
    source: Path,
    builder: Builder,
    *,
    split: str,
    images: Path | None = None,
    names: Sequence[str] | None = None,
    numbered: Sequence[str] | None = None,
) -> Dataset:
    """Reads pictures with YOLO labels.

    Args:
        source: a folder with ``images/`` and ``labels/`` (with or without a folder for each split, or below a folder
            for each split), a folder of pictures (or of a folder for each split), or a ``.txt`` list of pictures,
            relative to the list.
        split: which of the folders.
        images: folder of the pictures instead of the source, or where those of a list are.
        names: the classes to read, in this order; None: all.
        numbered: the names of the class numbers; None: those of a ``classes.txt``, else ``names``, else the numbers.

    The labels of ``images/…/a.jpg`` are ``labels/…/a.txt``, else ``a.txt`` beside it; a picture without is background.
    A line with more coordinates is a polygon, of which the box is taken. A picture whose size cannot be read loses its
    boxes: they are shares of it.

    Raises:
        DataError: there is no such folder, or no picture that can be read.
    """
    builder.sources.append(source)
    if source.is_dir():
        builder.sources += _folders(images or source)  # they say whether one of them is a split
    if source.is_file():
        paths = _listed(source, images or source.parent, builder)
    else:
        paths = _found(_images(images or source, split), builder)
    root = source.parent if source.is_file() else source
    known = numbered or _named(root, builder) or names
    classes = None if known is None else _labels(known, known if names is None else names)
    labels: list[int] = []
    labelled = False
    for path, id in zip(paths, _ids(paths), strict=True):
        places = _label_places(path)
        builder.sources += places  # the first may be added, and is then the label
        file = next(filter(is_file, places), places[0])
        picture = builder.picture(file, path, id, name=path.name)
        if picture is not None and file.is_file():
            labelled = True
            labels += add_boxes(builder, file, picture, known, classes)
    missing = f"none of its {len(paths)} pictures has a label; expected them in {_label_places(paths[0])[0].parent}"
    if known is None and not labels:
        raise DataError(f"{source}: {missing}")
    if not labelled:
        builder.problem(source, "labels", missing)
    if known is None or classes is None:
        known = [str(label) for label in range(max(labels) + 1)]
        return builder.build(source, known, range(len(known)))
    wanted = known if names is None else names
    numbers = {label: number for number, label in reversed(list(enumerate(classes)))}  # the first of a name
    return builder.build(source, wanted, [numbers.get(label) for label in range(len(wanted))])


def _labels(known: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Class number -> label, by name; None: not wanted."""
    labels = Labels(wanted)
    return [labels.get(name) for name in known]


def _ids(paths: Sequence[Path]) -> list[str]:
    """Each picture's stem; where two share it, what tells their paths apart."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(common).as_posix() for path in paths]


def _images(folder: Path, split: str) -> Path:
    """The pictures of a split."""
    if found := _split_folder(folder, split):
        return found
    if there := yolo_splits(folder):
        raise DataError(f"{folder} has no split {split!r}, but {', '.join(there)}")
    return folder / "images" if (folder / "images").is_dir() else folder


def yolo_splits(folder: Path, *more: str) -> list[str]:
    """The usual splits that a folder has, and those of ``more``."""
    return [split for split in dict.fromkeys((*_SPELLINGS, *more)) if _split_folder(folder, split)]


def _split_folder(folder: Path, split: str) -> Path | None:
    for name in _SPELLINGS.get(split, (split,)):
        for place in (folder / "images" / name, folder / name / "images"):
            if place.is_dir():
                return place
        if (folder / name).is_dir() and not (folder / "images").is_dir() and not _is_class(folder, name):
            return folder / name
    return None


def _is_class(folder: Path, name: str) -> bool:
    """Whether a folder called "train" is one of a folder for each class: others have pictures, and none is a split."""
    usual = {spelling for spellings in _SPELLINGS.values() for spelling in spellings}
    others = [other for other in _folders(folder) if other.name != name]
    if name not in usual or any(other.name in usual for other in others):
        return False
    return any(file.suffix.lower() in IMAGE_SUFFIXES for other in others for file in other.glob("*"))


def _folders(folder: Path) -> list[Path]:
    return [Path(entry) for entry in os.scandir(folder) if entry.is_dir()]


def _found(folder: Path, builder: Builder) -> list[Path]:
    """Pictures below a folder, sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths: list[Path] = []
    for parent, _, files in os.walk(folder):
        builder.sources.append(Path(parent))
        paths += [Path(parent, name) for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise DataError(f"{folder}: no picture in it")
    return sorted(paths)


def _listed(file: Path, folder: Path, builder: Builder) -> list[Path]:
    lines = read_lines(file, MAX_BYTES)
    paths = [folder / line.strip() for line in lines if line.strip()]
    if not paths:
        raise DataError(f"{file}: no picture in it")
    unique = list(dict.fromkeys(paths))
    if len(unique) < len(paths):
        builder.problem(file, "file", f"names {len(paths) - len(unique)} pictures twice, they are taken once")
    return unique


def _named(folder: Path, builder: Builder) -> list[str] | None:
    for name in _NAME_FILES:
        path = folder / name
        builder.sources.append(path)
        if path.is_file():
            lines = [line.strip() for line in read_lines(path, MAX_BYTES)]
            while lines and not lines[-1]:
                lines.pop()
            # A class has the number of its line, also behind an empty one.
            return [name or str(number) for number, name in enumerate(lines)]
    return None


def _label_places(path: Path) -> list[Path]:
    """Where the label of a picture may be; the first that is there is it."""
    parts, beside = list(path.parts), path.with_suffix(".txt")
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            parts[at] = "labels"
            return [Path(*parts).with_suffix(".txt"), beside]
    return [beside]


def add_boxes(
    builder: Builder,
    file: Path,
    picture: int,
    known: Sequence[str] | None = None,
    classes: Sequence[int | None] | None = None,
) -> list[int]:
    """Adds the boxes of a label file; their labels.

    Args:
        known: the names of the class numbers, if there are any. classes: their labels, None for what is not wanted.
    """
    try:
        lines = read_lines(file, MAX_BYTES)
    except DataError as error:
        builder.problem(file, "file", str(error).removeprefix(f"{file}: "), "box")
        return []
    record = builder.images[picture]
    labels = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or not record.width:
            continue
        parsed = _parsed(words, None if known is None else len(known))
        if isinstance(parsed, str):
            builder.problem(file, f"line {number}", parsed, "box")
            continue
        number_of_class, (x, y, width, height) = parsed
        label = classes[number_of_class] if classes is not None else number_of_class
        if label is None:
            name = known[number_of_class][:200] if known is not None else ""
            builder.problem(file, f"line {number}", f"class {name!r} is not among the names given", "box")
            continue
        labels.append(label)
        xywh = (x * record.width, y * record.height, width * record.width, height * record.height)
        builder.box(file, f"line {number}", picture, xywh, label)
    return labels


MAX_CLASSES = 65_536


def _parsed(words: Sequence[str], classes: int | None) -> tuple[int, tuple[float, float, float, float]] | str:
    """Label and box (left, top, width, height as shares), or what is wrong."""
    text = " ".join(words)[:200]
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        return f"expected 'class cx cy w h', or a class and three or more points, got {text!r}"
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return f"expected numbers, got {text!r}"
    if not all(math.isfinite(v) and abs(v) < 1e6 for v in numbers):
        return f"expected finite numbers, got {text!r}"
    label, *rest = numbers
    if label != int(label) or not 0 <= label < (MAX_CLASSES if classes is None else classes):
        most = "" if classes is None else f" of 0 to {classes - 1}"
        return f"expected a class number{most}, got {words[0][:200]}"
    if len(rest) == 4:
        x, y, width, height = rest
        return int(label), (x - width / 2, y - height / 2, width, height)
    xs, ys = rest[0::2], rest[1::2]
    return int(label), (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
