"""Whether a picture file is whole, and its size, without decoding it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from leyolo.errors import InputError
from leyolo.predict.images import check_size, open_picture, read_image

if TYPE_CHECKING:
    from PIL import Image

_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 1024
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
_PNG_SIGNATURE = 8
_PNG_NOTES = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
"""Chunks that may say how a PNG lies."""


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture file as it lies upright, from its header.

    A JPEG or PNG that does not end as such is decoded once: it is either cut off, or carries something behind its end.
    So is a PNG with texts behind its pixels, which may say that it lies on its side.

    Raises:
        InputError: the file is missing, is no picture, has more pixels than are read, or is cut off; one line that says
            which.
    """
    try:
        # A pipe would be waited for, a device read without end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError("is a directory, not an image" if path.is_dir() else "is not a file")
        with open_picture(path) as image:
            size, kind = image.size, image.format
            check_size(*size)
            decode = kind in _ENDS and not _ends_with(path, _ENDS[kind])
            if kind == "PNG" and not decode:
                decode = _png_notes_follow(path)
            # Pillow decodes a PNG for its EXIF unless that came before the pixels.
            sideways = not decode and (kind != "PNG" or "exif" in image.info) and _sideways(image)
        if decode:
            height, width = read_image(path).shape[:2]
            return int(width), int(height)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("no such file") from None
    except Exception as error:  # damaged files make Pillow's plugins raise nearly anything
        raise InputError(_refused(path, error)) from None
    return (size[1], size[0]) if sideways else size


def _sideways(image: Image.Image) -> bool:
    try:
        return image.getexif().get(_ORIENTATION) in _SIDEWAYS
    except Exception:
        return False  # damaged EXIF says nothing about the picture


def _ends_with(path: Path, marker: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(-min(_TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return marker in file.read()


def _png_notes_follow(path: Path) -> bool:
    """Whether texts or EXIF stand behind the pixels; True also where the chunks do not lead to the end."""
    with path.open("rb") as file:
        file.seek(_PNG_SIGNATURE)
        pixels = False
        while len(head := file.read(8)) == 8:
            name = head[4:]
            if name == b"IEND" or (pixels and name in _PNG_NOTES):
                return name != b"IEND"
            pixels = pixels or name == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)  # its checksum follows
    return True


def _refused(path: Path, error: Exception) -> str:
    """What our decoder says about a file that Pillow does not open."""
    try:
        read_image(path)
    except InputError as ours:
        return str(ours)
    return " ".join(str(error).split()) or type(error).__name__
