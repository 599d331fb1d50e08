"""What must hold of every annotated picture; its looks are judged by people."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from leyolo.predict import draw
from leyolo.predict.coco import NAMES
from leyolo.predict.results import Results

Make = Callable[..., Results]


def changed(result: Results, **options: object) -> np.ndarray:
    return (result.plot(**options) != result.orig_img).any(-1)


def test_the_picture_itself_stays_as_it_was(results: Make) -> None:
    r = results([[10, 20, 50, 80, 0.9, 0]])
    before = r.orig_img.copy()
    out = r.plot()
    assert out.dtype == np.uint8
    assert out.shape == r.orig_img.shape
    assert out.flags.writeable
    np.testing.assert_array_equal(r.orig_img, before)


def test_a_box_is_drawn_where_it_is_in_its_classs_colour(results: Make) -> None:
    r = results([[10, 20, 50, 80, 0.9, 0]])
    out = r.plot(labels=False)
    for x, y in ((10, 20), (50, 80), (30, 20), (10, 50), (50, 50), (30, 80)):
        assert tuple(out[y, x]) == draw.color(0)
    mask = changed(r, labels=False)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 80, 10, 50)
    assert not mask[22:79, 12:49].any()
    assert changed(r, labels=False, line_width=5)[24, 30]


def test_colours_differ_and_text_can_be_read() -> None:
    colors = [draw.color(i) for i in range(80)]
    assert len(set(colors)) == 80
    assert colors == [draw.color(i) for i in range(80)]

    def luminance(color: draw.Color) -> float:
        c = np.array(color) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for color in colors:
        low, high = sorted((luminance(color), luminance(draw.text_color(color))))
        assert (high + 0.05) / (low + 0.05) >= 3.5


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (48, 64), (240, 320), (1080, 1920), (300, 6000)])
def test_any_size_and_boxes_at_every_edge(results: Make, size: tuple[int, int]) -> None:
    height, width = size
    rows = [
        [0, 0, width, height, 0.9, 1],
        [width * 0.98, height * 0.98, width, height, 0.8, 2],
        [0, 0, 1, 1, 0.7, 3],
        [width / 2, height / 2, width / 2, height / 2, 0.6, 4],
        [width, height, width, height, 0.5, 5],
    ]
    assert changed(results(rows, size)).any()


def spots(
    results: Make, monkeypatch: pytest.MonkeyPatch, rows: list[list[float]], size: tuple[int, int]
) -> list[draw.Rect]:
    """Where labels were put."""
    found: list[draw.Rect] = []
    place = draw._spot

    def spy(*args: object) -> draw.Rect | None:
        spot = place(*args)  # type: ignore[arg-type]
        if spot is not None:
            found.append(spot)
        return spot

    monkeypatch.setattr(draw, "_spot", spy)
    results(rows, size).plot()
    return found


def test_labels_stay_inside_and_apart(results: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centre, extent = rng.uniform(0, 1, (12, 2)), rng.uniform(0.1, 0.3, (12, 2))
    corners = np.clip(np.hstack([centre - extent / 2, centre + extent / 2]), 0, 1) * [640, 480, 640, 480]
    rows = [[*box, 0.9 - 0.05 * n, n] for n, box in enumerate(corners.tolist())]
    found = spots(results, monkeypatch, rows, (480, 640))
    assert len(found) == 12
    for n, (x1, y1, x2, y2) in enumerate(found):
        assert 0 <= x1 < x2 <= 640
        assert 0 <= y1 < y2 <= 480
        assert all(draw._overlap((x1, y1, x2, y2), other) == 0 for other in found[:n])


def test_a_thicket_keeps_the_best_labels(results: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[100, 100, 140, 140, 0.9 - n / 200, 0] for n in range(100)]
    found = spots(results, monkeypatch, rows, (240, 240))
    assert 1 <= len(found) < 20


def test_thumbnails_get_boxes_only(results: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spots(results, monkeypatch, [[5, 5, 40, 40, 0.9, 0]], (48, 64)) == []


def test_names_beyond_ascii(results: Make) -> None:
    r = results([[10, 40, 100, 110, 0.9, 0]])
    r.names[0] = "Fußgänger 行人"
    assert changed(r).any()
    assert len(NAMES) == 80
