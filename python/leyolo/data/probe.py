"""Whether a picture file is whole, and its size, without decoding it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from leyolo.errors import InputError
from leyolo.predict.images import open_picture, read_image

if TYPE_CHECKING:
    from PIL import Image

_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 1024
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture file as it lies upright, from its header.

    A JPEG or PNG that does not end as such is decoded once: it is either cut off, or carries something behind its end.

    Raises:
        InputError: the file is missing, is no picture, or is cut off; one line that says which.
    """
    try:
        with open_picture(path) as image:
            size, kind, sideways = image.size, image.format, _sideways(image)
        if kind in _ENDS and not _ends_with(path, _ENDS[kind]):
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


def _refused(path: Path, error: Exception) -> str:
    """What our decoder says about a file that Pillow does not open."""
    try:
        read_image(path)
    except InputError as ours:
        return str(ours)
    return " ".join(str(error).split()) or type(error).__name__
