"""Pictures of an evaluation: precision over recall, and what is taken for what. Needs matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from leyolo.errors import MissingDependencyError
from leyolo.eval.matching import CONFIDENCE, confusion_matrix
from leyolo.eval.run import Evaluation
from leyolo.weights.native import write_atomically

_NAMED = 20
"""Up to so many classes are told apart by colour; more are drawn in grey, under their mean."""


def require_matplotlib() -> None:
    """MissingDependencyError where it is not there: to be asked before work that would be lost."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib\npip install 'leyolo[val]'") from error


def figure(width: float, height: float) -> Any:
    """An empty figure of so many inches; no display is needed."""
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(drawn: Any, path: Path) -> None:
    """Writes a figure in one step; the suffix says the format."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format=path.suffix.lstrip(".") or "png", dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def colours(count: int) -> list[Any]:
    """Colours that can be told apart, up to 20 of them."""
    from matplotlib import colormaps

    return list(colormaps["tab10" if count <= 10 else "tab20"](range(min(max(count, 1), 20))))


def write_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draws everything into a folder; the files."""
    drawn = {"precision_recall.png": precision_recall(evaluation), "confusion.png": confusion(evaluation)}
    for name, each in drawn.items():
        save_figure(each, folder / name)
    return [folder / name for name in drawn]


def precision_recall(evaluation: Evaluation) -> Any:
    """Precision over recall at IoU 0.5, the mean of the classes also at 0.75."""
    drawn = figure(7, 5)
    axes = drawn.subplots()
    recall = np.linspace(0, 1, evaluation.precision.shape[1])
    curves = evaluation.precision[0]
    axes.set_prop_cycle(color=colours(evaluation.precision.shape[2]))
    there = [label for label in range(curves.shape[1]) if not np.isnan(curves[0, label])]
    for label in there:
        name = evaluation.dataset.names[label]
        named = {"label": f"{name} {curves[:, label].mean():.3f}"} if len(there) <= _NAMED else {"color": "0.8"}
        axes.plot(recall, curves[:, label], linewidth=1, **named)
    for at, threshold, style in ((0, "0.50", "-"), (5, "0.75", "--")):
        if there:
            mean = evaluation.precision[at][:, there].mean(axis=1)
            axes.plot(recall, mean, style, color="black", linewidth=2, label=f"all, IoU {threshold}: {mean.mean():.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall at IoU 0.5")
    if there:
        drawn.legend(loc="outside right upper", fontsize="small")
    return drawn


def confusion(evaluation: Evaluation) -> Any:
    """The confusion matrix, as shares of the true objects of every class; the last row as counts."""
    matrix = confusion_matrix(evaluation.dataset, evaluation.detections)
    names = [*evaluation.dataset.names, "nothing"]
    sums = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, sums, out=np.zeros(matrix.shape), where=sums > 0)
    side = float(np.clip(2.5 + 0.45 * len(names), 5, 24))
    drawn = figure(side, side)
    axes = drawn.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    axes.set(xlabel="detected as", ylabel="is", title=f"Confusion at confidence {CONFIDENCE} and IoU 0.5: objects")
    if len(names) <= _NAMED + 1:
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize="small", color=colour)
    return drawn
