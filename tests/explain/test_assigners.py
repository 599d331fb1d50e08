"""What is counted of an assignment, against the operators."""

from __future__ import annotations

import pytest
import torch
from scenes import scene

from leyolo.errors import UsageError
from leyolo.explain import assigners
from leyolo.explain.summary import Summary
from leyolo.ops import Assignment, ota_assign, simota_assign, tal_assign

BOXES = [[10, 10, 50, 60], [30, 20, 90, 90], [34, 24, 88, 86]]


@pytest.mark.parametrize("name", assigners.TITLES)
def test_shares_are_the_operators_counts(name: str) -> None:
    given = scene(BOXES)
    found = assigners.run(name, given)
    shares = assigners.shares(name, given, found)
    assert sum(len(share.anchors) for share in shares) == int(found.num_fg[0])
    for number, share in enumerate(shares):
        mine = (found.gt_index[0] == number).nonzero()[:, 0]
        assert share.anchors == tuple(mine.tolist())
        assert sum(share.levels.values()) == len(mine)
        for stride, count in share.levels.items():
            assert count == int((given.points.strides[mine] == stride).sum())
        assert (share.asked is not None) == (name in assigners.ASKING)
        if share.asked is None:
            assert int(found.dynamic_k[0, number]) == len(mine)
        else:
            assert share.asked == int(found.dynamic_k[0, number])
        if len(mine) and name != "fcos":  # FCOS looks at no prediction, its iou is 1
            assert share.iou == pytest.approx(float(found.iou[0, mine].mean()), abs=1e-5)


def test_they_run_as_in_training() -> None:
    given = scene(BOXES)
    truth = given.targets.boxes, given.targets.labels, given.targets.counts
    logits, boxes, points = given.cls_logits, given.boxes, given.points
    expected = {
        "simota": simota_assign(logits, None, boxes, *truth, *points, fmt="xyxy"),
        "simota-v030": simota_assign(logits, None, boxes, *truth, *points, rule="v030", fmt="xyxy"),
        "ota": ota_assign(logits, None, boxes, *truth, *points, fmt="xyxy"),
        "tal": tal_assign(logits.sigmoid(), boxes, *truth, points.centers),
    }
    for name, assignment in expected.items():
        assert torch.equal(assigners.run(name, given).gt_index, assignment.gt_index), name


def test_fcos_takes_the_level_by_size() -> None:
    """Sides up to 64 pixels from a centre learn at stride 8, up to 128 at 16, beyond that at 32."""
    for half, stride in ((40, 8), (90, 16), (180, 32)):
        given = scene([[192 - half, 192 - half, 192 + half, 192 + half]], side=384)
        (share,) = assigners.shares("fcos", given, assigners.run("fcos", given))
        assert {s for s, count in share.levels.items() if count} == {stride}
        assert 1 <= len(share.anchors) <= 9


def test_an_object_in_the_others_shadow_gets_nothing() -> None:
    """The same box and class twice: equal costs, so every anchor goes to the first."""
    given = scene([BOXES[0], BOXES[0]])
    first, second = assigners.shares("simota", given, assigners.run("simota", given))
    assert len(first.anchors) == first.asked == second.asked
    assert (second.anchors, second.iou, set(second.levels.values())) == ((), None, {0})
    summary = Summary(("simota", "ota"))
    summary.add(given)
    row = summary.rows()[0]
    assert (row["asked"], row["anchors"]) == (2 * (first.asked or 0), first.asked)
    assert (row["objects_without"], row["small_objects_without"]) == (1, 0)
    assert row["mean_iou"] == pytest.approx(first.iou)


def test_agreement() -> None:
    def owned(*owners: int) -> Assignment:
        nothing = torch.zeros(1, len(owners))
        return Assignment(torch.tensor([owners]), nothing, nothing, nothing, nothing)

    assert assigners.agreement(owned(0, 0, 1, -1), owned(0, 1, 1, -1)) == (2, 3)
    assert assigners.agreement(owned(0, -1), owned(-1, 0)) == (0, 2)
    assert assigners.agreement(owned(-1, -1), owned(-1, -1)) == (0, 0)


def test_summary_counts_small_objects_in_the_input() -> None:
    summary = Summary(("simota", "tal"))
    summary.add(scene([[10, 10, 20, 20], [20, 20, 90, 90]], perfect=False))
    summary.add(scene([BOXES[0]]))
    assert (summary.pictures, summary.objects, summary.small) == (2, 3, 1)
    assert list(summary.pairs) == [("simota", "tal")]
    assert len(summary.totals["tal"].seconds) == 2
    assert 0 <= summary.to_dict()["agreement"]["simota/tal"] <= 1


def test_which_assigners() -> None:
    assert assigners.chosen(None, "leyolo") == ["fcos", "simota", "ota", "tal"]
    assert assigners.chosen(None, "yolox") == ["fcos", "simota", "ota"]
    assert assigners.chosen(" OTA,simota,ota", "yolox") == ["ota", "simota"]
    for wrong in ("simta", ",", "atss"):
        with pytest.raises(UsageError, match="must list some of fcos, simota"):
            assigners.chosen(wrong, "leyolo")
    with pytest.raises(UsageError, match="with the yolox head"):
        assigners.chosen("tal", "yolox")
