"""``simota``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.simota import cases

CASES = cases("n", 640)


def bench_simota(contest):
    contest()
