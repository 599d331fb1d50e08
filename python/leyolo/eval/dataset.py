"""Reading a COCO json for evaluation: dirty annotations cost themselves, never the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leyolo.errors import InputError

SYNONYMS = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
"""COCO's class names and what Pascal VOC calls them."""


class DataError(InputError):
    """Annotations that cannot be used: the text says what was expected and what came."""


@dataclass
class CocoData:
    """A dataset in COCO's form, cleaned.

    content      the json: "images", "annotations", "categories"
    folder       where the image files are
    problems     what was left out, a line each
    """

    content: dict[str, Any]
    folder: Path
    problems: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[dict[str, Any]]:
        images: list[dict[str, Any]] = self.content["images"]
        return images

    def path(self, image: Mapping[str, Any]) -> Path:
        return self.folder / str(image["file_name"])


def read_coco(path: str | Path, images: str | Path | None = None) -> CocoData:
    """Reads a COCO json.

    Args:
        path: the json file.
        images: folder of the image files; None: the folder of the json.

    Raises:
        DataError: the file is no COCO json, or names no image that exists.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path} is not a COCO json: it has no list {key!r}")
    data = CocoData({}, Path(images) if images else path.parent)
    categories = _rows(data, content, "categories", "name")
    listed = _rows(data, content, "images", "file_name")
    kept = [image for image in listed if _exists(data, image)]
    if not kept:
        raise DataError(
            f"{path}: none of its {len(content['images'])} images is in {data.folder} (say where with --images)"
        )
    image_ids, listed_ids = {i["id"] for i in kept}, {i["id"] for i in listed}
    category_ids = {c["id"] for c in categories}
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(content["annotations"]):
        problem = _problem(row, listed_ids, category_ids)
        if problem:
            name = row.get("id", number) if isinstance(row, dict) else number
            data.problems.append(f"annotation {name}: {problem}")
        elif row["image_id"] in image_ids:
            annotations.append({**row, "id": len(annotations) + 1, **_area_and_crowd(data, row, number)})
    data.content = {"images": kept, "annotations": annotations, "categories": categories}
    return data


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Finite as a float: json knows NaN, and integers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def _rows(data: CocoData, content: dict[str, Any], key: str, name: str) -> list[dict[str, Any]]:
    """The rows of a list that have a usable id of their own and a name."""
    rows: dict[Any, dict[str, Any]] = {}
    for number, row in enumerate(content[key]):
        if not isinstance(row, dict) or not _is_id(row.get("id")) or not isinstance(row.get(name), str):
            data.problems.append(f"{key}[{number}]: needs an id and a {name}")
        elif row["id"] in rows:
            data.problems.append(f"{key}[{number}]: id {row['id']} is that of {rows[row['id']][name]}")
        else:
            rows[row["id"]] = row
    return list(rows.values())


def _exists(data: CocoData, image: dict[str, Any]) -> bool:
    try:
        if data.path(image).is_file():
            return True
    except (OSError, ValueError):
        pass  # a name that no file can have: too long, with a zero byte
    data.problems.append(f"image {image['file_name'][:200]}: no such file")
    return False


def _problem(row: Any, images: set[Any], categories: set[Any]) -> str | None:
    """Why an annotation cannot be used."""
    if not isinstance(row, dict) or not all(key in row for key in ("image_id", "category_id", "bbox")):
        return "needs image_id, category_id, bbox"
    for key, known in (("image_id", images), ("category_id", categories)):
        if not _is_id(row[key]) or row[key] not in known:
            return f"unknown {key} {row[key]!r}"
    box = row["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) for v in box):
        return f"bbox must be four finite numbers, got {str(box)[:200]}"
    if box[2] <= 0 or box[3] <= 0:
        return f"bbox has no area: {box}"
    return None


def _area_and_crowd(data: CocoData, row: dict[str, Any], number: int) -> dict[str, Any]:
    """Where they are not what they should be, that of the box and 0: left as they are they would change the numbers."""
    width, height = row["bbox"][2:]
    area, crowd = row.get("area", width * height), row.get("iscrowd", 0)
    name = row.get("id", number)
    if not _is_number(area) or area < 0:
        data.problems.append(f"annotation {name}: area {str(area)[:200]}, that of the box is taken")
        area = width * height
    if crowd not in (0, 1):
        data.problems.append(f"annotation {name}: iscrowd {str(crowd)[:200]}, 0 is taken")
        crowd = 0
    return {"area": area, "iscrowd": int(crowd)}


def class_map(names: Mapping[int, str], categories: list[dict[str, Any]]) -> dict[int, Any]:
    """Class index of the model -> category id of the dataset, by name (VOC's spellings are known).

    Raises:
        DataError: no name is known to both.
    """
    by_name = {str(category["name"]).lower(): category["id"] for category in categories}
    found = {}
    for index, name in names.items():
        lower = name.lower()
        for spelling in (lower, SYNONYMS.get(lower, lower), lower.replace(" ", "")):
            if spelling in by_name:
                found[index] = by_name[spelling]
                break
    if not found:
        raise DataError(
            f"the model and the data share no class: {_some(list(names.values()))} against {_some(list(by_name))}"
        )
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
