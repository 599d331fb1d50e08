"""Encoded images to RGB pixels, ``uint8 [H, W, 3]``, the same pixels whatever decoder is installed.

* EXIF orientation is applied.
* Alpha is dropped, as ``cv2.imread`` does (not composited), so that a picture with alpha gives the boxes of the picture
  without; grey and palette pictures become RGB, CMYK through Pillow's conversion.
* 16-bit samples keep their high byte; float samples are taken as 0..1 if none exceeds 1, else as 0..255.
* Of animations and multi-page files the first frame is taken.
* Truncated files are errors, never half a picture.

JPEG goes through simplejpeg if it is installed, else through cv2 if the program has already imported it (importing it
takes longer than it saves on some fifty pictures), else through Pillow; all three run libjpeg-turbo's exact integer
transform. All else goes through Pillow.
"""

from __future__ import annotations

import io
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leyolo.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 500_000_000
"""Pictures with more pixels are refused before they are decoded (1.5 GB as RGB). Pillow's own limit is lower; ours
allows satellite and slide pictures of 20,000 x 20,000."""

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".j2k",
        ".avif",
        ".tga",
        ".ico",
        ".mpo",
        ".pcx",
        ".sgi",
        ".qoi",
    ]
)

_pillow_limit = threading.Lock()

Pixels = NDArray[np.uint8]


def read_image(path: str | Path) -> Pixels:
    """Decodes a file; raises InputError with one line that says what is wrong with it."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError("no such file") from None
    except IsADirectoryError:
        raise InputError("is a directory, not an image") from None
    except PermissionError:
        raise InputError("permission denied") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # a NUL byte in the name
        raise InputError(f"cannot be read ({error})") from None
    return decode_image(data)


def decode_image(data: bytes) -> Pixels:
    """Decodes the bytes of an image file to ``uint8 [H, W, 3]`` RGB."""
    if not data:
        raise InputError("is empty (0 bytes)")
    try:
        pixels = _decode_jpeg(data) if data[:2] == b"\xff\xd8" else None
        return _decode_with_pillow(data) if pixels is None else pixels
    except MemoryError:
        raise InputError("does not fit in memory") from None


def _decode_jpeg(data: bytes) -> Pixels | None:
    """The fast decoders; None where Pillow has to look (another colour space, or damage that Pillow will name)."""
    simplejpeg = _simplejpeg()
    cv2 = sys.modules.get("cv2")
    if simplejpeg is not None:
        try:
            height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
            if colorspace not in ("YCbCr", "RGB", "Gray"):
                return None
            _check_size(width, height)
            pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            return None
    elif cv2 is not None and data.rstrip(b"\0").endswith(b"\xff\xd9") and _jpeg_components(data) in (1, 3):
        # The end marker is asked for because cv2 gives half a picture for a truncated file.
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if bgr is None:
            return None
        pixels = np.ascontiguousarray(bgr[..., ::-1])
    else:
        return None
    return _turned(pixels, _jpeg_orientation(data))


@lru_cache(maxsize=1)
def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except Exception:
        return None
    return simplejpeg


def _open(data: bytes) -> Image.Image:
    """``PIL.Image.open`` under our size limit instead of Pillow's. The limit is a global of Pillow, hence the lock."""
    from PIL import Image

    with _pillow_limit:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data))
        finally:
            Image.MAX_IMAGE_PIXELS = theirs


def _jpeg_components(data: bytes) -> int:
    try:
        image = _open(data)
        _check_size(*image.size)
        return len(image.getbands())
    except OSError:
        return 0


def _jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation 1..8 of a JPEG; 1 where there is none."""
    if b"Exif\0\0" not in data[: 1 << 17]:
        return 1
    try:
        value = _open(data).getexif().get(0x0112, 1)
    except Exception:
        return 1  # damaged EXIF says nothing about the picture
    return value if value in range(1, 9) else 1


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"has {width} x {height} pixels, more than the limit of {MAX_PIXELS:,}")


def _decode_with_pillow(data: bytes) -> Pixels:
    from PIL import ImageOps, UnidentifiedImageError

    try:
        image = _open(data)
        _check_size(*image.size)
        image.load()
        return pil_to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise InputError(f"is not an image that can be read ({_looks_like(data)})") from None
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged files make Pillow's plugins raise nearly anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"is damaged or truncated ({text})") from None


def pil_to_rgb(image: Image.Image) -> Pixels:
    """Pixels of a PIL image (its current frame, as it lies: boxes are coordinates of the object that was given)."""
    mode = image.mode
    if mode.startswith("I;16") or mode == "I":
        return _grey(np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8)
    if mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        return _grey(np.clip(np.rint(values * (255 if values.max(initial=0) <= 1 else 1)), 0, 255))
    if mode == "PA" or (mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        return np.ascontiguousarray(np.asarray(image)[..., :3])
    if image.mode in ("LA", "La"):
        return _grey(np.asarray(image)[..., 0])
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)  # a copy: PIL's buffer is read-only


def _grey(values: NDArray[Any]) -> Pixels:
    return np.ascontiguousarray(np.broadcast_to(values.astype(np.uint8)[..., None], (*values.shape, 3)))


def _looks_like(data: bytes) -> str:
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        return "it looks like a web page"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run git lfs pull"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"):
        return "it is HEIC: convert it, or install pillow-heif and register it"
    return f"it starts with {data[:4].hex(' ')}"
