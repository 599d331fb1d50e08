"""Our own format: safetensors with what the tensors mean in the metadata. Numpy only; nothing is ever executed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from leyolo.models.config import CONFIGS, HEADS
from leyolo.models.layout import state_shapes
from leyolo.weights.checkpoint import MAX_CLASSES, Checkpoint, WeightsError, check, check_shapes, head_width

FORMAT = "leyolo"
FORMAT_VERSION = 1

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_OWN_KEYS = ("format", "format_version", "size", "num_classes", "names", "head", "strides")


def load(path: str | Path) -> Checkpoint:
    """Reads a file written by :func:`save`. Raises :class:`WeightsError` if any part is not as it should be."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            checkpoint = _described(metadata)
            pieces = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            shapes = {name: tuple(piece.get_shape()) for name, piece in pieces.items()}
            for name, piece in pieces.items():
                if piece.get_dtype() not in _DTYPES:
                    raise WeightsError(f"the tensor {name[:80]!r} should be F32 or F16, got {piece.get_dtype()}")
            width = head_width(shapes, checkpoint.head)
            expected = state_shapes(checkpoint.config, checkpoint.num_classes, checkpoint.head, width)
            check_shapes(shapes, expected)
            checkpoint.state = {name: file.get_tensor(name) for name in expected}
    except SafetensorError as error:
        raise WeightsError(f"expected a safetensors file, but it is damaged: {error}") from error
    checkpoint.metadata = {key: value for key, value in metadata.items() if key not in _OWN_KEYS}
    return check(checkpoint)


def _described(metadata: dict[str, str]) -> Checkpoint:
    """What the metadata says the tensors are, every field checked."""
    if metadata.get("format") != FORMAT:
        found = metadata.get("format")
        raise WeightsError(
            "the metadata should say that this is a leyolo file ('format': 'leyolo'), "
            + ("but there is no format in it" if found is None else f"got {found[:40]!r}")
        )
    version = _number(metadata, "format_version", 1, 1_000_000)
    if version > FORMAT_VERSION:
        raise WeightsError(f"format_version is {version}; this leyolo reads up to {FORMAT_VERSION}: upgrade leyolo")
    size, head = _one_of(metadata, "size", tuple(CONFIGS)), _one_of(metadata, "head", HEADS)
    num_classes = _number(metadata, "num_classes", 1, MAX_CLASSES)
    names = _json(metadata, "names")
    if not isinstance(names, list) or len(names) != num_classes or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"the metadata's 'names' should be a list of {num_classes} texts")
    strides = _json(metadata, "strides")
    if strides != list(CONFIGS[size].strides):
        raise WeightsError(f"the metadata's 'strides' should be {list(CONFIGS[size].strides)}")
    return Checkpoint(size, num_classes, dict(enumerate(names)), head, tuple(strides))


def _text(metadata: dict[str, str], key: str) -> str:
    if key not in metadata:
        raise WeightsError(f"the metadata should have {key!r}, but it is missing")
    return metadata[key]


def _one_of(metadata: dict[str, str], key: str, known: tuple[str, ...]) -> str:
    text = _text(metadata, key)
    if text not in known:
        raise WeightsError(f"the metadata's {key!r} should be one of {', '.join(known)}, got {text[:40]!r}")
    return text


def _number(metadata: dict[str, str], key: str, low: int, high: int) -> int:
    text = _text(metadata, key)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise WeightsError(f"the metadata's {key!r} should be a number from {low} to {high}, got {text[:40]!r}")
    return int(text)


def _json(metadata: dict[str, str], key: str) -> Any:
    try:
        return json.loads(_text(metadata, key))
    except (json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"the metadata's {key!r} should be JSON: {error}") from error


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Writes ``checkpoint``; the same checkpoint gives the same bytes. The file appears complete or not at all."""
    check(checkpoint)
    if reserved := [key for key in checkpoint.metadata if key in _OWN_KEYS]:
        raise WeightsError(f"the metadata keys {', '.join(_OWN_KEYS)} are written from the fields, got {reserved[0]!r}")
    # The safetensors package orders metadata at random; written here, equal checkpoints have equal checksums.
    header: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "size": checkpoint.size,
            "num_classes": str(checkpoint.num_classes),
            "names": json.dumps([checkpoint.names[i] for i in range(checkpoint.num_classes)], ensure_ascii=False),
            "head": checkpoint.head,
            "strides": json.dumps(list(checkpoint.strides)),
            **dict(sorted(checkpoint.metadata.items())),
        }
    }
    # Wide values first, so that every tensor lies aligned.
    order = sorted(checkpoint.state, key=lambda name: -checkpoint.state[name].itemsize)
    position = 0
    for name in order:
        value = checkpoint.state[name]
        header[name] = {
            "dtype": _dtype(value),
            "shape": list(value.shape),
            "data_offsets": [position, position + value.nbytes],
        }
        position += value.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    blocks = [len(text).to_bytes(8, "little"), text]
    for name in order:
        value = checkpoint.state[name]
        blocks.append(value.astype(_DTYPES[_dtype(value)], copy=False).tobytes())
    write_atomically(Path(path), b"".join(blocks))


def _dtype(value: np.ndarray) -> str:
    return "F32" if value.itemsize == 4 else "F16"


def write_atomically(path: Path, data: bytes) -> None:
    """``path`` holds either what it held before or all of ``data``, whatever happens; links and what is special as in
    :func:`replacing`."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        if temporary != path:
            os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` that becomes ``path`` if all goes well, and goes away if not.

    A link is written through to what it names; what is special (:func:`is_special`) is given as it is.
    """
    if is_special(path):
        yield path
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:40]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether it is there and no regular file (a pipe, ``/dev/null``), or leads to a file that this process has open
    already (``/dev/stdout``): nothing may be moved to its place."""
    ours = os.path.abspath(path).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return os.path.exists(path) and (ours or not os.path.isfile(path))
