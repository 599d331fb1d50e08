"""Every kind of picture file: the right pixels, or one line that says what is wrong."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leyolo.errors import InputError
from leyolo.predict import images
from leyolo.predict.images import decode_image, decode_reduced, read_image


def gradient(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], -1).astype(np.uint8)


def encoded(image: Image.Image, format: str, **save: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **save)
    return buffer.getvalue()


@pytest.fixture(params=["simplejpeg", "cv2", "pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each JPEG decoder in turn."""
    name = str(request.param)
    if name != "simplejpeg":
        monkeypatch.setattr(images, "_simplejpeg", lambda: None)
    if name == "cv2":
        import cv2

        monkeypatch.setitem(sys.modules, "cv2", cv2)
    else:
        monkeypatch.delitem(sys.modules, "cv2", raising=False)
    return name


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_lossless_formats_give_the_exact_pixels(format: str) -> None:
    pixels = gradient()
    out = decode_image(encoded(Image.fromarray(pixels), format, **({"lossless": True} if format == "WEBP" else {})))
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert out.flags.writeable
    np.testing.assert_array_equal(out, pixels)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 48)])
def test_jpeg_decoders_agree_bit_for_bit(decoder: str, subsampling: int, size: tuple[int, int]) -> None:
    data = encoded(Image.fromarray(gradient(*size)), "JPEG", subsampling=subsampling, quality=80)
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 2}])
def test_jpeg_variants(decoder: str, options: dict[str, Any]) -> None:
    data = encoded(Image.fromarray(gradient()), "JPEG", **options)
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(decoder: str, orientation: int, format: str) -> None:
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :16] = 255  # the top left corner of the stored picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = decode_image(encoded(Image.fromarray(pixels), format, exif=exif))
    assert out.shape[:2] == ((32, 48) if orientation < 5 else (48, 32))
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[
        orientation
    ]
    corners = {(y, x): bool(out[y, x].mean() > 128) for y in (0, -1) for x in (0, -1)}
    assert [at for at, bright in corners.items() if bright] == [corner]


def test_sixteen_bit_keeps_the_high_byte() -> None:
    values = (np.arange(256, dtype=np.uint16) << 8 | 0x7F).reshape(16, 16)
    for format in ("PNG", "TIFF"):
        out = decode_image(encoded(Image.fromarray(values), format))
        np.testing.assert_array_equal(out, np.repeat((values >> 8).astype(np.uint8)[..., None], 3, -1))


def test_sixteen_bit_rgb_png() -> None:
    import cv2

    values = gradient().astype(np.uint16) << 8 | 0x80
    done, data = cv2.imencode(".png", values[..., ::-1])
    assert done
    np.testing.assert_array_equal(decode_image(data.tobytes()), gradient())


def test_float_tiff() -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    out = decode_image(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(out[..., 0], np.rint(values * 255).astype(np.uint8))


def test_cmyk_jpeg(decoder: str) -> None:
    image = Image.fromarray(gradient()).convert("CMYK")
    data = encoded(image, "JPEG", quality=95)
    out = decode_image(data)
    assert np.abs(out.astype(int) - gradient()).mean() < 8
    np.testing.assert_array_equal(out, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
def test_grey(decoder: str, format: str) -> None:
    grey = gradient()[..., 0]
    out = decode_image(encoded(Image.fromarray(grey), format))
    assert out.shape == (24, 40, 3)
    assert (out == out[..., :1]).all()
    assert np.abs(out[..., 0].astype(int) - grey).max() <= (8 if format == "JPEG" else 0)


def test_alpha_is_dropped_not_composited() -> None:
    rgba = np.dstack([gradient(), np.zeros((24, 40), np.uint8)])  # wholly transparent
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(rgba), "PNG")), gradient())
    la = np.dstack([gradient()[..., 0], np.zeros((24, 40), np.uint8)])
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(la, "LA"), "PNG"))[..., 1], gradient()[..., 0])


@pytest.mark.parametrize("transparency", [None, 0])
def test_palette(transparency: int | None) -> None:
    image = Image.fromarray(gradient()).quantize(16)
    wanted = np.asarray(image.convert("RGB"))
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(decode_image(encoded(image, "PNG", **options)), wanted)


