"""Small annotated datasets for tests, in every format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Objects = Sequence[tuple[str, tuple[float, float, float, float]]]
"""Class name and box xyxy."""

ANNOTATION = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40]}
"""A good one of :func:`write_coco`'s."""


def write_picture(path: Path, width: int = 200, height: int = 150, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 255, (5, 6, 3), np.uint8)
    Image.fromarray(small).resize((width, height)).save(path)
    return path


def write_coco(folder: Path, **changes: Any) -> Path:
    """Pictures 7 (a.jpg) and 9 (b.jpg) of 200 x 150, classes 3 (tvmonitor) and 5 (person), a box on each."""
    write_picture(folder / "a.jpg", seed=1)
    write_picture(folder / "b.jpg", seed=2)
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [{"id": 3, "name": "tvmonitor"}, {"id": 5, "name": "person"}],
        "annotations": [
            ANNOTATION,
            {"id": 2, "image_id": 9, "category_id": 5, "bbox": [0, 0, 100, 120], "iscrowd": 0, "area": 12000},
        ],
    } | changes
    path = folder / "data.json"
    path.write_text(json.dumps(content))
    return path


def voc_xml(objects: Objects, *, extra: str = "", size: tuple[int, int] = (200, 150)) -> str:
    """``extra``: XML that goes into every object."""
    body = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in objects
    )
    return (
        f"<annotation><filename>x.jpg</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"{body}</annotation>"
    )


def write_voc(folder: Path, pictures: dict[str, Objects], **lists: Sequence[str]) -> Path:
    """Pictures of 200 x 150 by stem; ``lists``: stems by split."""
    (folder / "Annotations").mkdir(parents=True)
    for at, (stem, objects) in enumerate(pictures.items()):
        write_picture(folder / "JPEGImages" / f"{stem}.jpg", seed=at)
        (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml(objects))
    for name, stems in lists.items():
        path = folder / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(stems) + "\n")
    return folder


def write_yolo(folder: Path, splits: dict[str, dict[str, str]]) -> Path:
    """Split -> stem -> text of the label file; pictures of 200 x 150."""
    for split, labels in splits.items():
        for at, (stem, text) in enumerate(labels.items()):
            write_picture(folder / "images" / split / f"{stem}.jpg", seed=at)
            path = folder / "labels" / split / f"{stem}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder
