"""Loads the next pictures on a background thread while the current ones run; the order stays."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from leyolo.errors import LeYOLOError
from leyolo.predict.images import Picture, decode_reduced
from leyolo.predict.sources import Item, unreadable

Size = int | tuple[int, int]


@dataclass(frozen=True)
class Loaded:
    """A decoded picture, or what is wrong with it."""

    item: Item
    picture: Picture | None
    error: LeYOLOError | None
    milliseconds: float


def load(item: Item, enough: Size | None = None) -> Loaded:
    """Decodes it; with ``enough``, only as many pixels as a letterbox into that needs (``decode_reduced``)."""
    start = time.perf_counter()
    picture: Picture | None
    error: LeYOLOError | None
    try:
        if enough is None or item.encoded is None:
            picture, error = Picture.whole(item.load()), None
        else:
            picture, error = decode_reduced(item.encoded(), enough), None
    except LeYOLOError as problem:
        picture, error = None, problem
    except Exception as problem:
        picture, error = None, unreadable(problem)
    return Loaded(item, picture, error, (time.perf_counter() - start) * 1e3)


def prefetched(items: Iterable[Item], depth: int, enough: Size | None = None) -> Iterator[Loaded]:
    """``load`` of every item, with up to ``depth`` pictures decoded ahead. Closing the iterator ends the thread."""
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
                put(load(item, enough))
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
