"""Runtimes beside each other: how ``leyolo benchmark model`` and ``leyolo benchmark pipeline`` measure.

Every runtime lives in a process of its own, so that none disturbs another's threads or memory. Outputs are compared
before anything is timed. The driver then goes round the runtimes many times, starting with another one each round, so
that a disturbance of the machine hits all alike; a turn is a few warm-up calls and as many timed calls as fit into
``seconds``, and its median is one sample. Rows give the median and the quartiles of the samples.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np

from leyolo import weights
from leyolo.bench.environment import environment
from leyolo.bench.limits import MOST_THREADS
from leyolo.bench.runtimes import OURS
from leyolo.bench.runtimes.base import Array, Runtime
from leyolo.bench.timing import cores, quartiles
from leyolo.errors import CheckError, UsageError, nearest

_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
_PAUSE = 0.03
"""Seconds between turns: threads of the last runtime that still spin go to sleep."""

ALL = "all"


class BenchmarkError(CheckError):
    """A runtime failed, or gave another result than the rest."""


@dataclass(frozen=True)
class Race:
    """What to measure: ``rounds`` samples per runtime, ``seconds`` of timed calls in each.

    shape     [B, H, W, 3] of the network's input
    progress  called with the turns done and their number
    loading   called with the name of every runtime before it is loaded, which may take a while
    """

    kind: Literal["network", "pipeline"]
    table: Mapping[str, Runtime[Any]]
    checkpoint: weights.Checkpoint
    shape: tuple[int, int, int, int]
    threads: int
    rounds: int
    seconds: float
    progress: Callable[[int, int], None] | None = None
    loading: Callable[[str], None] | None = None

    def run(
        self,
        names: Sequence[str],
        save_input: Callable[[Path], None],
        compare: Callable[[Mapping[str, Array]], Mapping[str, Mapping[str, float]]],
    ) -> dict[str, Any]:
        """The report of ``names``. ``save_input`` writes what the runtimes read; ``compare`` looks at all outputs and
        gives what it found as further fields of the rows."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leyolo-benchmark-")))
            weights.save(folder / "model.safetensors", self.checkpoint)
            save_input(folder / "input")
            workers: dict[str, _Worker] = {}
            skipped = []
            for name in names:
                if self.loading is not None:
                    self.loading(name)
                worker = stack.enter_context(_Worker(name, self, folder))
                if worker.failed is None:
                    workers[name] = worker
                elif name == OURS["float32"]:
                    raise BenchmarkError(f"the runtime {name!r} failed: {worker.failed}")
                else:
                    skipped.append({"name": name, "reason": worker.failed, "install": worker.install})
            found = compare({name: worker.output for name, worker in workers.items()})
            self._go_round(workers)
        rows = [{**self._row(worker, workers), **found.get(name, {})} for name, worker in workers.items()]
        return {"environment": environment(self.threads), "rows": rows, "skipped": skipped}

    def _go_round(self, workers: Mapping[str, _Worker]) -> None:
        order = list(workers.values())
        for turn in range(self.rounds * len(order)):
            time.sleep(_PAUSE)
            order[(turn + turn // len(order)) % len(order)].turn(self.seconds)
            if self.progress is not None:
                self.progress(turn + 1, self.rounds * len(order))

    def _row(self, worker: _Worker, workers: Mapping[str, _Worker]) -> dict[str, Any]:
        batch, height, width, _ = self.shape
        dtype = self.table[worker.name].dtype
        times = quartiles(worker.samples)
        same = workers.get(OURS.get(dtype, ""))
        return {
            "name": worker.name,
            "version": worker.version,
            "model": f"leyolo-{self.checkpoint.size}",
            "size": str(height) if height == width else f"{height}x{width}",
            "batch": batch,
            "threads": self.threads,
            "dtype": dtype,
            "median_ms": times.median,
            "p25_ms": times.low,
            "p75_ms": times.high,
            "ratio_to_ours": times.median / quartiles(workers[OURS["float32"]].samples).median,
            "ratio_to_ours_same_dtype": None if same is None else times.median / quartiles(same.samples).median,
            **{f"{stage}_ms": statistics.median(taken) for stage, taken in worker.stages.items()},
        }


def checkpoint_of(model: Any) -> weights.Checkpoint:
    """Of a LeYOLO, a Checkpoint, or the path of a weights file."""
    found = getattr(model, "checkpoint", model)
    return found if isinstance(found, weights.Checkpoint) else weights.load(found)


def input_shape(checkpoint: weights.Checkpoint, imgsz: int | tuple[int, int], batch: int) -> tuple[int, int, int, int]:
    """[B, H, W, 3]; UsageError where the network cannot take it."""
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    stride = max(checkpoint.strides)
    if height < 1 or width < 1 or height % stride or width % stride:
        raise UsageError(f"imgsz should be positive multiples of {stride}, got {height} x {width}")
    return batch, height, width, 3


def checked_counts(**counts: int) -> None:
    """UsageError where one of them is below 1."""
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"{name} should be at least 1, got {value}")


def default_threads(threads: int | None) -> int:
    """``threads``, or the cores that this process may use; UsageError where nobody could want so many."""
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"threads should be between 1 and {MOST_THREADS}, got {threads}")
    return threads or cores()


