"""``batch_norm_act``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.batch_norm_act import cases

CASES = cases("n", 640)


def bench_batch_norm_act(contest):
    contest()
