"""The size of a picture from its header, and whether it is whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotated import write_picture
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