def chosen(runtimes: Sequence[str] | None, table: Mapping[str, Runtime[Any]]) -> list[str]:
    """The wanted names in the order of ``table``, and ours in float32 and in their precisions; None: the usual ones;
    "all": every one."""
    if runtimes is None:
        return [name for name, runtime in table.items() if runtime.usual]
    for name in runtimes:
        if name not in table and name != ALL:
            raise UsageError(f"no runtime is called {name!r} (known: {', '.join(table)}).{nearest(name, table)}")
    wanted = [name for name in table if name in runtimes or ALL in runtimes]
    ours = {OURS["float32"], *(OURS[table[name].dtype] for name in wanted)}
    return [name for name in table if name in ours or name in wanted]


class _Worker:
    """One runtime in its own process, loaded; ``failed`` says why it could not be, ``install`` what would help."""

    def __init__(self, name: str, race: Race, folder: Path) -> None:
        self.name = name
        self.samples: list[float] = []
        self.stages: dict[str, list[float]] = {}
        output = folder / f"{name}.npy".replace(" ", "_")
        self._log = folder / f"{name}.log".replace(" ", "_")
        count = str(race.threads)
        variables = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
        if race.table[name].tuned:
            variables |= _KEEP_MEMORY
        path = os.pathsep.join(path for path in sys.path if path)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "leyolo.bench.runtimes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **variables, "PYTHONPATH": path},
            )
        answer = self._ask(
            kind=race.kind,
            runtime=name,
            weights=str(folder / "model.safetensors"),
            input=str(folder / "input"),
            output=str(output),
            shape=race.shape,
            threads=race.threads,
        )
        self.failed: str | None = answer.get("failed")
        self.install: str | None = answer.get("install")
        self.version: str = answer.get("version", "")
        self.output = np.load(output) if self.failed is None else np.empty(0)

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def _ask(self, **order: Any) -> dict[str, Any]:
        try:
            print(json.dumps(order), file=self._pipe(self._process.stdin), flush=True)
            line = self._pipe(self._process.stdout).readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._stop()
            return {"failed": self._last_words()}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        """Why the process ended: the signal that killed it, else the last line that it wrote."""
        code = self._process.returncode
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with code {code}"

    def turn(self, seconds: float) -> None:
        """Takes one sample: milliseconds per call, the median of a turn."""
        answer = self._ask(seconds=seconds)
        if "failed" in answer:
            raise BenchmarkError(f"the runtime {self.name!r} failed: {answer['failed']}")
        self.samples.append(float(answer["ms"]))
        for stage, taken in answer.get("stages", {}).items():
            self.stages.setdefault(stage, []).append(taken)

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # A pipe whose reader died still holds the last order; there is nobody to give it to.
            try:
                self._pipe(pipe).close()
            except BrokenPipeError:
                continue

    def __enter__(self) -> _Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
