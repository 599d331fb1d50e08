"""``nms``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.nms import cases

CASES = cases("n", 640)


def bench_nms(contest):
    contest()
