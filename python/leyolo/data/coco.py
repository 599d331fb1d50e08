"""COCO json (https://cocodataset.org/#format-data): what is wrong in it costs itself, never the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from leyolo.data.builder import Builder, Labels, read_limited, shown
from leyolo.data.dataset import DataError, Dataset, Id

MAX_BYTES = 4 << 30
_LISTS = ("images", "annotations", "categories")


def read_coco(
    path: Path, builder: Builder, *, images: Path | None = None, names: Sequence[str] | None = None
) -> Dataset:
    """Reads a COCO json.

    Args:
        path: the json file.
        images: folder of the pictures; None: the json's own, or the usual ones near it.
        names: the classes to read, in this order; None: the json's, by their ids.

    Raises:
        DataError: the file is no COCO json, or names no picture that can be read.
    """
    builder.sources.append(path)
    content = _content(path)
    categories = _rows(builder, path, content, "categories", "name")
    if all(isinstance(row["id"], int) for row in categories):
        categories.sort(key=lambda row: row["id"])
    if names is None:
        names = _names(builder, path, categories)
    known = Labels(names)
    labels = {row["id"]: label for row in categories if (label := known.get(row["name"])) is not None}
    listed = _rows(builder, path, content, "images", "file_name")
    folder = images or _folder(path, listed)
    pictures = {row["id"]: _picture(builder, path, folder, row) for row in listed}
    if not any(at is not None for at in pictures.values()):
        raise DataError(
            f"{path}: none of its {len(content['images'])} pictures can be read in {folder} (say where with --images)"
        )
    named = {row["id"]: row["name"] for row in categories}
    for number, row in enumerate(content["annotations"]):
        _annotation(builder, path, number, row, pictures, labels, named)
    ids: dict[int, Id] = {label: id for id, label in reversed(labels.items())}  # the first of a name
    return builder.build(path, names, [ids.get(label) for label in range(len(names))])


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_limited(path, MAX_BYTES))
    except DataError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    for key in _LISTS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path} is not a COCO json: it has no list {key!r}")
    return dict(content)


def _names(builder: Builder, path: Path, categories: Sequence[dict[str, Any]]) -> list[str]:
    """The class names; categories that share one, as some tools write, are one class."""
    first: dict[str, dict[str, Any]] = {}
    for row in categories:
        before = first.setdefault(row["name"].strip(), row)
        if before is not row:
            text = f"has the name of category {before['id']}, {row['name'][:200]!r}: they are one class"
            builder.problem(path, f"category {row['id']}"[:200], text)
    return [row["name"] for row in first.values()]


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    """Finite as a float: json knows NaN, and integers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def _rows(builder: Builder, path: Path, content: dict[str, Any], key: str, name: str) -> list[dict[str, Any]]:
    """The rows of a list that have a usable id of their own and a name."""
    rows: dict[Any, dict[str, Any]] = {}
    costs: Any = "picture" if key == "images" else "nothing"
    for number, row in enumerate(content[key]):
        if not isinstance(row, dict) or not _is_id(row.get("id")) or not isinstance(row.get(name), str):
            builder.problem(path, f"{key}[{number}]", f"needs an id and a {name}", costs)
        elif row["id"] in rows:
            first = rows[row["id"]][name][:200]
            builder.problem(path, f"{key}[{number}]", f"id {str(row['id'])[:200]} is that of {first}", costs)
        else:
            rows[row["id"]] = row
    return list(rows.values())


def _folder(path: Path, listed: Sequence[dict[str, Any]]) -> Path:
    """Where the first picture that is found lies: beside the json, or where COCO and its tools put pictures."""
    parent, split = path.parent, path.stem.removeprefix("instances_")
    folders = [parent, parent / "images", parent / "JPEGImages"]
    folders += [parent.parent / part for part in (split, "images", f"images/{split}")]
    for row in listed[:20]:
        for folder in folders:
            try:
                if (folder / row["file_name"]).is_file():
                    return folder
            except (OSError, ValueError):
                pass  # a name that no file can have: too long, with a zero byte
    return parent


def _picture(builder: Builder, path: Path, folder: Path, row: dict[str, Any]) -> int | None:
    width, height = row.get("width"), row.get("height")
    size = (float(width), float(height)) if _is_number(width) and _is_number(height) else None
    return builder.picture(path, folder / row["file_name"], row["id"], name=row["file_name"], declared=size)


def _annotation(
    builder: Builder,
    path: Path,
    number: int,
    row: Any,
    pictures: dict[Id, int | None],
    labels: dict[Id, int],
    named: dict[Id, str],
) -> None:
    """Adds one annotation, or says why it cannot be used."""
    name = row.get("id", number) if isinstance(row, dict) else number
    where = f"annotation {name if _is_id(name) else shown(name)}"[:200]
    problem = _problem(row, pictures, named)
    if problem:
        builder.problem(path, where, problem, "box")
        return
    picture = pictures[row["image_id"]]
    if picture is None:
        return
    if row["category_id"] not in labels:
        builder.problem(path, where, f"class {named[row['category_id']][:200]!r} is not among the names given", "box")
        return
    box = row["bbox"]
    area, crowd = row.get("area"), row.get("iscrowd", 0)
    if "area" in row and (not _is_number(area) or area < 0):
        builder.problem(path, where, f"area {shown(area)}, that of the box is taken")
        area = None
    if isinstance(crowd, list | dict) or crowd not in (0, 1):
        builder.problem(path, where, f"iscrowd {shown(crowd)}, 0 is taken")
        crowd = 0
    xywh = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    label = labels[row["category_id"]]
    builder.box(path, where, picture, xywh, label, area=None if area is None else float(area), crowd=bool(crowd))


def _problem(row: Any, pictures: dict[Id, int | None], named: dict[Id, str]) -> str | None:
    """Why an annotation cannot be used."""
    if not isinstance(row, dict) or not all(key in row for key in ("image_id", "category_id", "bbox")):
        return "needs image_id, category_id, bbox"
    known: dict[str, dict[Id, Any]] = {"image_id": pictures, "category_id": named}
    for key, ids in known.items():
        if not _is_id(row[key]) or row[key] not in ids:
            return f"unknown {key} {shown(row[key])}"
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        return f"bbox must be four finite numbers, got {shown(box)}"
    return None
