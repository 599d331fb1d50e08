"""The network of leyolo-n: ours beside torch at its best layout; ``leyolo benchmark model`` has the other runtimes."""

import numpy as np
import pytest
import torch

from leyolo.bench.ops.modules import folded, network
from leyolo.models.transfer import from_torch
from leyolo.runtime import Engine


@pytest.mark.parametrize("runtime", ["leyolo", "torch channels_last folded"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("imgsz", [320, 640])
def bench_model(benchmark, runtime, batch, imgsz):
    x = np.random.default_rng(0).random((batch, imgsz, imgsz, 3), dtype=np.float32)
    net = network("n")
    if runtime == "leyolo":
        run = Engine(from_torch(net))
    else:
        module, x = folded(net).to(memory_format=torch.channels_last), torch.from_numpy(x).permute(0, 3, 1, 2)

        def run(x):
            return module(x)

    benchmark.group = f"leyolo-n, {imgsz}, batch {batch}"
    benchmark(run, x)
