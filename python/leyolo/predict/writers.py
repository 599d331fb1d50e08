"""Result files. Whole files are written beside their place and moved there, so a reader never sees half of one."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

from leyolo.errors import InputError, UsageError
from leyolo.predict import coco
from leyolo.predict.images import Pixels
from leyolo.predict.results import Results
from leyolo.predict.video import VideoWriter, frame_rate
from leyolo.weights.native import replacing

TEXT: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
"""How text goes out. A file name that is not UTF-8 comes out escaped, which in JSON even reads back as it was."""

CSV_HEADER = ("path", "frame", "name", "class", "confidence", "x1", "y1", "x2", "y2")


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary, temporary.open("w", **TEXT) as stream:
        stream.write(text)


def write_picture(path: Path, pixels: Pixels) -> None:
    """Writes RGB pixels in the format of the suffix; JPEG at quality 95."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif") and max(image.size) > 65535:
        raise InputError(f"{path.name}: {image.width}x{image.height} is too large for JPEG; save it as PNG")
    encoded = io.BytesIO()
    try:
        image.save(encoded, _picture_format(path), quality=95)
    except (ValueError, KeyError) as error:
        raise UsageError(f"{path.name}: not a picture format that can be written ({error})") from None
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


def _picture_format(path: Path) -> str:
    from PIL import Image

    found = Image.registered_extensions().get(path.suffix.lower())
    if found is None:
        raise UsageError(f"{path.name}: not a picture format that can be written (unknown suffix '{path.suffix}')")
    return found


_LONGEST_NAME = 200
"""Bytes of a stem: file systems allow 255, and numbers and suffixes come behind."""


def safe_name(name: str) -> str:
    """A class name or stem as the name of one file or folder: without separators, control characters and what is no
    text, and not longer than file systems allow."""
    name = re.sub(_FORBIDDEN, "_", name).strip(" .")[:_LONGEST_NAME]
    while len(name.encode()) > _LONGEST_NAME:
        name = name[:-1]
    return name.strip(" .") or "_"


_FORBIDDEN = r"[/\\:\x00-\x1f\x7f-\x9f\ud800-\udfff" + ('<>"|?*]' if os.name == "nt" else "]")


def _source_name(path: str) -> Path:
    """The path part of a file name or URL."""
    return Path(re.split(r"[?#]", path, maxsplit=1)[0] if "://" in path else path)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def framed(stem: str, frame: int | None) -> str:
    """The stem of one picture's files: a video's frames carry their number."""
    return stem if frame is None else f"{stem}_{frame}"


