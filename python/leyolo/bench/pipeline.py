"""``leyolo benchmark pipeline``: from an encoded picture in memory to boxes, ours beside other runtimes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leyolo.bench.picture import street
from leyolo.bench.race import BenchmarkError, Race, checked_counts, checkpoint_of, chosen, default_threads, input_shape
from leyolo.bench.runtimes import OURS, PIPELINES
from leyolo.bench.runtimes.base import Array, Precision
from leyolo.bench.runtimes.pipeline import CONFIDENCE
from leyolo.errors import InputError
from leyolo.predict.images import decode_image, read_file

SLACK: dict[Precision, tuple[float, float]] = {"float32": (0.05, 0.05), "bfloat16": (0.15, 0.2)}
"""How far a box may be from ours: boxes whose score is less than the first above the threshold need no twin, sides of
twins may differ by the second, a share of the box's longer side."""


def benchmark(
    model: Any,
    *,
    source: str | Path | None = None,
    imgsz: int | tuple[int, int] = 640,
    threads: int | None = None,
    rounds: int = 15,
    seconds: float = 0.08,
    runtimes: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    loading: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measures decoding, letterbox, network, box decoding and NMS, one picture at a time.

    source    an encoded picture; its bytes are read once, before. None: a drawn 1280 x 720 JPEG with the texture of a
              photograph
    The rest is as for :func:`leyolo.bench.model.benchmark`, with :data:`leyolo.bench.runtimes.PIPELINES`. Rows also
    have decode_ms, preprocess_ms, network_ms, postprocess_ms (medians of the stages) and boxes (how many were found);
    the report's "source" has name, bytes, width and height.

    Raises InputError where the picture cannot be read, :class:`BenchmarkError` where boxes of a runtime have no twin.
    """
    checkpoint = checkpoint_of(model)
    shape = input_shape(checkpoint, imgsz, 1)
    checked_counts(rounds=rounds)
    threads = default_threads(threads)
    data = street() if source is None else _encoded(source)
    height, width = decode_image(data).shape[:2]
    race = Race(
        kind="pipeline",
        table=PIPELINES,
        checkpoint=checkpoint,
        shape=shape,
        threads=threads,
        rounds=rounds,
        seconds=seconds,
        progress=progress,
        loading=loading,
    )
    name = "drawn" if source is None else Path(source).name
    report = race.run(chosen(runtimes, PIPELINES), lambda path: _save(path, data), compare)
    return {"source": {"name": name, "bytes": len(data), "width": width, "height": height}, **report}


def _encoded(source: str | Path) -> bytes:
    """The bytes of a picture that can be decoded."""
    try:
        data = read_file(source)
        decode_image(data)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return data


def _save(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def compare(outputs: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    """How many boxes every runtime found; :class:`BenchmarkError` where one has other boxes than ours."""
    ours = outputs[OURS["float32"]]
    for name, boxes in outputs.items():
        slack = SLACK[PIPELINES[name].dtype]
        if lonely := unmatched(ours, boxes, *slack) + unmatched(boxes, ours, *slack):
            raise BenchmarkError(f"{name!r} and {OURS['float32']!r} disagree about {lonely} boxes")
    return {name: {"boxes": len(boxes)} for name, boxes in outputs.items()}


def unmatched(a: Array, b: Array, score_slack: float, side_slack: float) -> int:
    """Boxes of ``a``, clearly above the threshold, that have no near twin of the same class in ``b``."""
    count = 0
    for box in a[a[:, 4] > CONFIDENCE + score_slack]:
        same = b[b[:, 5] == box[5]]
        distance = np.abs(same[:, :4] - box[:4]).max(1, initial=0)
        side = max(box[2] - box[0], box[3] - box[1], 1.0)
        count += not bool((distance < side_slack * side).any())
    return count
