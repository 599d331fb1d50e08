"""leyolo: its engine on numpy, and the same kernels as one torch operator."""

from __future__ import annotations

from leyolo import __version__
from leyolo.bench.runtimes.base import Array, Job, Network


def engine(job: Job) -> Network:
    from leyolo import _C
    from leyolo.runtime import Engine

    _C.set_num_threads(job.threads)
    return Network(Engine(job.checkpoint), "NHWC", __version__)


def torch_tensors(job: Job) -> Network:
    import torch

    from leyolo.models.fused import FusedNetwork

    torch.set_num_threads(job.threads)
    network = FusedNetwork(job.checkpoint)

    def forward(x: Array) -> Array:
        with torch.inference_mode():
            logits: Array = network(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
            return logits

    return Network(forward, "NHWC", __version__)
