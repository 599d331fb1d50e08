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

A JPEG may be decoded to a half, a quarter or an eighth of its sides (:func:`decode_reduced`), which leaves out most of
the inverse transform, of the colour conversion and of the memory; again with the same pixels from all three.
"""

from __future__ import annotations

import io
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

# EXIF orientations whose rows, or columns, run backwards (once 5 to 8 have been transposed).
_UPSIDE_DOWN, _RIGHT_TO_LEFT = (3, 4, 7, 8), (2, 3, 6, 7)

Pixels = NDArray[np.uint8]


class Picture(NamedTuple):
    """A decoded picture, which may have fewer pixels than it has encoded."""

    pixels: Pixels
    shape: tuple[int, int]
    """Height and width of the whole."""
    factor: int = 1
    """Pixels of the whole per pixel here, on each side."""
    origin: tuple[int, int] = (0, 0)
    """x and y in the whole of the upper left corner here; negative where the pixels that stand for less than others
    come first."""
    encoded: bytes | None = None
    """If reduced: what it was decoded from."""

    @classmethod
    def whole(cls, pixels: Pixels) -> Picture:
        return cls(pixels, (int(pixels.shape[0]), int(pixels.shape[1])))

    def boxes_in_whole(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N, 4] xyxy in pixels here to those of the whole, clipped to it."""
        if self.factor == 1:
            return boxes
        (height, width), (x, y) = self.shape, self.origin
        moved = boxes * np.float32(self.factor) + np.array([x, y, x, y], np.float32)
        clipped: NDArray[np.float32] = np.clip(moved, 0, np.array([width, height, width, height], np.float32))
        return clipped


def read_image(path: str | Path) -> Pixels:
    """Decodes a file; raises InputError with one line that says what is wrong with it."""
    return decode_image(read_file(path))


def read_file(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
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


def decode_image(data: bytes) -> Pixels:
    """Decodes the bytes of an image file to ``uint8 [H, W, 3]`` RGB."""
    return _decode(data, None).pixels


def decode_reduced(data: bytes, size: int | tuple[int, int]) -> Picture:
    """Decodes only as many pixels as a letterbox into ``size`` (a side, or height and width) needs, if the picture is a
    JPEG of twice its size or more; other pictures as a whole.

    The pixels are not those of resizing the whole picture: every one is the mean of its block of the transform, which
    differs by a few levels where the picture has fine detail.
    """
    return _decode(data, (size, size) if isinstance(size, int) else size)


def _decode(data: bytes, size: tuple[int, int] | None) -> Picture:
    if not data:
        raise InputError("is empty (0 bytes)")
    try:
        picture = _decode_jpeg(data, size) if data[:2] == b"\xff\xd8" else None
        return Picture.whole(_decode_with_pillow(data)) if picture is None else picture
    except MemoryError:
        raise InputError("does not fit in memory") from None


def _reduction(shape: tuple[int, int], size: tuple[int, int] | None) -> int:
    """8, 4, 2 or 1: the most by which a picture, as it lies upright, may be reduced and still fill ``size``."""
    if size is None:
        return 1
    excess = max(shape[0] / size[0], shape[1] / size[1])
    return next((factor for factor in (8, 4, 2) if factor <= excess), 1)


def _decode_jpeg(data: bytes, size: tuple[int, int] | None) -> Picture | None:
    """None where Pillow has to look (no fast decoder and nothing to reduce, another colour space, or damage that Pillow
    will name)."""
    stored = _jpeg_shape(data)
    if stored is None:
        return None
    height, width = stored
    check_size(width, height)
    orientation = _jpeg_orientation(data)
    shape = (width, height) if orientation >= 5 else (height, width)
    factor = _reduction(shape, size)
    pixels = _jpeg_pixels(data, height, width, factor)
    if pixels is None:
        return None
    pixels = _turned(pixels, orientation)
    # The last row and column stand for what was left over; in a mirrored picture they come first.
    right, below = shape[1] - factor * pixels.shape[1], shape[0] - factor * pixels.shape[0]
    origin = right if orientation in _RIGHT_TO_LEFT else 0, below if orientation in _UPSIDE_DOWN else 0
    return Picture(pixels, shape, factor, origin, data) if factor > 1 else Picture.whole(pixels)


def _jpeg_shape(data: bytes) -> tuple[int, int] | None:
    """Height and width as stored, if the colour space is one that every decoder takes."""
    simplejpeg = _simplejpeg()
    try:
        if simplejpeg is not None:
            height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
            return (height, width) if colorspace in ("YCbCr", "RGB", "Gray") else None
        image = open_picture(data)
        return (image.height, image.width) if len(image.getbands()) in (1, 3) else None
    except (ValueError, OSError):
        return None


def _jpeg_pixels(data: bytes, height: int, width: int, factor: int) -> Pixels | None:
    rows, columns = -(-height // factor), -(-width // factor)
    simplejpeg = _simplejpeg()
    cv2 = sys.modules.get("cv2")
    pixels: Pixels
    if simplejpeg is not None:
        least = {"min_height": rows, "min_width": columns} if factor > 1 else {}
        try:
            pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, **least)
        except ValueError:
            return None
    elif cv2 is not None and data.rstrip(b"\0").endswith(b"\xff\xd9"):
        # The end marker is asked for because cv2 gives half a picture for a truncated file.
        mode = getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}") if factor > 1 else cv2.IMREAD_COLOR
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
        if bgr is None:
            return None
        pixels = np.ascontiguousarray(bgr[..., ::-1])
    elif factor > 1:
        try:
            image = open_picture(data)
            image.draft(None, (width // factor, height // factor))
            pixels = pil_to_rgb(image)
        except Exception:  # damaged files make Pillow's plugins raise nearly anything
            return None
    else:
        return None
    return pixels if pixels.shape[:2] == (rows, columns) else None


@lru_cache(maxsize=1)
def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except Exception:
        return None
    return simplejpeg


def open_picture(data: bytes | Path) -> Image.Image:
    """``PIL.Image.open`` under our size limit instead of Pillow's: the header is read, no pixel. The limit is a global
    of Pillow, hence the lock."""
    from PIL import Image

    with _pillow_limit:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    if image.format == "EPS":
        image.close()
        raise InputError("is EPS, a program that Ghostscript would run: convert it")
    return image


def _jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation 1..8 of a JPEG; 1 where there is none."""
    if not _has_exif(data):
        return 1
    try:
        value = open_picture(data).getexif().get(0x0112, 1)
    except Exception:
        return 1  # damaged EXIF says nothing about the picture
    return value if value in range(1, 9) else 1


def _has_exif(data: bytes) -> bool:
    """Whether a segment before the picture itself is EXIF; True also where the segments are out of order."""
    at = 2
    while at + 1 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return True
        if marker == 0xDA:
            return False
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in _UPSIDE_DOWN:
        pixels = pixels[::-1]
    if orientation in _RIGHT_TO_LEFT:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def check_size(width: int, height: int) -> None:
    """InputError where a picture has more than ``MAX_PIXELS``."""
    if width * height > MAX_PIXELS:
        raise InputError(f"has {width} x {height} pixels, more than the limit of {MAX_PIXELS:,}")


def _decode_with_pillow(data: bytes) -> Pixels:
    from PIL import ImageOps, UnidentifiedImageError

    try:
        image = open_picture(data)
        check_size(*image.size)
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
