"""``depthwise_conv2d``: its cases and contestants are those of ``leyolo benchmark ops``."""

from leyolo.bench.ops.depthwise_conv2d import cases

CASES = cases("n", 640)


def bench_depthwise_conv2d(contest):
    contest()
