"""Batches of a dataset, epoch by epoch, from worker processes or from this one."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from leyolo.data.augment import Augment
from leyolo.data.batch import Batch
from leyolo.data.dataset import Dataset
from leyolo.data.draw import Drawer
from leyolo.data.order import Order, Plan
from leyolo.errors import LeYOLOError, UsageError

MEMORY = 1 << 30
"""Bytes of decoded pictures that all workers of a process keep together."""
TIMEOUT = 300.0
"""Seconds without a batch after which workers are given up."""
_LOOK = 5.0
"""Seconds without a batch after which torch looks whether its workers live: from a fork server no signal says so."""


class LoaderError(LeYOLOError, RuntimeError):
    """Workers that ended or stood still: what is known about the cause."""


class Loader:
    """The batches of an epoch, in order; iterate over it once an epoch.

    Workers stay alive from epoch to epoch, and know nothing of the order: it is made here and sent to them batch by
    batch. They start in fresh processes, not as copies of this one, whose locks a copy could inherit while they are
    held; a script that uses workers therefore needs ``if __name__ == "__main__":``.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: Order,
        *,
        augment: Augment | None = None,
        epoch: int = 0,
        start: int = 0,
        workers: int = 0,
        pin_memory: bool = False,
        timeout: float = TIMEOUT,
    ) -> None:
        if workers < 0:
            raise UsageError(f"workers must be 0 or more, got {workers}")
        self._dataset, self._order, self._timeout = dataset, order, timeout
        self._sampler = _Sampler()
        self.set_epoch(epoch, augment=augment, start=start)
        self._batches: DataLoader[Batch | _Failed] = DataLoader(
            cast("TorchDataset[Batch | _Failed]", _Batches(dataset, MEMORY // max(1, workers))),
            batch_size=None,
            sampler=self._sampler,
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            timeout=timeout if workers else 0,
            worker_init_fn=_start_worker,
            multiprocessing_context=_context() if workers else None,
            persistent_workers=workers > 0,
            # Torch draws the workers' seed; from the global generator, that would change what training draws.
            generator=torch.Generator(),
        )

    def set_epoch(self, epoch: int, *, augment: Augment | None, start: int = 0) -> None:
        """What the next iteration yields: the batches of ``epoch`` from position ``start`` on."""
        plans = self._order.plans(self._dataset, epoch, augment)
        if not 0 <= start <= len(plans):
            raise UsageError(f"start must be within 0..{len(plans)}, the batches of an epoch, got {start}")
        self._sampler.plans = plans[start:]

    def __len__(self) -> int:
        return len(self._sampler.plans)

    @property
    def plans(self) -> list[Plan]:
        """The batches that the next iteration yields."""
        return self._sampler.plans

    def __iter__(self) -> Iterator[Batch]:
        """
        Raises:
            DataError: a picture cannot be read; the text names it.
            LoaderError: a worker ended, or none answered in time.
        """
        try:
            self._check_workers()
            self._wait_for(self._timeout)  # of a new epoch all workers are told once, and answer when they are free
            batches = iter(self._batches)
            self._end_for_certain()
            self._wait_for(min(_LOOK, self._timeout))
            while (batch := self._next(batches)) is not None:
                if isinstance(batch, _Failed):
                    raise batch.kind(batch.text)
                yield batch
        except (RuntimeError, OSError, EOFError) as error:
            if not self._batches.num_workers:
                raise
            raise LoaderError(self._cause(error)) from error

    def _check_workers(self) -> None:
        """Of the epoch before: a new one would wait for all of them, as long as the time-out."""
        running: Any = self._batches._iterator
        if running is not None and not all(worker.is_alive() for worker in running._workers):
            raise EOFError("between two epochs")

    def _wait_for(self, seconds: float) -> None:
        """How long torch waits for an answer; what it is given when it is made holds for good."""
        running: Any = self._batches._iterator
        if running is not None:
            running._timeout = seconds

    def _end_for_certain(self) -> None:
        running: Any = self._batches._iterator
        event = getattr(running, "_workers_done_event", None)
        if event is not None and not isinstance(event, _DoneEvent):
            running._workers_done_event = _DoneEvent(event)

    def _next(self, batches: Iterator[Batch | _Failed]) -> Batch | _Failed | None:
        """The next batch, None behind the last: asked for again as long as the workers live, up to the time-out."""
        started = time.monotonic()
        while True:
            try:
                return next(batches, None)
            except RuntimeError as error:
                if not _timed_out(error) or time.monotonic() - started >= self._timeout:
                    raise

    def _cause(self, error: Exception) -> str:
        text = str(error)
        if _timed_out(error):
            return f"no batch for {self._timeout:g} s: is the pictures' disk there? workers=0 reads without processes"
        # A worker that is gone shows in what torch says, or in a pipe that ends.
        if isinstance(error, OSError | EOFError) or "exited unexpectedly" in text or "is killed by signal" in text:
            first = (text or type(error).__name__).splitlines()[0]
            text = f"a loader worker ended, most often for lack of memory ({first})"
            return f'{text}\nUse fewer workers, or a smaller batch; a script needs: if __name__ == "__main__":'
        return text


def loader(
    dataset: Dataset,
    *,
    imgsz: int,
    batch: int,
    seed: int,
    epoch: int,
    augment: Augment | None,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    rect: bool = False,
    shuffle: bool = True,
    pin_memory: bool = False,
) -> Loader:
    """Batches of a dataset for training or validation; the same for the same arguments, whatever ``workers`` is.

    Args:
        dataset: from :func:`leyolo.data.read`.
        imgsz, batch, seed, rank, world, shuffle, rect: see :class:`leyolo.data.order.Order`.
        epoch, start: the epoch, and the position in it of the first batch. Later epochs: :meth:`Loader.set_epoch`.
        augment: None for the letterbox alone, as prediction has it.
        workers: processes that read and augment ahead; 0 does it in this one.
        pin_memory: batches in page-locked memory, from which a GPU copies without waiting.

    Raises:
        UsageError: an argument is out of range; the text says which.
    """
    order = Order(imgsz=imgsz, batch=batch, seed=seed, rank=rank, world=world, shuffle=shuffle, rect=rect)
    return Loader(dataset, order, augment=augment, epoch=epoch, start=start, workers=workers, pin_memory=pin_memory)


def _timed_out(error: Exception) -> bool:
    return "DataLoader timed out" in str(error)


class _DoneEvent:
    """What tells the workers to end. Torch's own waits for ever for the lock of a worker that was killed while it
    looked whether the event is set, wherever the loader goes away: in a garbage collection, or at the program's end.
    """

    _PATIENCE = 5.0
    """Seconds; torch kills workers that go on."""

    def __init__(self, event: Any) -> None:
        self._event, self._set = event, False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        lock, flag = self._event._cond, self._event._flag
        if lock.acquire(timeout=self._PATIENCE):  # and nobody waits for the event who would have to be woken
            flag.acquire(False)
            flag.release()
            lock.release()


class _Failed:
    """An error on its way from a worker: torch would wrap it into its traceback."""

    def __init__(self, error: LeYOLOError) -> None:
        self.kind, self.text = type(error), str(error)


class _Batches:
    """What torch indexes: by a plan, not by a number."""

    def __init__(self, dataset: Dataset, memory: int) -> None:
        self._drawer = Drawer(dataset, memory)

    def __getitem__(self, plan: Plan) -> Batch | _Failed:
        try:
            return self._drawer.batch(plan)
        except LeYOLOError as error:
            return _Failed(error)


class _Sampler:
    """The plans of an epoch, looked up when an iteration starts.

    It does not know its loader: a cycle would leave the workers to the garbage collection, which closes their queues
    before torch can tell them to end, and then waits seconds for each.
    """

    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def __iter__(self) -> Iterator[Plan]:
        return iter(self.plans)

    def __len__(self) -> int:
        return len(self.plans)


def _unchanged(batch: Any) -> Any:
    return batch


def _context() -> str:
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods else "spawn"


def _start_worker(number: int) -> None:
    """One thread a worker: they are as many as there is work for."""
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(0)
