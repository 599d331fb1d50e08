"""Pictures from a pipe: one file, or several JPEG or PNG files one after the other (``ffmpeg -f image2pipe``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from leyolo.errors import InputError

_CHUNK = 1 << 16
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_BYTES = 1 << 30


class _Buffer:
    """A pipe with look-ahead: reads only what is asked for, so that the first picture is there before the pipe ends."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._data = bytearray()
        self._ended = False

    def need(self, end: int) -> bool:
        """Whether the first ``end`` bytes are there, reading as far as needed."""
        if end > _MAX_BYTES:
            raise InputError(f"a picture in the pipe is larger than {_MAX_BYTES >> 20} MiB")
        while len(self._data) < end and not self._ended:
            chunk = self._read(_CHUNK)
            self._ended = not chunk
            self._data += chunk
        return len(self._data) >= end

    def peek(self, start: int, size: int) -> bytes:
        self.need(start + size)
        return bytes(self._data[start : start + size])

    def find(self, byte: int, start: int) -> int:
        """Position of the next ``byte``, -1 if the pipe ends before."""
        while (at := self._data.find(byte, start)) < 0:
            start = len(self._data)
            if not self.need(start + 1):
                return -1
        return at

    def take(self, size: int) -> bytes:
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def rest(self) -> bytes:
        while self.need(len(self._data) + 1):
            pass
        return self.take(len(self._data))


def split_images(stream: BinaryIO) -> Iterator[bytes]:
    """The encoded pictures of a pipe. JPEG and PNG are cut at their ends; anything else is one picture to the end."""
    buffer = _Buffer(stream)
    empty = True
    while buffer.need(1):
        head = buffer.peek(0, 8)
        if not empty and (padding := len(head) - len(head.lstrip(b"\0\r\n"))):  # between or after pictures
            buffer.take(padding)
            continue
        if head[:2] == b"\xff\xd8":
            end = _jpeg_end(buffer)
        elif head == _PNG:
            end = _png_end(buffer)
        else:
            end = -1
        empty = False
        yield buffer.take(end) if end > 0 else buffer.rest()
    if empty:
        raise InputError("is empty (0 bytes)")


def _jpeg_end(buffer: _Buffer) -> int:
    """Offset behind the end marker; -1 if there is none. Segments are skipped by their length (a thumbnail inside EXIF
    has an end marker of its own); in entropy-coded data 0xFF is followed by 0 or a restart marker."""
    at = 2
    while True:
        at = buffer.find(0xFF, at)
        if at < 0 or not buffer.need(at + 2):
            return -1
        marker = buffer.peek(at + 1, 1)[0]
        if marker == 0xD9:
            return at + 2
        if marker == 0xFF:
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            length = int.from_bytes(buffer.peek(at + 2, 2), "big")
            at += 2 + max(2, length)
            if not buffer.need(at):
                return -1


def _png_end(buffer: _Buffer) -> int:
    at = 8
    while buffer.need(at + 12):
        header = buffer.peek(at, 8)
        at += 12 + int.from_bytes(header[:4], "big")
        if not buffer.need(at):
            return -1
        if header[4:] == b"IEND":
            return at
    return -1
