from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leyolo.geometry import anchor_points, letterbox, unletterbox_boxes


def test_anchor_points() -> None:
    centers, strides = anchor_points(64, 96, (8, 16, 32))
    assert centers.dtype == strides.dtype == np.float32
    assert centers.shape == (8 * 12 + 4 * 6 + 2 * 3, 2)
    assert centers[:3].tolist() == [[4, 4], [12, 4], [20, 4]]
    assert centers[12].tolist() == [4, 12]
    assert centers[96].tolist() == [8, 8]
    assert centers[-1].tolist() == [80, 48]
    assert [int((strides == s).sum()) for s in (8, 16, 32)] == [96, 24, 6]
    assert len(anchor_points(640, 640, (8, 16, 32))[0]) == 8400


@pytest.mark.parametrize("size", [(100, 96), (64, 0), (64, 100), (-32, 32)])
def test_anchor_points_rejects(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive multiples of the stride"):
        anchor_points(*size, (8, 16, 32))
    with pytest.raises(ValueError, match="at least one level"):
        anchor_points(32, 32, ())


@pytest.mark.parametrize(
    ("image", "size", "options", "expected"),
    [
        ((1080, 810), 640, {}, (640, 640, 640, 480, 80, 0)),
        ((1080, 810), 640, {"rect": True}, (640, 480, 640, 480, 0, 0)),
        ((1080, 810), 320, {"rect": True}, (320, 256, 320, 240, 8, 0)),
        ((480, 641), 640, {}, (640, 640, 479, 640, 0, 80)),
        ((100, 50), 320, {}, (320, 320, 320, 160, 80, 0)),
        ((100, 50), 320, {"scale_up": False}, (320, 320, 100, 50, 135, 110)),
        ((100, 51), 320, {"scale_up": False, "rect": True}, (128, 64, 100, 51, 6, 14)),
        ((1, 1), 64, {}, (64, 64, 64, 64, 0, 0)),
        ((1, 20000), 640, {}, (640, 640, 1, 640, 0, 319)),
        ((1, 20000), 640, {"rect": True}, (32, 640, 1, 640, 0, 15)),
        ((300, 400), (256, 512), {}, (256, 512, 256, 341, 85, 0)),
        ((300, 400), 500, {"rect": True, "stride": 64}, (384, 512, 375, 500, 6, 4)),
    ],
)
def test_letterbox(image: tuple[int, int], size: Any, options: dict[str, Any], expected: tuple[int, ...]) -> None:
    box = letterbox(*image, size, **options)
    assert (box.height, box.width, box.resized_height, box.resized_width, box.left, box.top) == expected


def test_letterbox_rejects() -> None:
    for arguments in ((0, 10, 64), (10, 10, 0), (10, 10, (64, -1))):
        with pytest.raises(ValueError, match="must be positive"):
            letterbox(*arguments)
    with pytest.raises(ValueError, match="must be positive"):
        letterbox(10, 10, 64, stride=0)


@pytest.mark.parametrize("size", [320, 640])
def test_golden_boxes_back_in_the_image(size: int, shared: Path) -> None:
    golden = np.load(shared / "golden" / "leyolo" / f"bus_{size}.npz")
    meta = json.loads(str(golden["meta_json"]))
    box = letterbox(*meta["orig_hw"], size)
    assert [box.left, box.top] == meta["pad_left_top"]
    assert [box.resized_width, box.resized_height] == meta["resized_wh"]
    assert box.scale == meta["ratio"]
    for name in ("det_c25_i70", "det_c25_i45", "det_val"):
        boxes, expected = golden[name][:, :4], golden[f"{name}_orig"][:, :4]
        np.testing.assert_allclose(unletterbox_boxes(boxes, meta["orig_hw"], (size, size)), expected, atol=1e-4, rtol=0)
        explicit = unletterbox_boxes(boxes, meta["orig_hw"], (size, size), scale=box.scale, padding=(box.left, box.top))
        np.testing.assert_allclose(explicit, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", [{}, {"rect": True}, {"scale_up": False}, {"scale_up": False, "rect": True}])
def test_there_and_back(options: dict[str, Any]) -> None:
    box = letterbox(123, 77, 320, **options)
    boxes = np.float32([[3, 4, 50, 60], [0, 0, 77, 123]])
    offset = np.float32([box.left, box.top] * 2)
    there = boxes * np.float32(box.scale) + offset
    back = unletterbox_boxes(there, (123, 77), (box.height, box.width), scale=box.scale, padding=(box.left, box.top))
    np.testing.assert_allclose(back, boxes, atol=1e-4)


def test_unletterbox_clips_and_keeps_shape() -> None:
    boxes = np.full((2, 0, 4), 0, np.float64)
    assert unletterbox_boxes(boxes, (10, 10, 3), (20, 20)).shape == (2, 0, 4)
    out = unletterbox_boxes(np.array([[-5, -5, 900, 900]]), (10, 20), (40, 40))
    assert out.dtype == np.float32
    assert out.tolist() == [[0, 0, 20, 10]]


def test_unletterbox_rejects() -> None:
    with pytest.raises(ValueError, match=r"boxes must be \[..., 4\], got \[3, 5\]"):
        unletterbox_boxes(np.zeros((3, 5)), (10, 10), (20, 20))
    with pytest.raises(ValueError, match="must be positive"):
        unletterbox_boxes(np.zeros((3, 4)), (10, 0), (20, 20))
    with pytest.raises(ValueError, match="must be positive"):
        unletterbox_boxes(np.zeros((3, 4)), (10, 10), (20, 20), scale=0)
