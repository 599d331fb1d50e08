"""``letterbox``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.letterbox import cases

CASES = cases("n", 640)


def bench_letterbox(contest):
    contest()
