"""``detect_decode``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.detect_decode import cases

CASES = cases("n", 640)


def bench_detect_decode(contest):
    contest()
