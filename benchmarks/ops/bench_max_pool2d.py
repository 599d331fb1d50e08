"""``max_pool2d``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.max_pool2d import cases

CASES = cases("n", 640)


def bench_max_pool2d(contest):
    contest()
