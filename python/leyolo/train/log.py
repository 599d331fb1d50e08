"""What a run says and records: lines and a bar on stderr, results.csv, TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from leyolo.cli.console import is_terminal, say
from leyolo.errors import MissingDependencyError
from leyolo.train.memory import peak_memory
from leyolo.weights.native import write_atomically


def csv_text(rows: Sequence[dict[str, float]]) -> str:
    """A header of all columns, in the order of their first use, and a line a row; empty where a row has no value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    return text.getvalue()


class Log:
    """``folder``: of the run; None for a process that neither writes nor talks. ``quiet``: it writes only."""

    def __init__(self, folder: Path | None, *, total: int, done: int = 0, quiet: bool = False, board: bool = False):
        self._folder, self._talks = folder, folder is not None and not quiet
        self._board: Any = _tensorboard(folder) if board and folder is not None else None
        self._bar: Any = None
        if self._talks and is_terminal():
            self._bar = _bar()
            self._task = self._bar.add_task("", total=total, completed=done)
            self._bar.start()

    def line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._talks:
            say(text)

    def batch(self, epoch: int, number: int, names: Sequence[str], parts: Tensor) -> None:
        """Moves the bar on; the values are only read (which waits for a GPU) where somebody sees them."""
        if self._bar is not None:
            values = "  ".join(f"{name} {value:.3f}" for name, value in zip(names, parts.tolist(), strict=True))
            self._bar.update(
                self._task, advance=1, description=f"epoch {epoch + 1}  {values}  {peak_memory() / 1024:.1f} GB"
            )

    def epoch(self, row: dict[str, float], epochs: int, best: bool) -> None:
        """Reports a finished epoch."""
        losses = "  ".join(f"{n.removeprefix('train/')} {v:.3f}" for n, v in row.items() if n.startswith("train/"))
        text = f"epoch {row['epoch']:.0f}/{epochs}  {losses}  {row['images_per_s']:.1f} img/s"
        if "val/map" in row:
            text += f"  mAP50-95 {row['val/map']:.3f}  mAP50 {row['val/map50']:.3f}" + ("  best" if best else "")
        self.line(text)
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, int(row["epoch"]))
            self._board.flush()

    def rows(self, rows: Sequence[dict[str, float]]) -> None:
        """Writes results.csv."""
        if self._folder is not None and rows:
            write_atomically(self._folder / "results.csv", csv_text(rows).encode())

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(f"tensorboard is not usable here ({error})\npip install tensorboard") from None
    return SummaryWriter(str(folder))
