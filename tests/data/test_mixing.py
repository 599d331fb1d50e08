"""Augmentations of several pictures, and the settings that choose among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leyolo.data.augment import Augment, augmented, generator
from leyolo.data.mixing import cutmix, mixup, mosaic
from leyolo.data.sample import PADDING, Sample, fitted
from leyolo.errors import UsageError

pytest.importorskip("cv2")


def plain(value: int, height: int = 64, width: int = 64, box: tuple[float, ...] = (8, 8, 40, 40)) -> Sample:
    """A picture of one grey with one box, whose label is the grey."""
    return Sample(np.full((height, width, 3), value, np.uint8), np.array([box], np.float32), np.array([value]))


@pytest.mark.parametrize("seed", range(20))
def test_mosaic_places_every_picture_with_its_boxes(seed: int) -> None:
    sizes = [(64, 48), (32, 64), (64, 64), (20, 64)]
    whole = [plain(at, *size, box=(0, 0, size[1], size[0])) for at, size in enumerate(sizes)]
    made = mosaic(whole, 64, np.random.default_rng(seed))
    assert made.image.shape == (128, 128, 3)
    assert made.labels.tolist() == [0, 1, 2, 3]
    for box, label in zip(made.boxes.astype(int), made.labels, strict=True):
        x1, y1, x2, y2 = box
        assert (made.image[y1:y2, x1:x2] == label).all()
        assert (made.image == label).all(2).sum() == (x2 - x1) * (y2 - y1)
    others = ~np.isin(made.image[..., 0], range(4))
    assert (made.image[others] == PADDING).all()


def test_mosaic_cuts_boxes_off_with_their_picture() -> None:
    for seed in range(50):
        made = mosaic([plain(at) for at in range(4)], 64, np.random.default_rng(seed))
        assert (made.boxes >= 0).all()
        assert (made.boxes <= 128).all()
        for box, label in zip(made.boxes.astype(int), made.labels, strict=True):
            assert (made.image[box[1] : box[3], box[0] : box[2]] == label).all()


def test_mixup_takes_half_of_each() -> None:
    made = mixup(plain(0), plain(200), np.random.default_rng(0))
    assert 60 < made.image.mean() < 140  # Beta(32, 32): a share of 0.3 to 0.7
    assert (made.labels.tolist(), len(made.boxes)) == ([0, 200], 2)


@pytest.mark.parametrize("seed", range(30))
def test_cutmix_keeps_what_is_seen(seed: int) -> None:
    first, second = plain(0, box=(4, 4, 30, 30)), plain(9, box=(20, 20, 60, 60))
    made = cutmix(first, second, np.random.default_rng(seed))
    pasted = (made.image == 9).all(2)
    hidden = pasted[4:30, 4:30].sum() / 26**2
    assert (0 in made.labels) == (hidden <= 0.75)
    shown = pasted[20:60, 20:60].sum() / 40**2
    assert (9 in made.labels) == (shown > 0.25)
    for box, label in zip(made.boxes.astype(int), made.labels, strict=True):
        if label == 9:
            assert pasted[box[1] : box[3], box[0] : box[2]].all()


def test_without_boxes() -> None:
    nothing = Sample(np.zeros((64, 64, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    for made in (
        mosaic([nothing] * 4, 64, np.random.default_rng(0)),
        mixup(nothing, nothing, np.random.default_rng(0)),
        cutmix(nothing, nothing, np.random.default_rng(0)),
        augmented(lambda index, size: nothing, 0, 1, 64, Augment(mixup=1.0), np.random.default_rng(0)),
    ):
        assert (made.boxes.shape, made.labels.shape) == ((0, 4), (0,))
        assert (made.boxes.dtype, made.labels.dtype) == (np.float32, np.int64)


PICTURES = [plain(value, 40 + value, 100 - value) for value in range(8)]


def drawn(settings: Augment, seed: int = 0, epoch: int = 0, index: int = 0, size: int = 96) -> Sample:
    def load(index: int, size: int) -> Sample:
        return fitted(PICTURES[index], size)

    return augmented(load, index, len(PICTURES), size, settings, generator(seed, epoch, index))


@pytest.mark.parametrize(
    "settings", [Augment(), Augment().closed(), Augment(degrees=10, shear=5, flipud=0.5, mixup=0.5, cutmix=0.5)]
)
def test_the_same_numbers_give_the_same_sample(settings: Augment) -> None:
    first = drawn(settings)
    assert first.image.shape == (96, 96, 3)
    assert (first.image.dtype, first.boxes.dtype, first.labels.dtype) == (np.uint8, np.float32, np.int64)
    assert all(np.array_equal(a, b) for a, b in zip(first, drawn(settings), strict=True))
    for other in ({"seed": 1}, {"epoch": 1}, {"index": 1}):
        assert not np.array_equal(drawn(settings, **other).image, first.image)


def test_settings_choose() -> None:
    off = dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "translate", "scale", "fliplr", "mosaic"), 0.0)
    letterboxed = drawn(Augment(**off))
    assert (letterboxed.image[48] == 0).all()
    assert len(drawn(Augment(**off | {"mosaic": 1.0})).labels) > 1
    assert Augment(mosaic=1, mixup=0.5, cutmix=0.5, scale=0.3).closed() == Augment(mosaic=0, scale=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mosaic": 1.1}, "mosaic must be within 0..1, got 1.1"),
        ({"hsv_h": -0.1}, "hsv_h must be within 0..1"),
        ({"scale": 1.0}, "scale must be within 0..0.9"),
        ({"degrees": float("nan")}, "degrees must be within 0..180, got nan"),
        ({"fliplr": "often"}, "fliplr must be within 0..1, got 'often'"),
        ({"mixup": 0.6, "cutmix": 0.6}, "mixup and cutmix must sum to 1"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Augment(**change)
