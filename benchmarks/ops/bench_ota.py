"""``ota``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.ota import cases

CASES = cases("n", 640)


def bench_ota(contest):
    contest()
