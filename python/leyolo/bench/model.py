"""``leyolo benchmark model``: our forward pass beside other runtimes, on this machine, with this model.

Every runtime lives in a process of its own, so that none disturbs another's threads or memory. Outputs are compared
before anything is timed. The driver then goes round the runtimes many times, starting with another one each round, so
that a disturbance of the machine hits all alike; a turn is a few warm-up calls and as many timed calls as fit into
``seconds``, and its median is one sample. Rows give the median and the quartiles of the samples.
"""

from __future__ import annotations

import difflib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leyolo import __version__, weights
from leyolo.bench.runtimes import CONFIDENCE, NETWORKS, OURS, PIPELINES, PREDICT_OURS
from leyolo.bench.timing import cores, quartiles
from leyolo.errors import CheckError, UsageError

if TYPE_CHECKING:
    from leyolo.weights import Checkpoint

LOGITS_TOLERANCE = 2e-3
"""Largest difference of logits (which reach some 40) between two float32 runtimes that counts as rounding."""

# glibc gives large blocks back to the system and page-faults them in again at every call, which costs torch up to half
# its time. Everybody keeps the memory here: the fair comparison.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


class BenchmarkError(CheckError):
    """A runtime failed, or gave another result than the rest."""


def benchmark(
    model: Any,
    *,
    imgsz: int | tuple[int, int] = 640,
    batch: int = 1,
    threads: int | None = None,
    rounds: int = 15,
    seconds: float = 0.08,
    runtimes: Sequence[str] | None = None,
    image: NDArray[np.uint8] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures ``model`` (a LeYOLO, a Checkpoint, or the path of a weights file).

    imgsz     side, or (height, width), of the network's input; multiples of 32
    threads   for every runtime; None: the cores this process may use
    rounds    samples per runtime; ``seconds`` of timed calls in each
    runtimes  names from :data:`NETWORKS` and :data:`PIPELINES`; None: all but torch.compile, which takes a minute to
              start. Ours is always among them. A runtime that cannot be loaded is left out and listed under "skipped".
    image     RGB picture [H, W, 3] for the pipelines; None: a synthetic one
    progress  called with the turns done and their number

    Returns ``{"environment": {…}, "rows": […], "skipped": […]}``, ready for JSON. A row has name, version, model, size
    (the input as "640" or "480x640"), batch, threads, dtype, median_ms, p25_ms, p75_ms (of the whole batch),
    ratio_to_ours (its median over ours: above 1 it is slower) and max_abs_diff (logits against ours; None for
    pipelines, whose boxes are matched instead).
    """
    checkpoint = _checkpoint(model)
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    stride = max(checkpoint.strides)
    if height < 1 or width < 1 or height % stride or width % stride:
        raise UsageError(f"imgsz should be positive multiples of {stride}, got {height} x {width}")
    if min(batch, rounds, 1 if threads is None else threads) < 1:
        raise UsageError(f"batch, rounds and threads should be at least 1, got {batch}, {rounds} and {threads}")
    threads = threads or cores()
    names = _names(runtimes)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leyolo-benchmark-")))
        weights.save(folder / "model.safetensors", checkpoint)
        random = np.random.default_rng(0)
        np.save(folder / "network.npy", random.random((batch, height, width, 3), dtype=np.float32))
        np.save(folder / "pipeline.npy", _picture() if image is None else np.ascontiguousarray(image))
        workers: dict[str, _Worker] = {}
        skipped = []
        for name in names:
            worker = stack.enter_context(_Worker(name, folder, (height, width), threads))
            if worker.failed is None:
                workers[name] = worker
            elif name == OURS:
                raise BenchmarkError(f"the runtime {name!r} failed: {worker.failed}")
            else:
                skipped.append({"name": name, "reason": worker.failed})
        differences = _compare({name: worker.output for name, worker in workers.items()})
        samples: dict[str, list[float]] = {name: [] for name in workers}
        order = list(workers)
        for turn in range(rounds * len(order)):
            name = order[(turn + turn // len(order)) % len(order)]
            samples[name].append(workers[name].turn(seconds))
            if progress is not None:
                progress(turn + 1, rounds * len(order))
    size = str(height) if height == width else f"{height}x{width}"
    common = {"model": f"leyolo-{checkpoint.size}", "size": size, "threads": threads, "dtype": "float32"}
    rows = []
    for name, times in samples.items():
        ours = samples.get(PREDICT_OURS if name in PIPELINES else OURS)
        low, middle, high = quartiles(times)
        rows.append(
            {
                "name": name,
                "version": workers[name].version,
                **common,
                "batch": 1 if name in PIPELINES else batch,
                "median_ms": middle,
                "p25_ms": low,
                "p75_ms": high,
                "ratio_to_ours": middle / statistics.median(ours) if ours else None,
                "max_abs_diff": differences.get(name),
            }
        )
    return {"environment": environment(threads), "rows": rows, "skipped": skipped}


def _checkpoint(model: Any) -> Checkpoint:
    found = getattr(model, "checkpoint", model)
    return found if isinstance(found, weights.Checkpoint) else weights.load(found)


def environment(threads: int) -> dict[str, Any]:
    """The machine and the software that the figures belong to."""
    from leyolo import _C

    packages = {}
    for package in ("numpy", "torch", "onnxruntime", "opencv-python-headless", "torchvision"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "leyolo": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "threads": threads,
        "cpu_features": _C.cpu_features(),
        "build": _C.build_info(),
        "packages": packages,
        "allocator": "glibc keeps freed blocks, for every runtime",
        "load_average": list(os.getloadavg()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _names(runtimes: Sequence[str] | None) -> list[str]:
    known = [*NETWORKS, *PIPELINES]
    if runtimes is None:
        return [name for name in known if name != "torch.compile"]
    for name in runtimes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"no runtime is called {name!r} (known: {', '.join(known)}){hint}")
    wanted = {OURS, *runtimes} | ({PREDICT_OURS} if any(name in PIPELINES for name in runtimes) else set())
    return [name for name in known if name in wanted]


class _Worker:
    """One runtime in its own process, loaded; ``failed`` says why it could not be, often a missing package."""

    def __init__(self, name: str, folder: Path, imgsz: tuple[int, int], threads: int) -> None:
        self.name = name
        output = folder / f"{name}.npy".replace(" ", "_")
        self._log = folder / f"{name}.log".replace(" ", "_")
        count = str(threads)
        variables = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, **_KEEP_MEMORY}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "leyolo.bench.runtimes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        kind = "pipeline" if name in PIPELINES else "network"
        answer = self._ask(
            runtime=name,
            weights=str(folder / "model.safetensors"),
            input=str(folder / f"{kind}.npy"),
            output=str(output),
            imgsz=imgsz,
            threads=threads,
        )
        self.failed: str | None = answer.get("failed")
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
            last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise BenchmarkError(f"the runtime {self.name!r} failed: {''.join(last) or 'it ended without a word'}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def turn(self, seconds: float) -> float:
        """Milliseconds per call, the median of one turn."""
        answer = self._ask(seconds=seconds)
        if "failed" in answer:
            raise BenchmarkError(f"the runtime {self.name!r} failed: {answer['failed']}")
        return float(answer["ms"])

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


def _compare(outputs: dict[str, NDArray[Any]]) -> dict[str, float]:
    """Largest difference of every network to ours; :class:`BenchmarkError` where a runtime computes something else."""
    differences = {}
    for name, output in outputs.items():
        if name in PIPELINES:
            ours = outputs.get(PREDICT_OURS, output)
            if unmatched := _unmatched(ours, output) + _unmatched(output, ours):
                raise BenchmarkError(f"{name!r} and {PREDICT_OURS!r} disagree about {unmatched} boxes")
            continue
        ours = outputs[OURS]
        if output.shape != ours.shape:
            raise BenchmarkError(f"{name!r} gives logits {list(output.shape)}, {OURS!r} {list(ours.shape)}")
        differences[name] = float(np.abs(output - ours).max(initial=0))
        if not differences[name] <= LOGITS_TOLERANCE:
            raise BenchmarkError(
                f"the logits of {name!r} differ from those of {OURS!r} by {differences[name]:.3g}, "
                f"expected at most {LOGITS_TOLERANCE:g}"
            )
    return differences


def _unmatched(a: NDArray[Any], b: NDArray[Any]) -> int:
    """Boxes of ``a``, clearly above the threshold, that have no near twin of the same class in ``b``."""
    count = 0
    for box in a[a[:, 4] > CONFIDENCE + 0.05]:
        same = b[b[:, 5] == box[5]]
        distance = np.abs(same[:, :4] - box[:4]).max(1, initial=0)
        side = max(box[2] - box[0], box[3] - box[1], 1.0)
        count += not bool((distance < 0.05 * side).any())
    return count


def _picture() -> NDArray[np.uint8]:
    """A synthetic 1080 x 810 picture: soft shapes, so that nothing about it is special to a decoder or to a cache."""
    y, x = np.mgrid[0:1080, 0:810].astype(np.float32)
    waves = [np.sin(x / (40 + 13 * c)) * np.cos(y / (60 + 17 * c)) for c in range(3)]
    return np.stack([np.clip(127 + 120 * wave, 0, 255) for wave in waves], 2).astype(np.uint8)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
