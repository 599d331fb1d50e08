"""The evaluation behind ``LeYOLO.val``: a prediction pipeline on a dataset, and what is written of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from leyolo.data import Dataset, read
from leyolo.errors import UsageError
from leyolo.eval.coco import require_engine
from leyolo.eval.metrics import Metrics
from leyolo.eval.run import validate
from leyolo.predict.pipeline import Pipeline, Settings
from leyolo.predict.results import Results
from leyolo.predict.run import run
from leyolo.predict.sources import Options, of_file
from leyolo.weights.native import write_atomically


def evaluate(
    pipeline: Pipeline,
    names: Mapping[int, str],
    data: str | Path | Dataset,
    settings: Settings,
    *,
    split: str,
    images: str | Path | None = None,
    save_json: str | Path | None = None,
    plots: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Metrics:
    """Arguments as for ``LeYOLO.val``; ``settings`` say how pictures become boxes."""
    require_engine()
    if plots is not None:
        from leyolo.eval.plots import require_matplotlib

        require_matplotlib()
        _make_folder(Path(plots))
    if save_json is not None and (Path(save_json).is_dir() or not Path(save_json).parent.is_dir()):
        raise UsageError(f"save_json must be a file in a folder that is there, got {save_json}")
    dataset = data if isinstance(data, Dataset) else read(data, split=split, images=images, keep_unreadable=True)

    def predict(paths: list[Path]) -> Iterator[Results | None]:
        """A result for every path; None for those that cannot be read."""
        files = [of_file(path) for path in paths]
        results = run(pipeline, names, files, settings, Options(), lambda path, error: None)
        ready = next(results, None)
        for path in paths:
            if ready is not None and ready.path == str(path):
                yield ready
                ready = next(results, None)
            else:
                yield None

    padding = "rect" if settings.rect else "square"
    evaluation = validate(predict, names, dataset, padding=padding, progress=progress)
    if save_json is not None:
        rows = evaluation.detections.coco_rows(dataset)
        write_atomically(Path(save_json), json.dumps(rows).encode())
    if plots is not None:
        from leyolo.eval.plots import write_plots

        write_plots(evaluation, Path(plots))
    return evaluation.metrics


def _make_folder(path: Path) -> None:
    """Before the work whose outcome goes there.

    Raises:
        UsageError: there is a file of that name, or it may not be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} must be a folder, or one that can be made ({error.strerror or error})") from error
