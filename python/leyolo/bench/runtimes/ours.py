"""leyolo: its engine on numpy, and the same kernels as one torch operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leyolo import __version__
from leyolo.bench.runtimes.base import Array, Job, Network, NotHereError, Precision

if TYPE_CHECKING:
    from leyolo.runtime import Engine


def engine(job: Job, dtype: Precision = "float32") -> Network:
    return Network(prepared(job, dtype), "NHWC", __version__)


def prepared(job: Job, dtype: Precision) -> Engine:
    """The engine, on the job's threads."""
    from leyolo import _C
    from leyolo.runtime import Engine

    if dtype == "bfloat16" and not _C.cpu_features()["bf16_dot"]:
        raise NotHereError("this CPU has no dot product for bfloat16")
    _C.set_num_threads(job.threads)
    return Engine(job.checkpoint, dtype=dtype)


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
