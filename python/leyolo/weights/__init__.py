"""Reading, writing, converting and fetching weights. Torch is not imported here, and no file is ever executed.

``load`` reads official ``.pt`` checkpoints and our own safetensors files; ``save`` writes the latter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from leyolo.weights import native, official
from leyolo.weights.checkpoint import Checkpoint, WeightsError, halved

if TYPE_CHECKING:
    from leyolo.weights.fetch import Progress

__all__ = ["Checkpoint", "WeightsError", "convert", "halved", "load", "resolve", "save"]


def load(path: str | Path) -> Checkpoint:
    """Reads a weights file; its content, not its name, says which format it has.

    Raises :class:`WeightsError` (a ValueError) with the file's name, what was expected and what came, and OSError where
    the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(512)
        length = file.seek(0, 2)
    try:
        if start.startswith(b"PK\x03\x04"):
            return official.load(path)
        if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= length - 8:
            return native.load(path)
        raise WeightsError(
            f"expected a leyolo .safetensors file or an official .pt checkpoint, got {_guess(start, length)}"
        )
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _guess(start: bytes, length: int) -> str:
    if length == 0:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (fetch the file itself with: git lfs pull)"
    if start.lstrip()[:1] == b"<":
        return "an HTML or XML page (was a web page saved instead of the file?)"
    if start.startswith(b"\x80"):
        return "a bare pickle, which is not read since it could run code"
    if len(start) > 8 and start[8:9] == b"{":
        return "a safetensors file that was cut short"
    return f"{length} bytes of something else"


def resolve(name_or_path: str | Path, *, progress: Progress | None = None) -> Path:
    """A local weights file for a path, or for a model's name, fetched once: :func:`leyolo.weights.fetch.resolve`."""
    from leyolo.weights import fetch  # urllib costs 13 ms, which only a name needs

    return fetch.resolve(name_or_path, progress=progress)


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Writes ``checkpoint`` as safetensors, atomically: the file appears complete or not at all."""
    native.save(path, checkpoint)


def convert(source: str | Path, target: str | Path) -> Checkpoint:
    """Reads ``source`` in any format and writes it to ``target`` in ours; returns what was written."""
    checkpoint = load(source)
    save(target, checkpoint)
    return checkpoint
