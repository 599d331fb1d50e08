"""``box_iou``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.box_iou import cases

CASES = cases("n", 640)


def bench_box_iou(contest):
    contest()
