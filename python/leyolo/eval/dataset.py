"""Reading a COCO json for evaluation: dirty annotations cost themselves, never the run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SYNONYMS = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
"""COCO's class names and what Pascal VOC calls them."""


class DataError(ValueError):
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
    categories = _rows(data, content, "categories", ("id", "name"))
    kept = [i for i in _rows(data, content, "images", ("id", "file_name")) if _exists(data, i)]
    if not kept:
        raise DataError(
            f"{path}: none of its {len(content['images'])} images is in {data.folder} (say where with --images)"
        )
    image_ids, category_ids = {i["id"] for i in kept}, {c["id"] for c in categories}
    annotations = []
    for number, row in enumerate(_rows(data, content, "annotations", ("image_id", "category_id", "bbox"))):
        if row["image_id"] not in image_ids:
            continue  # of an image that was left out above
        problem = _problem(row, category_ids)
        if problem:
            data.problems.append(f"annotation {row.get('id', number)}: {problem}")
            continue
        width, height = row["bbox"][2:]
        annotations.append(
            {
                **row,
                "id": number + 1,
                "area": row.get("area", width * height),
                "iscrowd": int(bool(row.get("iscrowd", 0))),
            }
        )
    data.content = {"images": kept, "annotations": annotations, "categories": categories}
    return data


def _rows(data: CocoData, content: dict[str, Any], key: str, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a list that have what they need; ids must be usable as such."""
    rows = []
    for number, row in enumerate(content[key]):
        usable = isinstance(row, dict) and all(name in row for name in needed)
        if usable and all(isinstance(row[name], int | str) for name in needed if name != "bbox"):
            rows.append(row)
        else:
            data.problems.append(f"{key}[{number}]: needs {', '.join(needed)}")
    return rows


def _exists(data: CocoData, image: dict[str, Any]) -> bool:
    if data.path(image).is_file():
        return True
    data.problems.append(f"image {image['file_name']}: no such file")
    return False


def _problem(row: dict[str, Any], categories: set[Any]) -> str | None:
    box = row["bbox"]
    if row["category_id"] not in categories:
        return f"unknown category {row['category_id']}"
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(v, int | float) and math.isfinite(v) for v in box)
    ):
        return f"bbox must be four finite numbers, got {box}"
    if box[2] <= 0 or box[3] <= 0:
        return f"bbox has no area: {box}"
    return None


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
