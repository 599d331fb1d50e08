"""``box_iou_loss``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.box_iou_loss import cases

CASES = cases("n", 640)


def bench_box_iou_loss(contest):
    contest()