class Names:
    """A stem of its own for every source, so that same-named pictures of different folders never meet, nor a picture
    ``film_7.jpg`` and frame 7 of ``film.mp4``."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._videos: set[str] = set()
        self._like_frames: set[str] = set()
        """What is before the number in taken stems such as ``film_7``."""
        self._last: tuple[str, str, int] | None = None

    def stem(self, path: str, frame: int | None = None) -> str:
        """``dog``, then ``dog-2``, …; frames of one video share theirs."""
        if frame is not None and self._last is not None and self._last[0] == path and self._last[2] < frame:
            self._last = (path, self._last[1], frame)
            return self._last[1]
        wanted = safe_name(_source_name(path).stem) if path else "image"
        stem, number = wanted, 1
        while not self._is_free(stem.casefold(), frame is not None):
            number += 1
            stem = f"{wanted}-{number}"
        self._take(stem.casefold(), frame is not None)
        self._last = None if frame is None else (path, stem, frame)
        return stem

    def _is_free(self, key: str, video: bool) -> bool:
        base = _frame_base(key)
        return not (key in self._taken or base in self._videos or (video and key in self._like_frames))

    def _take(self, key: str, video: bool) -> None:
        self._taken.add(key)
        if (base := _frame_base(key)) is not None:
            self._like_frames.add(base)
        if video:
            self._videos.add(key)


def _frame_base(stem: str) -> str | None:
    match = re.fullmatch(r"(.*)_[0-9]+", stem, re.DOTALL)
    return match[1] if match else None


def record(result: Results) -> dict[str, Any]:
    """One JSON line: the picture, its stage times in milliseconds, and its boxes."""
    height, width = result.orig_shape
    frame = {} if result.frame is None else {"frame": result.frame}
    speed = {stage: round(ms, 3) for stage, ms in result.speed.items()}
    return {
        "path": result.path,
        **frame,
        "width": width,
        "height": height,
        "speed": speed,
        "detections": result.summary(),
    }


class Writer(Protocol):
    """Takes results one by one. ``stem`` is the file name that is theirs alone."""

    def write(self, result: Results, stem: str) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    """One JSON object a picture, written out at once, so that a pipe's reader sees each picture when it is done."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, result: Results, stem: str) -> None:
        self._stream.write(json.dumps(record(result), ensure_ascii=False) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class Csv:
    """One row a box: path, frame, name, class, confidence, x1, y1, x2, y2."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._stream.write(csv_text([CSV_HEADER]))

    def write(self, result: Results, stem: str) -> None:
        head = [result.path, "" if result.frame is None else result.frame]
        rows = [[*head, r["name"], r["class"], r["confidence"], *r["box"].values()] for r in result.summary()]
        self._stream.write(csv_text(rows))
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class Coco:
    """One COCO result list of the whole run. Rows go out as they come; the list is closed at the end."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._before = "["
        self._taken: set[int | str] = set()

    def write(self, result: Results, stem: str) -> None:
        for row in result.to_coco(self._image_id(result, stem)):
            self._stream.write(f"{self._before}\n{json.dumps(row, ensure_ascii=False)}")
            self._before = ","

    def _image_id(self, result: Results, stem: str) -> int | str:
        """The id that the file name gives, where no other picture of the run has it; else the picture's own stem."""
        image: int | str = coco.image_id(result.path)
        if result.frame is not None or image in self._taken:
            image = wanted = framed(stem, result.frame)
            number = 1
            while image in self._taken:
                number += 1
                image = f"{wanted}-{number}"
        self._taken.add(image)
        return image

    def close(self) -> None:
        self._stream.write("[]\n" if self._before == "[" else "\n]\n")
        self._stream.flush()


class ToFile:
    """A stream writer on a file that appears when it is complete."""

    def __init__(self, make: type[JsonLines] | type[Csv] | type[Coco], path: Path) -> None:
        self._open = ExitStack()
        temporary = self._open.enter_context(replacing(path))
        self._writer = make(self._open.enter_context(temporary.open("w", **TEXT)))

    def write(self, result: Results, stem: str) -> None:
        self._writer.write(result, stem)

    def close(self) -> None:
        self._writer.close()
        self._open.close()


class YoloText:
    """``<stem>.txt`` a picture, ``<stem>_<frame>.txt`` a video frame."""

    def __init__(self, folder: Path, save_conf: bool) -> None:
        self._folder, self._conf = folder, save_conf

    def write(self, result: Results, stem: str) -> None:
        result.save_txt(self._folder / f"{framed(stem, result.frame)}.txt", save_conf=self._conf)

    def close(self) -> None:
        pass


class Crops:
    """``<class>/<stem>-<n>.jpg`` a box."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, result: Results, stem: str) -> None:
        result.save_crop(self._folder, framed(stem, result.frame))

    def close(self) -> None:
        pass


class Pictures:
    """The annotated picture in its source's format where that can be written (else JPEG); videos become mp4."""

    _KEPT = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"))

    def __init__(self, folder: Path, *, vid_stride: int = 1, **plot: Any) -> None:
        self._folder, self._plot, self._stride = folder, plot, vid_stride
        self._video: VideoWriter | None = None
        self._video_stem: str | None = None

    def write(self, result: Results, stem: str) -> None:
        if result.frame is not None:
            self._frame(result, stem)
            return
        self._end_video()
        suffix = _source_name(result.path).suffix
        kept = suffix if suffix.lower() in self._KEPT else ".jpg"
        if max(result.orig_shape) > (16383 if kept.lower() == ".webp" else 65535):
            kept = ".png"  # wider than the format allows
        write_picture(self._folder / f"{stem}{kept}", result.plot(**self._plot))

    def _frame(self, result: Results, stem: str) -> None:
        if stem != self._video_stem:
            self._end_video()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._video = VideoWriter(self._folder / f"{stem}.mp4", frame_rate(result.path) / self._stride)
            self._video_stem = stem
        if self._video is not None:
            self._video.write(result.plot(**self._plot))

    def _end_video(self) -> None:
        if self._video is not None:
            self._video.close()
        self._video = self._video_stem = None

    def close(self) -> None:
        self._end_video()
