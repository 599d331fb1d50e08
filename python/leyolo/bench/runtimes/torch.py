"""PyTorch, and the network as the other runtimes get it from there."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from leyolo.bench.runtimes.base import Array, Job, Network


def maps_network(job: Job, *, folded: bool = True) -> Any:
    """The torch network in default layout, for inference, that ends with box map and class map of every level:
    anything after those would be charged to the runtimes, and ours needs none of it."""
    import torch

    from leyolo.models.transfer import to_torch

    class Levels(torch.nn.Module):
        def __init__(self, head: Any) -> None:
            super().__init__()
            self.head = head

        def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            return tuple(each for level in self.head.levels(maps) for each in level)

    network = to_torch(job.checkpoint).eval().requires_grad_(False)
    if folded:
        network.fold()
    network.head = Levels(network.head)
    return network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def example(job: Job) -> Any:
    """An input [B, 3, H, W] for converters that run the network."""
    import torch

    batch, height, width, _ = job.shape
    return torch.from_numpy(np.zeros((batch, 3, height, width), np.float32))


def eager(job: Job, *, channels_last: bool = False, folded: bool = False) -> Network:
    """One operator after the other."""
    import torch

    torch.set_num_threads(job.threads)
    network = maps_network(job, folded=folded)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)

    def forward(x: Array) -> list[Array]:
        tensor = torch.from_numpy(x)
        with torch.inference_mode():
            return [each.numpy() for each in network(tensor.permute(0, 3, 1, 2) if channels_last else tensor)]

    return Network(forward, "NHWC" if channels_last else "NCHW", torch.__version__)


def compiled(job: Job) -> Network:
    """torch.compile in its fastest form: folded, channels_last, weights packed for oneDNN ("freezing")."""
    import torch

    torch.set_num_threads(job.threads)
    inductor: Any = importlib.import_module("torch._inductor.config")
    inductor.freezing = True
    network: Any = torch.compile(maps_network(job).to(memory_format=torch.channels_last), fullgraph=True)

    def forward(x: Array) -> list[Array]:
        with torch.no_grad():  # in inference mode torch.compile does not freeze
            return [each.numpy() for each in network(torch.from_numpy(x).permute(0, 3, 1, 2))]

    return Network(forward, "NHWC", torch.__version__)
