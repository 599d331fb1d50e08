"""What must be in the pictures; their looks are judged by people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import scene

from leyolo.explain import assigners, heat, panels, sheet
from leyolo.ops import simota_cost
from leyolo.predict.draw import color

BOXES = [[8, 8, 88, 56], [40, 60, 90, 92]]


def _under_number(x: float, y: float, box: list[float]) -> bool:
    """The number of a box stands above its upper left corner, 20 pixels high, or inside where there is no room."""
    top = max(box[1] - 20, 0)
    return box[0] - 1 <= x <= box[0] + 20 and top - 1 <= y <= top + 21


@pytest.mark.parametrize("zoom", [1, 3])
def test_every_anchor_is_a_dot_in_its_objects_colour(zoom: int) -> None:
    given = scene(BOXES)
    shares = assigners.shares("tal", given, assigners.run("tal", given))
    drawn = np.asarray(panels.panel(given, shares, zoom))
    assert drawn.shape == (96 * zoom, 96 * zoom, 3)
    assert sum(len(share.anchors) for share in shares) > 10
    for number, share in enumerate(shares):
        for anchor in share.anchors:
            x, y = (round(v * zoom) for v in given.points.centers[anchor].tolist())
            if not any(_under_number(x, y, [v * zoom for v in box]) for box in BOXES):
                assert tuple(drawn[y, x]) == color(number), (number, anchor)
    untouched = drawn[-zoom * 3 :, : zoom * 30]
    assert (untouched == untouched[..., :1]).all(), "grey where there is nothing"


def test_dots_grow_with_the_stride() -> None:
    given = scene([[0, 0, 96, 96]])
    areas = {}
    for stride, anchor in ((8, 12 * 6 + 6), (16, 144 + 6 * 3 + 3), (32, 180 + 3 + 1)):
        share = assigners.Share(None, (anchor,), {}, 1.0)
        drawn = np.asarray(panels.panel(given, [share], 4))
        inner = drawn[60:-60, 60:-60]
        areas[stride] = int((inner == color(0)).all(-1).sum())
    assert 3 < areas[16] / areas[8] < 5
    assert 3.5 < areas[32] / areas[16] < 4.5


def test_an_object_without_anchors_is_crossed_out() -> None:
    given = scene(BOXES)
    shares = [assigners.Share(9, (), {}, None), assigners.Share(None, (60,), {}, 1.0)]
    drawn = np.asarray(panels.panel(given, shares, 2))
    assert tuple(drawn[2 * 32, 2 * 48]) == panels.WITHOUT, "the middle of the cross"
    assert not (drawn == color(0)).all(-1).any()


def test_costs_are_the_operators_and_the_taken_are_the_cheapest() -> None:
    given = scene(BOXES)
    targets = given.targets
    truth = targets.boxes, targets.labels, targets.counts
    cost, _ = simota_cost(given.cls_logits, None, given.boxes, *truth, *given.points, fmt="xyxy")
    found = heat.costs(given, 1, "main")
    assert 0 < len(found.anchors) <= 27
    np.testing.assert_array_equal(found.values, cost[0, 1].double().numpy()[found.anchors])
    assert (np.delete(cost[0, 1].numpy(), found.anchors) >= heat.PENALTY).all()
    share = assigners.shares("simota", given, assigners.run("simota", given))[1]
    assert share.asked == len(share.anchors)
    assert set(found.anchors[np.argsort(found.values)[: share.asked]].tolist()) == set(share.anchors)


@pytest.mark.parametrize("rule", heat.RULES)
def test_candidates_explain_k_and_the_choice(rule: str) -> None:
    given = scene(BOXES)
    for number, share in enumerate(assigners.shares(rule, given, assigners.run(rule, given))):
        found = heat.candidates(given, number, heat.RULES[rule], share.anchors)
        assert found.k == share.asked
        assert [row.taken for row in found.rows[: found.k]] == [True] * found.k
        assert [row.cost for row in found.rows] == sorted(row.cost for row in found.rows)
        for row in found.rows:
            other = given.cls_logits[0, :, 1].sigmoid()
            at = (
                (given.points.centers == torch.tensor([row.x, row.y])).all(1) & (given.points.strides == row.stride)
            ).nonzero()
            expected = -np.log(row.probability) - np.log(1 - float(other[at])) - 3 * np.log(row.iou + 1e-8)
            assert row.cost == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_cost_panels_say_candidates_and_taken() -> None:
    given = scene(BOXES)
    taken = assigners.shares("simota", given, assigners.run("simota", given))[0].anchors
    drawn = heat.panels(given, 0, taken, "main", 300)
    assert [title.split(":")[0] for title, _ in drawn] == ["stride 8", "stride 16", "stride 32"]
    assert sum(int(title.split()[-2]) for title, _ in drawn) == len(taken)
    assert sum(int(title.split()[2]) for title, _ in drawn) == len(heat.costs(given, 0, "main").anchors)
    cheapest = any((np.asarray(each) == heat.shade(0)).all(-1).sum() > 20 for _, each in drawn)
    assert cheapest
    assert heat.shade(0) != heat.shade(0.5) != heat.shade(1) == heat.shade(7)


def test_an_object_without_candidates_has_empty_panels() -> None:
    """Its centre is too far outside the picture."""
    given = scene([[-300, -300, 20, 20], [10, 10, 80, 80]])
    assert len(heat.costs(given, 0, "main").anchors) == 0
    assert all(" 0 candidates, 0 taken" in title for title, _ in heat.panels(given, 0, (), "main", 200))


@pytest.mark.parametrize("names", [["tal"], ["fcos", "simota"], ["fcos", "simota", "simota-v030", "ota", "tal"]])
def test_the_sheet_is_a_png(names: list[str], tmp_path: Path) -> None:
    given = scene(BOXES)
    shares = {name: assigners.shares(name, given, assigners.run(name, given)) for name in names}
    number = 1 if "simota" in names else None
    whole = sheet.sheet(given, shares, notes=["Überall gemessen"], number=number)
    without_costs = sheet.sheet(given, shares)
    assert (whole.height > without_costs.height + 200) == (number is not None)
    sheet.save(whole, tmp_path / "sheet.png")
    read = Image.open(tmp_path / "sheet.png")
    assert (read.format, read.size) == ("PNG", whole.size)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_a_thicket_has_a_legend_that_ends() -> None:
    given = scene([[8 + i % 8, 8, 80, 80 - i % 9] for i in range(200)])
    shares = {"simota": assigners.shares("simota", given, assigners.run("simota", given))}
    assert sheet.sheet(given, shares).height < 900
