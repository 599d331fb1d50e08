"""The loop from a source to results, shared by the Python class and the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from leyolo.errors import LeYOLOError, UsageError
from leyolo.predict import sources
from leyolo.predict.pipeline import Pipeline, Settings
from leyolo.predict.prefetch import Loaded, load, prefetched
from leyolo.predict.results import Results

OnError = Callable[[str, LeYOLOError], None]
"""Called with the path and what is wrong with it; the run goes on if it returns."""

_KEPT_BYTES = 512 << 20


def run(
    pipeline: Pipeline,
    names: Mapping[int, str],
    source: Any,
    settings: Settings,
    options: sources.Options,
    on_error: OnError,
) -> Iterator[Results]:
    """Results in the order of the source. Holds at most two batches of pictures at a time."""
    waiting: list[Loaded] = []
    for loaded in _loaded(source, options, settings):
        if loaded.error is not None:
            on_error(loaded.item.path, loaded.error)
            continue
        waiting.append(loaded)
        if len(waiting) == settings.batch:
            yield from _predict(pipeline, names, waiting, settings, on_error)
            waiting = []
    if waiting:
        yield from _predict(pipeline, names, waiting, settings, on_error)


def _loaded(source: Any, options: sources.Options, settings: Settings) -> Iterator[Loaded]:
    """Pictures are loaded ahead on a thread, except of what the caller generates: its code runs on its own thread, in
    step with the results."""
    items = sources.items(source, options)
    enough = settings.imgsz if settings.fast_decode else None
    if sources.is_single(source) or (
        not isinstance(source, (str, list, tuple, int)) and not hasattr(source, "__fspath__")
    ):
        return (load(item, enough) for item in items)
    return prefetched(items, 2 * settings.batch, enough)


def _predict(
    pipeline: Pipeline, names: Mapping[int, str], loaded: list[Loaded], settings: Settings, on_error: OnError
) -> Iterator[Results]:
    pictures = [each.picture for each in loaded if each.picture is not None]
    try:
        detected = pipeline([picture.pixels for picture in pictures], settings)
    except (ValueError, TypeError, MemoryError) as error:
        if isinstance(error, UsageError):
            raise
        if len(loaded) == 1:
            on_error(loaded[0].item.path, sources.unreadable(error))
        for each in loaded if len(loaded) > 1 else ():  # the others of the batch have done nothing wrong
            yield from _predict(pipeline, names, [each], settings, on_error)
        return
    for each, picture, found in zip(loaded, pictures, detected, strict=True):
        boxes = picture.boxes_in_whole(found.boxes)
        rows = np.concatenate([boxes, found.scores[:, None], found.labels[:, None]], axis=1, dtype=np.float32)
        speed = {"decode": each.milliseconds, **found.speed}
        item, whole = each.item, picture.factor == 1
        yield Results(
            picture.pixels if whole else None,
            item.path,
            names,
            rows,
            speed=speed,
            frame=item.frame,
            from_file=item.from_file,
            shape=picture.shape,
            encoded=None if whole or item.from_file else picture.encoded,
        )


def collect(results: Iterator[Results]) -> list[Results]:
    """All results. Past half a gigabyte the pictures themselves are let go; files are read again when asked for."""
    kept, found = 0, []
    for result in results:
        kept += result.kept_bytes
        if kept > _KEPT_BYTES:
            result.drop_image()
        found.append(result)
    return found
