"""Read annotations, kept in the user's cache folder for as long as no file that they came from has changed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from leyolo.data.dataset import PER_BOX, Dataset, ImageRecord, Problem
from leyolo.weights.fetch import cache_folder
from leyolo.weights.native import write_atomically

_VERSION = 4
_FRESH = 2_000_000_000
"""Nanoseconds. A file changed so shortly before it was read may change again within the same time stamp."""


def cache_file(**arguments: Any) -> Path:
    """Where the annotations that these arguments of ``read`` lead to are kept."""
    key = json.dumps([_VERSION, arguments], sort_keys=True, default=str).encode("utf-8", "surrogateescape")
    return cache_folder() / "labels" / f"{hashlib.sha256(key).hexdigest()[:32]}.npz"


def load(path: Path) -> Dataset | None:
    """The kept dataset; None where there is none, or a file that it came from has changed."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            text = json.loads(kept["text"].tobytes())
            if any(_stamp(Path(name)) != (when, size) for name, when, size in text["sources"]):
                return None
            return Dataset(
                images=tuple(ImageRecord(Path(row.pop("path")), **row) for row in text["images"]),
                offsets=kept["offsets"],
                **{key: kept[key] for key in PER_BOX},
                names=tuple(text["names"]),
                categories=tuple(text["categories"]),
                problems=tuple(Problem(**row) for row in text["problems"]),
            )
    except FileNotFoundError:
        return None
    except Exception:  # whatever a damaged file makes numpy, zipfile or json raise: it is read anew and replaced
        return None


def save(path: Path, dataset: Dataset, sources: Iterable[Path], started: int) -> None:
    """Keeps a dataset, in one step. A cache that cannot be written is none: nothing is said.

    Args:
        sources: every file and folder that it came from. started: ``time.time_ns()`` before the first was read.
    """
    stamps = [(str(source), *_stamp(source)) for source in dict.fromkeys(sources)]
    if any(when > started - _FRESH for _, when, _ in stamps):
        return
    text = {
        "sources": stamps,
        "images": [{**vars(image), "path": str(image.path)} for image in dataset.images],
        "names": dataset.names,
        "categories": dataset.categories,
        "problems": [vars(problem) for problem in dataset.problems],
    }
    arrays = {key: getattr(dataset, key) for key in ("offsets", *PER_BOX)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, text=np.frombuffer(json.dumps(text).encode(), np.uint8), **arrays)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())


def _stamp(path: Path) -> tuple[int, int]:
    """When the file was changed last, in nanoseconds, and its size; -1 where it is not there."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return -1, -1
    return found.st_mtime_ns, found.st_size
