"""Which splits a dataset has."""

from __future__ import annotations

from pathlib import Path

from leyolo.data.describe import described_splits
from leyolo.data.formats import known_splits
from leyolo.data.read import described


def splits(data: str | Path, images: str | Path | None = None) -> list[str]:
    """The names of the splits that :func:`leyolo.data.read` would find; ``["all"]`` where the data is not split.

    Where there are the usual three, or some of them, others (as VOC's "trainval") are left out: they repeat these.
    """
    path = described(Path(data).absolute())
    if path.suffix.lower() in (".yaml", ".yml"):
        found = described_splits(path)
    else:
        found = known_splits(path, None if images is None else Path(images))
    usual = [split for split in found if split in ("train", "val", "test")]
    return usual or found or ["all"]
