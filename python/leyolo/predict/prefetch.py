"""Loads the next pictures on a background thread while the current ones run; the order stays."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from leyolo.errors import LeYOLOError
from leyolo.predict.images import Pixels
from leyolo.predict.sources import Item, unreadable


@dataclass(frozen=True)
class Loaded:
    """A decoded picture, or what is wrong with it."""

    item: Item
    pixels: Pixels | None
    error: LeYOLOError | None
    milliseconds: float


def load(item: Item) -> Loaded:
    start = time.perf_counter()
    pixels: Pixels | None
    error: LeYOLOError | None
    try:
        pixels, error = item.load(), None
    except LeYOLOError as problem:
        pixels, error = None, problem
    except Exception as problem:
        pixels, error = None, unreadable(problem)
    return Loaded(item, pixels, error, (time.perf_counter() - start) * 1e3)


def prefetched(items: Iterable[Item], depth: int) -> Iterator[Loaded]:
    """``map(load, items)`` with up to ``depth`` pictures decoded ahead. Closing the iterator ends the thread."""
    ready: queue.Queue[Loaded | BaseException | None] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(value: Loaded | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(value, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(load(item))
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    # A daemon, because it may be waiting for a camera or a pipe when the program wants to end.
    threading.Thread(target=work, name="leyolo-decode", daemon=True).start()
    try:
        while (value := ready.get()) is not None:
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        stop.set()
