"""Which splits a dataset has."""

from __future__ import annotations

from pathlib import Path

from leyolo.data.describe import described_splits
from leyolo.data.read import described
from leyolo.data.voc import is_voc, voc_splits
from leyolo.data.yolo import yolo_splits


def splits(data: str | Path) -> list[str]:
    """The names of the splits that :func:`leyolo.data.read` would find; ``["all"]`` where the data is not split.

    Where there are the usual three, or some of them, others (as VOC's "trainval") are left out: they repeat these.
    """
    path = described(Path(data).absolute())
    found: list[str] = []
    if path.suffix.lower() in (".yaml", ".yml"):
        found = described_splits(path)
    elif path.is_dir():
        found = voc_splits(path) if is_voc(path) else yolo_splits(path)
    usual = [split for split in found if split in ("train", "val", "test")]
    return usual or found or ["all"]
