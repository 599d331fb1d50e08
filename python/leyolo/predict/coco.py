"""COCO's conventions for result files.

The 80 detection classes carry 80 of the ids 1..90 in COCO's annotation files. Rows of a model that has exactly COCO's
80 class names use those ids; rows of any other model use class index + 1, the usual numbering of a COCO-style data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_UNUSED_IDS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
CATEGORY_IDS = tuple(i for i in range(1, 91) if i not in _UNUSED_IDS)
"""COCO category id of each of the 80 class indices."""

# fmt: off
NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on
"""COCO's 80 class names by class index."""


def categories(names: Mapping[int, str]) -> dict[int, int]:
    """Category id of every class index of a model with these names."""
    if tuple(names[i] for i in sorted(names)) == NAMES:
        return dict(enumerate(CATEGORY_IDS))
    return {i: i + 1 for i in names}


def image_id(path: str) -> int | str:
    """COCO names its files by image id: ``000000000139.jpg`` is 139. Other files are known by their stem."""
    stem = Path(path).stem
    return int(stem) if stem.isdecimal() and stem.isascii() else stem
