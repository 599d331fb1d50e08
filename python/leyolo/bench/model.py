"""``leyolo benchmark model``: our forward pass beside other runtimes, on this machine, with this model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leyolo.bench.race import BenchmarkError, Race, checked_counts, checkpoint_of, chosen, default_threads, input_shape
from leyolo.bench.runtimes import NETWORKS, OURS
from leyolo.bench.runtimes.base import Array

LOGITS_TOLERANCE = 5e-5
"""Largest difference of logits between two float32 runtimes, over the largest logit, that counts as rounding."""

REDUCED_TOLERANCE = 0.05
"""Root mean square of the difference to our float32 logits, over that of the logits, up to which a network in bfloat16
(eight bits, some sixty layers) counts as the same: about 0.01 is seen."""


def benchmark(
    model: Any,
    *,
    imgsz: int | tuple[int, int] = 640,
    batch: int = 1,
    threads: int | None = None,
    rounds: int = 15,
    seconds: float = 0.08,
    runtimes: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    loading: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measures ``model`` (a LeYOLO, a Checkpoint, or the path of a weights file) on images of noise.

    imgsz     side, or (height, width), of the network's input; multiples of 32
    batch     images that run together
    threads   for every runtime; None: the cores this process may use
    rounds    samples per runtime; ``seconds`` of timed calls in each
    runtimes  names from :data:`leyolo.bench.runtimes.NETWORKS`; None: all but torch.compile, which takes a minute to
              start; "all" among them: that too. Ours in float32 is always there, ours in bfloat16 beside others in it.
              What cannot be loaded is listed under "skipped".
    progress  called with the turns done and their number
    loading   called with the name of every runtime before it is loaded

    Returns ``{"environment": {…}, "rows": […], "skipped": […]}``, ready for JSON. A row has name, version, model, size
    (the input as "640" or "480x640"), batch, threads, dtype, median_ms, p25_ms, p75_ms (of the whole batch),
    ratio_to_ours (its median over that of our float32 network: above 1 it is slower), ratio_to_ours_same_dtype (over
    ours in its own precision; None where we have none), max_abs_diff and relative_rms (of the logits against ours in
    float32). An entry of "skipped" has name, reason, and install: what pip would install, or None.

    Raises :class:`BenchmarkError` where a runtime computes something else, or fails after it was loaded; UsageError for
    values and names that do not fit.
    """
    checkpoint = checkpoint_of(model)
    shape = input_shape(checkpoint, imgsz, batch)
    checked_counts(batch=batch, rounds=rounds)
    threads = default_threads(threads)
    race = Race(
        kind="network",
        table=NETWORKS,
        checkpoint=checkpoint,
        shape=shape,
        threads=threads,
        rounds=rounds,
        seconds=seconds,
        progress=progress,
        loading=loading,
    )

    def save_noise(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.random.default_rng(0).random(shape, dtype=np.float32))

    return race.run(chosen(runtimes, NETWORKS), save_noise, compare)


def compare(outputs: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    """How far the logits of every runtime are from ours; :class:`BenchmarkError` where one computes something else."""
    ours_name = OURS["float32"]
    ours = outputs[ours_name].astype(np.float64)
    scale = float(np.sqrt(np.mean(ours**2))) or 1.0
    found = {}
    for name, output in outputs.items():
        if output.shape != ours.shape:
            raise BenchmarkError(f"{name!r} gives logits {list(output.shape)}, {ours_name!r} {list(ours.shape)}")
        difference = output - ours
        largest, relative = float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2))) / scale
        found[name] = {"max_abs_diff": largest, "relative_rms": relative}
        if NETWORKS[name].dtype == "float32":
            what, value, limit = "", largest, LOGITS_TOLERANCE * float(np.abs(ours).max())
        else:
            what, value, limit = "a relative root mean square of ", relative, REDUCED_TOLERANCE
        if not value <= limit:
            raise BenchmarkError(
                f"the logits of {name!r} differ from those of {ours_name!r} by {what}{value:.3g}, "
                f"expected at most {limit:g}"
            )
    return found
