"""Any source as a lazy stream of pictures.

A source is a path (image, video, directory, glob, ``.txt``/``.csv`` list), a URL, a camera number, ``"-"`` (a pipe), an
array, PIL image, tensor or ``bytes``, or an iterable of any of these. Nothing is decoded before it is asked for and at
most one picture is held here, so that a million files or an endless camera need no more memory than one.
"""

from __future__ import annotations

import csv
import glob
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from leyolo.errors import InputError, LeYOLOError, MissingDependencyError, UsageError
from leyolo.predict import stdin, video
from leyolo.predict.arrays import is_pil, is_tensor, pixels_of
from leyolo.predict.images import IMAGE_SUFFIXES, Pixels, decode_image, read_file
from leyolo.predict.pipeline import check_count, check_flag

LIST_SUFFIXES = frozenset((".txt", ".csv"))
_PATH_COLUMNS = ("path", "image", "image_path", "file", "file_name", "filename", "source", "url")
_MAX_DOWNLOAD = 1 << 29


@dataclass(frozen=True)
class Item:
    """One picture to come. ``load`` decodes it and raises InputError with what is wrong with it."""

    path: str
    load: Callable[[], Pixels]
    frame: int | None = None
    """Frame number within a video, None for a still picture."""
    from_file: bool = False
    """Whether ``path`` is the file that the pixels come from, so that it may be read again."""
    encoded: Callable[[], bytes] | None = None
    """Gets the bytes of the image file that ``load`` decodes, if there is one."""


@dataclass(frozen=True)
class Options:
    """How sources are read: see ``leyolo predict --help``."""

    recursive: bool = False
    as_list: bool = False
    vid_stride: int = 1
    bgr: bool = False

    def __post_init__(self) -> None:
        check_count("vid_stride", self.vid_stride)
        for name in ("recursive", "as_list", "bgr"):
            check_flag(name, getattr(self, name))


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts ``img2`` before ``img10``."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), p) if i % 2 else (1, 0, p.casefold()) for i, p in enumerate(parts)]


def is_single(source: object) -> bool:
    """Whether the source is surely one still picture, for which a background thread would only cost."""
    if isinstance(source, np.ndarray):
        return source.ndim < 4
    if isinstance(source, (bytes, bytearray, memoryview)) or is_pil(source):
        return True
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return isinstance(path, str) and os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES and os.path.isfile(path)
    return False


