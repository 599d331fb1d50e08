"""The whole network, pixels to logits, and pixels to boxes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from case import OURS, GpuCase
from leyolo.models.fused import FusedNetwork
from leyolo.models.network import build
from leyolo.models.transfer import from_torch, to_torch
from leyolo.predict.gpu import GpuEngine
from leyolo.predict.pipeline import Settings
from leyolo.runtime.cuda import Gpu
from leyolo.weights import Checkpoint, load

GOALS_US = {1: 150.0, 8: 200.0, 32: 600.0, 64: 1150.0}


def checkpoint() -> Checkpoint:
    """The official nano weights where they are at hand, else random ones, which are as fast."""
    official = Path(os.environ.get("WEIGHTS", Path(__file__).parents[3] / "shared" / "weights" / "LeYOLONano.pt"))
    if official.exists():
        return load(official)
    torch.manual_seed(0)
    return from_torch(build("n", 80, "leyolo"))


def module(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(x)
        return logits.float()

    return run


def arena_bytes(network: FusedNetwork, size: int, images: int) -> int:
    """That the steps read and write, each once; weights besides."""
    steps = network._network.program(size, size).steps
    values = 0
    for row in steps:
        if row[0] in (4, 6):
            continue
        values += int(row[4] * row[5] * row[6]) * (row[1] != 3) + int(row[10] * row[11] * row[12]) * (row[7] != 3)
        values += int(row[10] * row[11] * row[12]) * (row[17] >= 0)
    return 2 * images * values + sum(w.numel() * w.element_size() for w in network._weights)


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    weights, on_gpu = checkpoint(), device == "cuda"
    size = 640 if on_gpu else 32
    dtype = torch.float16 if on_gpu else torch.float32
    name = str(dtype).removeprefix("torch.")
    ours = FusedNetwork(weights, name, device=device)
    staged = FusedNetwork(weights, name, device=device, gpu=Gpu(fuse=False) if on_gpu else None)
    eager = to_torch(weights).eval().to(device, dtype).fold().to(memory_format=torch.channels_last)
    compiled: Any = None
    if on_gpu and not quick:
        compiled = torch.compile(eager, mode="max-autotune-no-cudagraphs", dynamic=False)
    largest = float(module(eager, torch.rand(1, 3, size, size, device=device, dtype=dtype))().abs().max())
    for images in (1, 8, 32, 64) if on_gpu else (1, 2):
        x = torch.rand(images, 3, size, size, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        contestants = {
            OURS: module(ours, x),
            "leyolo, a kernel per convolution": module(staged, x),
            "torch eager": module(eager, x),
        }
        if compiled is not None:
            contestants["torch.compile"] = module(compiled, x)
        yield GpuCase(
            name=f"nano forward {images} x {size}",
            contestants=contestants,
            bytes=arena_bytes(ours, size, images),
            goal_us=GOALS_US[images] if on_gpu else None,
            tolerance=0.03 * largest,  # a few units in the last place of float16 in the largest logits
            headline=images in (1, 64),
        )
    settings = Settings(conf=0.25)
    for images in (1, 64) if on_gpu else (1,):
        pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), dtype=np.uint8)
        made = {False: GpuEngine(weights, device, name)}
        if on_gpu:
            made[True] = GpuEngine(weights, device, name, cuda_graph=True)
        on_device = torch.from_numpy(pixels).to(device)
        yield GpuCase(
            name=f"nano pixels to boxes {images} x {size}",
            contestants={
                OURS: partial(_stages, made[False], on_device, settings),
                **({"graph, from and to the host": partial(_boxes, made[True], pixels, settings)} if on_gpu else {}),
            },
            headline=True,
        )


def _stages(engine: GpuEngine, x: Tensor, settings: Settings) -> Tensor:
    with torch.inference_mode():
        return engine.stages(x, settings)


def _boxes(engine: GpuEngine, pixels: np.ndarray, settings: Settings) -> Tensor:
    return torch.tensor([len(boxes) for boxes, _, _ in engine.boxes(pixels, settings)])
