"""The classes of a model beside those of a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from leyolo.data.builder import Labels
from leyolo.data.dataset import DataError

SYNONYMS = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
"""COCO's class names and what Pascal VOC calls them."""


def class_map(names: Mapping[int, str], known: Sequence[str]) -> dict[int, int]:
    """Class index of the model -> label of the dataset, by name (VOC's spellings are known).

    A dataset that has numbers for names (YOLO labels without any) means the model's own.

    Raises:
        DataError: no name is known to both.
    """
    if all(name.isdecimal() for name in known) and not set(known) & set(names.values()):
        by_number = {int(name): label for label, name in enumerate(known)}
        found = {index: by_number[index] for index in names if index in by_number}
    else:
        labels = Labels(known)
        found = {}
        for index, name in names.items():
            lower = name.strip().lower()
            spellings = (name, SYNONYMS.get(lower, lower), lower.replace(" ", ""))
            there = [label for label in map(labels.get, spellings) if label is not None]
            if there:
                found[index] = there[0]
    if not found:
        raise DataError(
            f"the model and the data share no class: {some(names.values())} against {some(n.lower() for n in known)}"
        )
    return found


def some(names: Iterable[str]) -> str:
    """The first of them, for a message."""
    listed = list(names)
    return ", ".join(listed[:4]) + (" …" if len(listed) > 4 else "")