def count(source: object, options: Options) -> int | None:
    """Number of pictures where it is known without decoding anything, for progress bars."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if (
            isinstance(text, bytes)
            or text == "-"
            or _is_live(text)
            or Path(text).suffix.lower() in video.VIDEO_SUFFIXES
        ):
            return None
        try:
            paths = _paths(text, options)
        except InputError:
            return None
        if paths is None:
            return 1
        return None if any(Path(p).suffix.lower() in video.VIDEO_SUFFIXES for p in paths) else len(paths)
    if isinstance(source, (list, tuple)):
        counts = [count(each, options) for each in source]
        return None if None in counts else sum(c for c in counts if c is not None)
    return 1 if is_single(source) else None


def items(source: Any, options: Options) -> Iterator[Item]:
    """The pictures of ``source`` in order. What is wrong with one shows in its ``load``, so that the rest goes on."""
    if isinstance(source, str) and not source:
        raise UsageError("source is empty: expected a path, URL, camera number, picture or an iterable of them")
    numbers = iter(range(sys.maxsize))
    return _items(source, options, numbers)


def of_file(path: str | Path) -> Item:
    """The picture in a file, whatever the file is called: not the list, video or pattern that a name may stand for."""
    return _encoded(str(path), lambda: read_file(path), from_file=True)


def _items(source: Any, options: Options, numbers: Iterator[int]) -> Iterator[Item]:
    if isinstance(source, Item):
        yield source
    elif isinstance(source, (str, os.PathLike)):
        text = os.fsdecode(source)
        yield from _guarded(text, _from_text(text, options))
    elif isinstance(source, bool):
        raise UsageError(
            "source: expected a path, URL, camera number, array, PIL image or an iterable of them, got a bool"
        )
    elif isinstance(source, int):
        yield from _guarded(str(source), _from_video(str(source), options))
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        yield _encoded(f"image{next(numbers)}", lambda: data)
    elif isinstance(source, np.ndarray) or is_pil(source) or is_tensor(source):
        yield from _from_memory(source, options, numbers)
    elif isinstance(source, Iterable):
        for each in source:
            yield from _items(each, options, numbers)
    else:
        yield _failed(
            f"source of type {type(source).__name__}",
            UsageError("expected a path, URL, camera number, array, PIL image, tensor, bytes or an iterable of them"),
        )


def _guarded(path: str, found: Iterator[Item]) -> Iterator[Item]:
    """``found``; whatever stops it becomes a last, failing item, so that the sources behind it have their turn."""
    try:
        yield from found
    except Exception as error:
        yield _failed(path, error if isinstance(error, LeYOLOError) else unreadable(error))


def unreadable(error: Exception) -> InputError:
    """What nobody foresaw about one input, as an error of that input."""
    return InputError(f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})")


def _failed(path: str, error: Exception) -> Item:
    def load() -> Pixels:
        raise error

    return Item(path, load)


def _encoded(path: str, encoded: Callable[[], bytes], from_file: bool = False) -> Item:
    return Item(path, lambda: decode_image(encoded()), from_file=from_file, encoded=encoded)


def _given(path: str, pixels: Pixels, frame: int | None = None) -> Item:
    return Item(path, lambda: pixels, frame)


def _from_memory(source: Any, options: Options, numbers: Iterator[int]) -> Iterator[Item]:
    name = getattr(source, "filename", "") or ""  # PIL images know the file they came from
    try:
        for pixels in pixels_of(source, bgr=options.bgr):
            yield _given(os.fsdecode(name) if name else f"image{next(numbers)}", pixels)
    except (InputError, OSError, SyntaxError) as error:
        yield _failed(
            os.fsdecode(name) if name else f"image{next(numbers)}",
            error if isinstance(error, InputError) else InputError(f"is damaged or truncated ({error})"),
        )


def _is_live(text: str) -> bool:
    return video.is_stream_url(text) or (video.is_camera(text) and not os.path.isfile(text))


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _from_text(text: str, options: Options) -> Iterator[Item]:
    if not text:
        yield _failed("''", UsageError("source is empty: expected a path, URL or camera number"))
        return
    if text == "-":
        yield from _from_pipe(options)
        return
    if _is_live(text):
        yield from _from_video(text, options)
        return
    try:
        paths = _paths(text, options)
    except InputError as error:
        yield _failed(text, error)
        return
    for path in [text] if paths is None else paths:
        yield from _guarded(path, _from_path(path, options))


def _paths(text: str, options: Options) -> list[str] | None:
    """The files that ``text`` stands for; None if it is itself one picture or video."""
    if _is_url(text):
        return None
    path = Path(os.path.expanduser(text))
    try:
        if path.is_dir():
            return _directory(path, options.recursive)
        if path.is_file():
            as_list = options.as_list or path.suffix.lower() in LIST_SUFFIXES
            return _list_lines(path.read_text("utf-8-sig").splitlines(), path) if as_list else None
        if not path.exists() and glob.has_magic(text):
            found = sorted(glob.glob(str(path), recursive=True), key=natural_key)
            if not found:
                raise InputError("no file matches this pattern")
            return [p for p in found if not os.path.isdir(p)]
    except PermissionError:
        raise InputError("permission denied") from None
    except UnicodeDecodeError:
        raise InputError("is not a text file with one path a line") from None
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL byte
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return None if _is_live(text) or os.path.exists(path) else [text]


def _directory(folder: Path, recursive: bool) -> list[str]:
    wanted = IMAGE_SUFFIXES | video.VIDEO_SUFFIXES
    found: list[str] = []
    nested = False
    for root, folders, files in os.walk(folder, onerror=_denied):
        nested = nested or bool(folders)
        found += [os.path.join(root, f) for f in files if os.path.splitext(f)[1].lower() in wanted and f[0] != "."]
        if not recursive:
            break
    if not found:
        hint = " (--recursive looks into the folders below)" if nested and not recursive else ""
        raise InputError(f"has no images or videos{hint}")
    return sorted(found, key=natural_key)


def _denied(error: OSError) -> None:
    raise error


def _list_lines(lines: list[str], where: Path | None) -> list[str]:
    """Paths of a list: one a line, ``#`` starts a comment line; of a CSV the column named path, image, file, … or else
    the first. Relative paths are tried beside the list, then from the working directory."""
    if where is not None and where.suffix.lower() == ".csv":
        rows = [row for row in csv.reader(lines) if row]
        names = [cell.strip().lower() for cell in rows[0]] if rows else []
        column = next((names.index(n) for n in _PATH_COLUMNS if n in names), None)
        entries = [row[column or 0].strip() for row in rows[column is not None :] if len(row) > (column or 0)]
    else:
        entries = [line.strip() for line in lines]
    entries = [e for e in entries if e and not e.startswith("#")]
    if not entries:
        raise InputError("the list names no images")
    return [_beside(entry, where) for entry in entries]


def _beside(entry: str, where: Path | None) -> str:
    if where is None or _is_url(entry) or video.is_stream_url(entry) or os.path.isabs(entry):
        return entry
    candidate = where.parent / entry
    return str(candidate) if candidate.exists() or not os.path.exists(entry) else entry


def _from_path(path: str, options: Options) -> Iterator[Item]:
    suffix = Path(path.split("?")[0] if _is_url(path) else path).suffix.lower()
    if suffix in video.VIDEO_SUFFIXES or video.is_stream_url(path):
        if _is_url(path) or video.is_stream_url(path) or os.path.exists(path):
            yield from _from_video(path, options)
        else:
            yield _failed(path, InputError("no such file"))
    elif _is_url(path):
        yield _encoded(path, lambda: _download(path))
    else:
        yield _encoded(path, lambda: read_file(os.path.expanduser(path)), from_file=True)


def _from_video(source: str, options: Options) -> Iterator[Item]:
    try:
        for number, pixels in video.frames(source, options.vid_stride):
            yield _given(source, pixels, number)
    except (InputError, MissingDependencyError) as error:
        yield _failed(source, error)


def _from_pipe(options: Options) -> Iterator[Item]:
    if sys.stdin is None:
        yield _failed("standard input", InputError("there is none (it is closed)"))
        return
    if options.as_list:
        for line in sys.stdin:
            if (entry := line.strip()) and not entry.startswith("#"):
                one = Options(vid_stride=options.vid_stride, recursive=options.recursive)
                yield from _guarded(entry, _from_text(entry, one))
        return
    try:
        for number, data in enumerate(stdin.split_images(_pipe())):
            yield _encoded(f"stdin{number}", lambda data=data: data)  # type: ignore[misc]
    except InputError as error:
        yield _failed("standard input", error)


def _pipe() -> BinaryIO:
    """Standard input without Python's buffer, whose lock must not be held by a waiting thread when the program ends."""
    try:
        return io.FileIO(sys.stdin.fileno(), closefd=False)
    except (OSError, ValueError):
        return sys.stdin.buffer


def _download(url: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, headers={"User-Agent": "leyolo"}), timeout=30) as response:
            data: bytes = response.read(_MAX_DOWNLOAD + 1)
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        code = f"{error.code} " if hasattr(error, "code") else ""
        raise InputError(f"cannot be fetched ({code}{reason})") from None
    if len(data) > _MAX_DOWNLOAD:
        raise InputError(f"is larger than {_MAX_DOWNLOAD >> 20} MiB")
    return data
