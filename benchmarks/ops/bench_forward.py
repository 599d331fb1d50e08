"""``forward``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.forward import cases

CASES = cases("n", 640)


def bench_forward(contest):
    contest()
