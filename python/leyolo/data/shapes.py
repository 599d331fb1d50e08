"""``shapes``: a generated dataset of ten classes of drawn objects, for training and tests without a download."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from leyolo.data.shape_pictures import NAMES, Drawn, draw
from leyolo.errors import UsageError
from leyolo.weights.native import write_atomically

VAL_SHARE = 0.2
_SMALLEST = 64
_DESCRIPTION = "data.yaml"


def picture(seed: int, index: int, size: int) -> Drawn:
    """Picture ``index`` of the dataset: it depends on nothing else."""
    return draw(size, np.random.default_rng([seed, index]))


def write_shapes(
    out: str | Path,
    *,
    images: int,
    imgsz: int = 320,
    seed: int = 0,
    val: float = VAL_SHARE,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the dataset.

    ``images/train``, ``images/val`` (JPEG), ``annotations/train.json``, ``val.json`` (COCO) and ``data.yaml``, each
    file as a whole or not at all, the annotations after their pictures, the yaml last. The first ``1 - val`` of the
    pictures are for training.

    Args:
        out: the folder; what is already there stays, unless it has the same name.
        images: how many pictures, 2 or more. imgsz: their side in pixels, 64 or more.
        progress: called with (done, total) after every picture.

    Returns:
        The yaml.

    Raises:
        UsageError: a number is out of range; the text says which.
    """
    if images < 2:
        raise UsageError(f"images must be 2 or more, one for each split, got {images}")
    if not _SMALLEST <= imgsz <= 4096:
        raise UsageError(f"imgsz must be within {_SMALLEST}..4096, got {imgsz}")
    if not 0 < val < 1:
        raise UsageError(f"val must be between 0 and 1, got {val:g}")
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}")
    folder = Path(out)
    # Over an earlier dataset: broken off, this one must not leave its pictures with the annotations of that.
    for name in (_DESCRIPTION, *(f"annotations/{split}.json" for split in ("train", "val"))):
        (folder / name).unlink(missing_ok=True)
    first_of_val = min(max(round(images * (1 - val)), 1), images - 1)
    for split, indices in (("train", range(first_of_val)), ("val", range(first_of_val, images))):
        content: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(NAMES)],
        }
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        for index in indices:
            drawn = picture(seed, index, imgsz)
            name = f"{index:06d}.jpg"
            write_atomically(folder / "images" / split / name, _jpeg(drawn))
            _describe(content, index + 1, name, drawn, imgsz)
            if progress:
                progress(index + 1, images)
        (folder / "annotations").mkdir(exist_ok=True)
        write_atomically(folder / "annotations" / f"{split}.json", json.dumps(content).encode())
    description = folder / _DESCRIPTION
    lines = [f"# {images} pictures of drawn objects, seed {seed}", "path: ."]
    lines += [f"{split}: annotations/{split}.json" for split in ("train", "val")]
    lines += ["names:", *(f"  {label}: {name}" for label, name in enumerate(NAMES))]
    write_atomically(description, ("\n".join(lines) + "\n").encode())
    return description


def _jpeg(drawn: Drawn) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(drawn.image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _describe(content: dict[str, list[dict[str, Any]]], id: int, name: str, drawn: Drawn, side: int) -> None:
    """Adds a picture and its objects in COCO's form."""
    content["images"].append({"id": id, "file_name": name, "width": side, "height": side})
    for (x1, y1, x2, y2), label in zip(drawn.boxes.tolist(), drawn.labels.tolist(), strict=True):
        box = [x1, y1, x2 - x1, y2 - y1]
        content["annotations"].append(
            {
                "id": len(content["annotations"]) + 1,
                "image_id": id,
                "category_id": label + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
        )