def test_one_bit() -> None:
    bits = (np.indices((8, 8)).sum(0) % 2).astype(bool)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(bits), "PNG"))[..., 2], bits * np.uint8(255))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_frame_of_many(format: str) -> None:
    frames = [Image.new("RGB", (16, 12), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if format == "WEBP" else {}
    out = decode_image(encoded(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert out.shape == (12, 16, 3)
    assert (out == (255, 0, 0)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 20000)])
def test_odd_shapes(shape: tuple[int, int], decoder: str) -> None:
    for format in ("PNG", "JPEG"):
        assert decode_image(encoded(Image.new("RGB", shape[::-1], (10, 20, 30)), format)).shape == (*shape, 3)


def test_pillows_own_limit_does_not_apply_and_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (500, 500)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert decode_image(data).shape == (500, 500, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_more_pixels_than_the_limit(monkeypatch: pytest.MonkeyPatch, format: str, decoder: str) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    with pytest.raises(InputError, match="has 200 x 100 pixels, more than the limit of 10,000"):
        decode_image(encoded(Image.new("RGB", (200, 100)), format))


def noise(format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return encoded(Image.fromarray(pixels), format)


def test_exif_is_found_behind_whatever_comes_first(decoder: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(gradient()), "JPEG", exif=exif, comment=b"c" * 1000)
    at = data.index(b"\xff\xe1")
    comment = b"\xff\xfe\x00\x04hi"
    for before in (b"", b"\xff\xff", comment, comment * 3000):
        assert decode_image(data[:at] + before + data[at:]).shape == (40, 24, 3)
    for end in range(len(data[:at]) + 12):
        with pytest.raises(InputError):
            decode_image(data[:end])


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_files_are_errors_not_half_pictures(decoder: str, format: str, part: float) -> None:
    data = noise(format)
    with pytest.raises(InputError, match=r"damaged or truncated|not an image"):
        decode_image(data[: int(len(data) * part)])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xd8", "is not an image|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "is EPS, a program"),
        (b"hello, world", "is not an image that can be read .it starts with 68 65 6c 6c"),
        (b"<!DOCTYPE html><html>", "looks like a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\0\0\0\x18ftypheic\0\0", "HEIC"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is not an image|damaged"),
    ],
)
def test_not_a_picture(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        decode_image(data)
    assert "\n" not in str(error.value)


def test_file_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="is a directory"):
        read_image(tmp_path)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="permission denied"):
        read_image(tmp_path / "x.jpg")


def smooth(height: int, width: int) -> Image.Image:
    return Image.fromarray(gradient(9, 9)).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("shape", "size", "factor"),
    [
        ((96, 128), 64, 2),
        ((96, 127), 64, 1),
        ((95, 129), 64, 2),
        ((257, 99), 64, 4),
        ((300, 520), (64, 32), 8),
        ((300, 200), (32, 320), 8),
        ((40, 40), 640, 1),
    ],
)
def test_reduced_jpegs(decoder: str, shape: tuple[int, int], size: Any, factor: int) -> None:
    data = encoded(smooth(*shape), "JPEG", quality=95)
    picture = decode_reduced(data, size)
    assert (picture.shape, picture.factor, picture.origin) == (shape, factor, (0, 0))
    reduced = Image.open(io.BytesIO(data))
    reduced.draft(None, (shape[1] // factor, shape[0] // factor))
    np.testing.assert_array_equal(picture.pixels, np.asarray(reduced))
    assert picture.pixels.shape == (-(-shape[0] // factor), -(-shape[1] // factor), 3)
    assert picture.pixels.flags.c_contiguous
    assert picture.encoded == (data if factor > 1 else None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_jpegs_lie_where_the_whole_does(decoder: str, orientation: int) -> None:
    """A bright square of whole blocks in a picture that is no multiple of the factor: its box, found in the reduced
    pixels, is its box in the whole."""
    pixels = np.zeros((130, 275, 3), np.uint8)
    pixels[32:64, 64:160] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), "JPEG", exif=exif, subsampling=0, quality=100)
    whole, picture = decode_image(data), decode_reduced(data, 32)
    assert picture.shape == whole.shape[:2]
    assert picture.factor == 8
    boxes = []
    for image in (whole, picture.pixels):
        y, x = np.nonzero(image[..., 0] > 128)
        boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
    found = picture.boxes_in_whole(np.array(boxes[1:], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, boxes[:1])
    height, width = picture.shape
    (clipped,) = picture.boxes_in_whole(np.array([[-9, -9, 999, 999]], np.float32))
    np.testing.assert_array_equal(clipped, [0, 0, width, height])


def test_only_jpegs_are_reduced(decoder: str) -> None:
    for image, format in ((smooth(96, 128), "PNG"), (smooth(96, 128).convert("CMYK"), "JPEG")):
        picture = decode_reduced(encoded(image, format), 32)
        assert picture.factor == 1
        np.testing.assert_array_equal(picture.pixels, decode_image(encoded(image, format)))
    grey = decode_reduced(encoded(smooth(96, 128).convert("L"), "JPEG"), 32)
    assert grey.pixels.shape == (24, 32, 3)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_files_are_errors_when_reduced(decoder: str, part: float) -> None:
    data = noise("JPEG")
    with pytest.raises(InputError, match=r"damaged or truncated|not an image"):
        decode_reduced(data[: int(len(data) * part)], 8)
