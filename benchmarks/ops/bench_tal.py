"""``tal``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.tal import cases

CASES = cases("n", 640)


def bench_tal(contest):
    contest()
