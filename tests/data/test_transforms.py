"""Augmentations of one picture: what happens to pixels happens to boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leyolo.data.sample import PADDING, Sample, areas, fitted, kept, padded
from leyolo.data.transforms import affine, flip_horizontal, flip_vertical, jitter_colour, random_matrix

cv2 = pytest.importorskip("cv2")


def marked(height: int, width: int, box: tuple[int, int, int, int]) -> Sample:
    """A black picture with a white rectangle, and the box around it."""
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return Sample(image, np.array([box], np.float32), np.array([3]))


def white(sample: Sample) -> list[float]:
    """The box around what is more white than black."""
    rows, columns = (np.flatnonzero((sample.image[..., 0] > 150).any(axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def empty(height: int, width: int) -> Sample:
    return Sample(np.zeros((height, width, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


@pytest.mark.parametrize("flip", [flip_horizontal, flip_vertical])
def test_flips(flip: object) -> None:
    assert callable(flip)
    sample = marked(31, 47, (5, 3, 20, 9))
    turned = flip(sample)
    assert turned.boxes[0].tolist() == white(turned)
    assert turned.boxes.tolist() != sample.boxes.tolist()
    back = flip(turned)
    assert np.array_equal(back.image, sample.image)
    assert np.array_equal(back.boxes, sample.boxes)
    assert len(flip(empty(1, 1)).boxes) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.5))
def test_affine_moves_boxes_with_pixels(seed: int, translate: float, scale: float) -> None:
    sample = marked(120, 160, (40, 30, 110, 90))
    random = np.random.default_rng(seed)
    matrix = random_matrix(random, (120, 160), (128, 128), translate=translate, scale=scale)
    moved = affine(sample, matrix, (128, 128))
    assert moved.image.shape == (128, 128, 3)
    # An edge is right to half a pixel, and one more where interpolation ends at the threshold of white.
    assert moved.boxes[0].tolist() == pytest.approx(white(moved), abs=1.5)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 180.0])
def test_a_turned_box_holds_its_object(degrees: float) -> None:
    sample = marked(200, 200, (80, 60, 120, 140))
    angle = np.radians(degrees)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([linear, np.array([100, 100]) - linear @ (100, 100)])
    moved = affine(sample, matrix, (200, 200))
    assert moved.boxes[0].tolist() == pytest.approx(white(moved), abs=1.5)


def test_nothing_asked_changes_nothing() -> None:
    sample = marked(64, 64, (8, 8, 24, 24))
    moved = affine(sample, random_matrix(np.random.default_rng(0), (64, 64), (64, 64)), (64, 64))
    assert np.array_equal(moved.image, sample.image)
    assert np.array_equal(moved.boxes, sample.boxes)
    assert jitter_colour(sample.image, np.random.default_rng(0), 0, 0, 0) is sample.image


def test_random_matrix_stays_within_its_limits() -> None:
    limits = {"degrees": 10.0, "translate": 0.1, "scale": 0.5}
    for seed in range(200):
        matrix = random_matrix(np.random.default_rng(seed), (100, 200), (64, 96), **limits)
        centre = matrix @ (100, 50, 1)
        assert (np.abs(centre - (48, 32)) <= 0.1 * np.array([96, 64]) + 1e-9).all()
        assert 0.5 <= np.sqrt(np.linalg.det(matrix[:, :2])) <= 1.5
        assert abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) <= 10


def test_what_is_left_too_little_of_goes() -> None:
    boxes = np.array([[0, 0, 10, 10], [-9, 0, 1, 10], [-30, 0, 3, 10], [5, 5, 7, 30], [0, 0, 300, 2.5], [50, 0, 60, 9]])
    sample = Sample(np.zeros((40, 40, 3), np.uint8), boxes.astype(np.float32), np.arange(6))
    stays = kept(sample, areas(sample.boxes), least_share=0.1)
    # 1: one pixel is left; 2: 9% is left; 3: two pixels wide; 5: outside.
    assert stays.labels.tolist() == [0, 4]
    assert stays.boxes[1].tolist() == [0, 0, 40, 2.5]
    assert kept(empty(4, 4), np.zeros(0, np.float32), least_share=0.1).boxes.shape == (0, 4)


@pytest.mark.parametrize(("height", "width"), [(30, 40), (480, 640), (33, 7), (1, 1), (500, 3)])
def test_letterbox_is_that_of_prediction(height: int, width: int) -> None:
    from leyolo import _C, geometry

    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    sample = Sample(image, np.array([[0, 0, width, height]], np.float32), np.array([0]))
    ours = padded(fitted(sample, 64), 64, 64)
    (expected,), scale, (left, top) = _C.letterbox(image, 64, dtype="uint8")
    assert np.array_equal(ours.image, expected)
    back = geometry.unletterbox_boxes(ours.boxes, (height, width), (64, 64), scale=scale, padding=(left, top))
    assert np.allclose(back, sample.boxes, atol=1e-3)
    assert (height == width) != (ours.image[0, 0] == PADDING).all()


def test_colour_changes_within_its_gains_and_keeps_grey_grey() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    changed = jitter_colour(image, np.random.default_rng(1), 0.015, 0.7, 0.4)
    assert (changed.dtype, changed.shape) == (image.dtype, image.shape)
    assert not np.array_equal(changed, image)
    ratio = changed.max(2).astype(float) / np.maximum(image.max(2), 1)
    bright = image.max(2) > 50
    assert (ratio[bright] < 1.42).all()
    assert (ratio[bright] > 0.58).all()
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert np.ptp(jitter_colour(grey, np.random.default_rng(1), 0.015, 0.7, 0.4), axis=2).max() == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_affine_moves_pixels_where_it_moves_boxes_to_a_tenth(seed: int) -> None:
    """The centre of a soft spot: pixel 0 of OpenCV lies at 0.5 of boxes."""
    y, x = np.mgrid[:120, :160] + 0.5
    spot = 200 * np.exp(-((x - 83.3) ** 2 + (y - 57.9) ** 2) / (2 * 8**2))
    sample = empty(120, 160)._replace(image=np.repeat(spot.round().astype(np.uint8)[..., None], 3, axis=2))
    limits = {"degrees": 45.0, "translate": 0.1, "scale": 0.5, "shear": 10.0}
    matrix = random_matrix(np.random.default_rng(seed), (120, 160), (320, 320), **limits)
    moved = affine(sample, matrix, (320, 320)).image[..., 0].astype(float)
    moved[moved == PADDING] = 0  # what lies around the picture
    rows, columns = np.mgrid[:320, :320] + 0.5
    expected = matrix @ (83.3, 57.9, 1)
    near = np.hypot(columns - expected[0], rows - expected[1]) < 12
    weights = np.where(near, np.maximum(moved - 60, 0), 0)
    found = (weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()
    assert found == pytest.approx(tuple(expected), abs=0.1)
