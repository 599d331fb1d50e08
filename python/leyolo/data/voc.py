"""Pascal VOC's folders (Everingham et al. 2010): an XML for every picture, lists of pictures in ``ImageSets/Main``.

Coordinates are taken as the file has them: today's annotation tools count from 0, VOC's own devkit from 1.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from leyolo.data.builder import Builder, Labels, is_file, read_limited, read_lines
from leyolo.data.dataset import DataError, Dataset
from leyolo.errors import MissingDependencyError
from leyolo.predict.images import IMAGE_SUFFIXES

MAX_BYTES = 4 << 20
_LISTS = Path("ImageSets") / "Main"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() or any(True for _ in folder.glob("*.xml"))


def read_voc(
    folder: Path,
    builder: Builder,
    *,
    split: str,
    images: Path | None = None,
    names: Sequence[str] | None = None,
) -> Dataset:
    """Reads a VOC folder.

    Args:
        folder: has ``Annotations/`` and ``JPEGImages/``, or XML files and pictures side by side.
        split: name of a list in ``ImageSets/Main``; a folder without lists is taken as a whole.
        images: folder of the pictures; None: ``JPEGImages``, or that of the XML files.
        names: the classes to read, in this order; None: all that occur in the folder, whatever the split, sorted.

    Raises:
        DataError: there is no such list, or no picture that can be read.
    """
    folder = folder if folder.is_dir() else folder.parent
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    pictures = images or (folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else annotations)
    stems = _stems(folder, annotations, split, builder)
    builder.sources += [folder, annotations, pictures]
    found = _by_stem(pictures)
    whole = sorted(annotations.glob("*.xml"))
    trees: dict[str, Any] = {}
    for path in whole if names is None else [annotations / f"{stem}.xml" for stem in stems]:
        builder.sources.append(path)
        trees[path.stem] = _tree(path)
    if names is None:
        names = _occurring(folder, builder, trees)
    labels = Labels(names)
    for stem in stems:
        file = annotations / f"{stem}.xml"
        tree = trees.get(stem, "no such file")
        if isinstance(tree, str):
            builder.problem(file, "file", tree, "picture")
            continue
        name = _text(tree, "filename") or f"{stem}.jpg"
        path = found.get(stem) or found.get(Path(name).stem) or pictures / Path(name).name
        size = (_number(tree, "size/width"), _number(tree, "size/height"))
        declared = (size[0], size[1]) if size[0] is not None and size[1] is not None else None
        at = builder.picture(file, path, stem, name=path.name, declared=declared)
        if at is not None:
            for number, element in enumerate(tree.iterfind("object"), 1):
                _object(builder, file, f"object {number}", at, element, labels)
    return builder.build(folder, names, [label + 1 for label in range(len(names))])


def voc_splits(folder: Path) -> list[str]:
    """Its lists, but those of single classes, as "aeroplane_train.txt"; the usual three in their order."""
    found = [p.stem for p in (folder / _LISTS).glob("*.txt") if "_" not in p.stem]
    usual = ["train", "val", "test"]
    return sorted(found, key=lambda name: (usual.index(name) if name in usual else len(usual), name))


def _stems(folder: Path, annotations: Path, split: str, builder: Builder) -> list[str]:
    lists = folder / _LISTS
    path = lists / f"{split}.txt"
    known = voc_splits(folder)
    builder.sources.append(lists)
    if not known:
        return sorted(p.stem for p in annotations.glob("*.xml"))
    if not path.is_file():
        raise DataError(f"{lists} has no list {split!r}, but {', '.join(known)}")
    builder.sources.append(path)
    stems = dict.fromkeys(_stem(line, annotations) for line in read_lines(path, MAX_BYTES) if line.strip())
    # A list names files of this folder, and nothing outside it.
    for stem in [s for s in stems if Path(s).name != s]:
        builder.problem(path, stem[:200], "is not the name of a picture", "picture")
        del stems[stem]
    return list(stems)


def _stem(line: str, annotations: Path) -> str:
    """What a line of a list names: in those of single classes a number stands behind it; a name may have spaces."""
    name, *rest = line.split()
    whole = line.strip()
    return whole if rest and is_file(annotations / f"{whole}.xml") else name


def _by_stem(folder: Path) -> dict[str, Path]:
    try:
        entries = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error} (say where the pictures are with --images)") from error
    return {Path(name).stem: folder / name for name in entries if Path(name).suffix.lower() in IMAGE_SUFFIXES}


def _tree(path: Path) -> Any:
    """The root element, or what is wrong with the file."""
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import ParseError, fromstring
    except ImportError as error:
        raise MissingDependencyError("reading VOC's XML needs defusedxml\npip install 'leyolo[val]'") from error
    try:
        root = fromstring(read_limited(path, MAX_BYTES), forbid_dtd=True)
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        return f"is not XML that can be read: {error}"
    return root if root.tag == "annotation" else f"expected <annotation>, got <{root.tag[:200]}>"


def _occurring(folder: Path, builder: Builder, trees: dict[str, Any]) -> list[str]:
    """The class names in a folder. Those that differ in case alone are different, as where letters are detected, but
    worth a line."""
    names = sorted({name for tree in trees.values() if not isinstance(tree, str) for name in _names(tree)})
    first: dict[str, str] = {}
    for name in names:
        if (alike := first.setdefault(name.lower(), name)) != name:
            builder.problem(folder, "names", f"{alike[:200]!r} and {name[:200]!r} are two classes")
    return names


def _names(tree: Any) -> Iterator[str]:
    for element in tree.iterfind("object"):
        if name := _text(element, "name"):
            yield name


def _text(element: Any, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: Any, path: str) -> float | None:
    try:
        value = float(_text(element, path))
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e100 else None


def _object(builder: Builder, file: Path, where: str, picture: int, element: Any, labels: Labels) -> None:
    """Adds one object, or says why it cannot be used."""
    name = _text(element, "name")
    if not name:
        builder.problem(file, where, "needs a name", "box")
        return
    label = labels.get(name)
    if label is None:
        builder.problem(file, where, f"class {name[:200]!r} is not among the names given", "box")
        return
    x1, y1, x2, y2 = (_number(element, f"bndbox/{corner}") for corner in _CORNERS)
    if x1 is None or y1 is None or x2 is None or y2 is None:
        came = ", ".join(_text(element, f"bndbox/{corner}")[:50] or "nothing" for corner in _CORNERS)
        builder.problem(file, where, f"bndbox must be four finite numbers, got {came}", "box")
        return
    difficult = _text(element, "difficult")
    if difficult not in ("", "0", "1"):
        builder.problem(file, where, f"difficult {difficult[:200]!r}, 0 is taken")
    xywh = (x1, y1, x2 - x1, y2 - y1)
    builder.box(file, where, picture, xywh, label, difficult=difficult == "1")
