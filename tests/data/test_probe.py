"""The size of a picture from its header, and whether it is whole."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from annotated import write_picture
from leyolo.data import DataError
from leyolo.data.builder import read_limited
from leyolo.data.probe import picture_size
from leyolo.errors import InputError
from leyolo.predict.images import read_image


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".gif", ".tif"])
def test_size(suffix: str, tmp_path: Path) -> None:
    path = write_picture(tmp_path / f"a{suffix}", 37, 21)
    assert picture_size(path) == (37, 21)
    path.rename(tmp_path / "misnamed.jpg")
    assert picture_size(tmp_path / "misnamed.jpg") == (37, 21)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_that_of_the_upright_picture(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    height, width = read_image(tmp_path / "a.jpg").shape[:2]
    assert picture_size(tmp_path / "a.jpg") == (width, height)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.99])
def test_a_picture_that_is_cut_off_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (100, 120, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"truncated|empty|not an image|damaged"):
        picture_size(path)


def test_bytes_behind_the_end_are_no_damage(tmp_path: Path) -> None:
    for suffix in (".jpg", ".png"):
        path = write_picture(tmp_path / f"a{suffix}", 37, 21)
        path.write_bytes(path.read_bytes() + b"trailer" * 1000)
        assert picture_size(path) == (37, 21)


@pytest.mark.parametrize("name", ["gone.jpg", "", "a\0b.jpg", "\ud800.jpg", "x" * 5000])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file|directory|cannot be read"):
        picture_size(tmp_path / name)


def test_a_png_is_not_decoded_for_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_picture(tmp_path / "a.png", 37, 21)
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert picture_size(path) == (37, 21)


def test_a_png_may_say_behind_its_pixels_how_it_lies(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    assert picture_size(path) == (20, 40)
    content = path.read_bytes()
    at, pixels = content.index(b"eXIf") - 4, content.index(b"IDAT") - 4
    note, end = content[at:pixels], content.index(b"IEND") - 4
    path.write_bytes(content[:at] + content[pixels:end] + note + content[end:])
    assert read_image(path).shape[:2] == (40, 20)
    assert picture_size(path) == (20, 40)


def test_more_pixels_than_are_read_are_refused_by_the_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )
    with pytest.raises(InputError, match="has 60000 x 60000 pixels, more than the limit"):
        picture_size(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(InputError, match="is not a file"):
            picture_size(path)
        with pytest.raises(DataError, match="is not a file"):
            read_limited(path, 1000)
