"""Pictures of a run: what it learns from, how it went, what it finds. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from leyolo.data.batch import Batch
from leyolo.data.check import plot_statistics
from leyolo.data.dataset import Dataset
from leyolo.eval.plots import figure, save_figure
from leyolo.predict.draw import color
from leyolo.predict.images import Pixels
from leyolo.predict.sources import of_file
from leyolo.weights.native import write_atomically

if TYPE_CHECKING:
    from leyolo.train.loop import Job

_TILES, _SIDE = 16, 320
"""A picture of pictures has so many at most, with so many pixels to their longer sides."""


def draw_data(job: Job) -> None:
    """labels.png, and batch.jpg with the first batch as it is learnt."""
    folder = job.settings.folder
    lists: list[tuple[str, Dataset]] = [("train", job.data)]
    if job.val_data is not None:
        lists.append(("val", job.val_data))
    plot_statistics(lists, folder / "labels.png")
    for batch in job.loader:
        _save(folder / "batch.jpg", labelled(batch))
        break


def draw_results(job: Job, best: Path) -> None:
    """results.png, and of the best weights on the validation list predictions.jpg, precision_recall.png and
    confusion.png."""
    settings = job.settings
    draw_curves(job.progress.rows, settings.folder / "results.png")
    if job.val_data is None:
        return
    from leyolo.model import LeYOLO

    model = LeYOLO(best, device=str(job.group.device))
    model.val(job.val_data, imgsz=settings.imgsz, rect=settings.rect, plots=settings.folder)
    files = [of_file(image.path) for image in job.val_data.images[:_TILES]]
    _save(settings.folder / "predictions.jpg", [result.plot() for result in model(files, imgsz=settings.imgsz)])


def draw_curves(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Losses, mAP and learning rate over the epochs."""
    drawn = figure(12, 4)
    axes = drawn.subplots(1, 3)
    for axis, title, names in (
        (axes[0], "Loss", [n for n in rows[0] if n.startswith("train/")]),
        (axes[1], "Average precision", ["val/map50", "val/map75", "val/map"]),
        (axes[2], "Learning rate", ["lr"]),
    ):
        for name in names:
            found = [(row["epoch"], row[name]) for row in rows if name in row]
            if found:
                axis.plot(*zip(*found, strict=True), marker=".", label=name.partition("/")[2] or name)
        axis.set(title=title, xlabel="epoch")
        if axis.lines:
            axis.legend()
    axes[1].set(ylim=(0, 1))
    save_figure(drawn, path)


def labelled(batch: Batch) -> list[Pixels]:
    """The pictures of a batch with their boxes, in the colours of their classes."""
    pictures = []
    targets = batch.targets
    for row, pixels in enumerate(batch.images[:_TILES].permute(0, 2, 3, 1).cpu().numpy()):
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        pen = ImageDraw.Draw(picture)
        count = int(targets.counts[row])
        for box, label in zip(targets.boxes[row, :count].tolist(), targets.labels[row, :count].tolist(), strict=True):
            pen.rectangle(box, outline=color(label), width=2)
        pictures.append(np.asarray(picture))
    return pictures


def tiled(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures side by side, in rows, each scaled to fit a square of ``_SIDE`` pixels."""
    columns = max(1, round(len(pictures) ** 0.5))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * _SIDE, rows * _SIDE), (114, 114, 114))
    for number, pixels in enumerate(pictures):
        picture = Image.fromarray(pixels)
        picture.thumbnail((_SIDE, _SIDE))
        sheet.paste(picture, (number % columns * _SIDE, number // columns * _SIDE))
    return np.asarray(sheet)


def _save(path: Path, pictures: Sequence[Pixels]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(tiled(pictures)).save(buffer, "JPEG", quality=90)
    write_atomically(path, buffer.getvalue())
