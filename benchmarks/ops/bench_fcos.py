"""``fcos``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.fcos import cases

CASES = cases("n", 640)


def bench_fcos(contest):
    contest()
