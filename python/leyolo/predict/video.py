"""Video files, cameras and network streams through PyAV (the extra ``[video]``, imported only here)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from leyolo.errors import InputError, MissingDependencyError
from leyolo.predict.images import Pixels

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".ts",
        ".m2ts",
        ".mts",
        ".3gp",
        ".ogv",
        ".asf",
        ".m3u8",
        ".mpd",
    ]
)
_STREAM_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "rtp://", "udp://", "tcp://", "srt://", "mms://")


def is_stream_url(text: str) -> bool:
    return text.lower().startswith(_STREAM_SCHEMES)


def is_camera(text: str) -> bool:
    """A camera by number (``0``) or by device file (``/dev/video0``)."""
    return text.isdecimal() or re.fullmatch(r"/dev/video\d+", text) is not None


def _av() -> Any:
    try:
        import av
    except Exception as error:
        raise MissingDependencyError(
            f"video needs PyAV, which is not usable here ({error}).\nInstall it with: pip install 'leyolo[video]'"
        ) from None
    return av


def _open(source: str) -> Any:
    av = _av()
    options = {}
    file, format = source, None
    if is_camera(source):
        number = int(source.removeprefix("/dev/video"))
        if sys.platform == "darwin":
            file, format, options = f"{number}:none", "avfoundation", {"framerate": "30"}
        elif sys.platform == "win32":
            file, format = f"video={number}", "dshow"
        else:
            file, format = f"/dev/video{number}", "v4l2"
            if not Path(file).exists():
                raise InputError(f"there is no camera {number} ({file} does not exist)")
    elif source.lower().startswith(("rtsp://", "rtsps://")):
        options = {"rtsp_transport": "tcp"}
    try:
        return av.open(file, format=format, options=options, timeout=(10.0, 30.0))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"cannot be opened as video ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def frames(source: str, stride: int = 1) -> Iterator[tuple[int, Pixels]]:
    """``(frame number, RGB pixels)`` of every ``stride``-th frame, counted from 0."""
    av = _av()
    with _open(source) as container:
        if not container.streams.video:
            raise InputError("has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        count = 0
        try:
            for count, frame in enumerate(container.decode(stream)):
                if count % stride == 0:
                    yield count, _upright(frame)
        except av.error.FFmpegError as error:
            raise InputError(f"is damaged after frame {count} ({_reason(error)})") from None


def _upright(frame: Any) -> Pixels:
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counter-clockwise, from the display matrix
    return np.ascontiguousarray(np.rot90(pixels, turns))  # also without a turn: PyAV pads rows of some widths


def frame_rate(source: str) -> float:
    """Frames per second as the container states them; 25 where it does not, or where the source is live."""
    if is_camera(source) or is_stream_url(source):
        return 25.0
    with _open(source) as container:
        rate = container.streams.video[0].average_rate if container.streams.video else None
    return float(rate) if rate else 25.0


class VideoWriter:
    """Writes RGB frames to an mp4 file (H.264 where this PyAV has an encoder for it, else MPEG-4)."""

    def __init__(self, path: Path, rate: float) -> None:
        self._av = _av()
        with self._as_input_error():
            self._container: Any = self._av.open(str(path), "w", format="mp4")
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None

    @contextmanager
    def _as_input_error(self) -> Iterator[None]:
        try:
            yield
        except (self._av.error.FFmpegError, OSError) as error:
            raise InputError(f"the annotated video cannot be written ({_reason(error)})") from None

    def write(self, pixels: Pixels) -> None:
        with self._as_input_error():
            self._write(pixels)

    def _write(self, pixels: Pixels) -> None:
        height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2  # 4:2:0 wants even sides
        if self._stream is None:
            codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            if codec == "mpeg4":
                self._stream.bit_rate = 8_000_000
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        with self._as_input_error():
            try:
                if self._stream is not None:
                    for packet in self._stream.encode():
                        self._container.mux(packet)
            finally:
                self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
