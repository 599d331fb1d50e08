"""``inverted_bottleneck_norm``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.inverted_bottleneck_norm import cases

CASES = cases("n", 640)


def bench_inverted_bottleneck_norm(contest):
    contest()
