"""The whole network, pixels to logits, and pixels to boxes; beside torch.compile: case_model_compiled.py."""

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
from leyolo.runtime.program import BLOCK, CHAIN, WINDOW
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
    values = 0
    for row in network._network.program(size, size).steps.tolist():
        if row[0] in (CHAIN, BLOCK):
            continue
        x, y = row[4] * row[5] * row[6], row[10] * row[11] * row[12]
        values += x * (row[1] != WINDOW) + y * (row[7] != WINDOW) + y * (row[17] >= 0)
    return network._maps.itemsize * images * values + sum(w.numel() * w.element_size() for w in network._weights)


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    weights, on_gpu = checkpoint(), device == "cuda"
    size = 640 if on_gpu else 32
    dtype = torch.float16 if on_gpu else torch.float32
    name = str(dtype).removeprefix("torch.")
    ours = FusedNetwork(weights, name, device=device)
    staged = FusedNetwork(weights, name, device=device, gpu=Gpu(fuse=False) if on_gpu else None)
    eager, folded = (to_torch(weights).eval().to(device, dtype, memory_format=torch.channels_last) for _ in range(2))
    folded.fold()
    largest = float(module(eager, torch.rand(1, 3, size, size, device=device, dtype=dtype))().abs().max())
    for images in (1, 8, 32, 64) if on_gpu else (1, 2):
        x = torch.rand(images, 3, size, size, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        contestants = {
            OURS: module(ours, x),
            "leyolo, a kernel per convolution": module(staged, x),
            "torch eager": module(eager, x),
            "torch eager, BatchNorm folded": module(folded, x),
        }
        yield GpuCase(
            name=f"nano forward {images} x {size}",
            contestants=contestants,
            bytes=arena_bytes(ours, size, images),
            goal_us=GOALS_US[images] if on_gpu else None,
            tolerance=0.03 * largest,  # a few units in the last place of float16 in the largest logits
            headline=images in (1, 64),
        )
    yield _single(weights, device, size, 64 if on_gpu else 1)
    plain = GpuEngine(weights, device, name)
    graphed = GpuEngine(weights, device, name, cuda_graph=True) if on_gpu else None
    settings = Settings(conf=0.25, imgsz=size)

    def hosted(boxes: Callable[[GpuEngine], Any], pixels: np.ndarray) -> dict[str, Any]:
        return {"graph, from and to the host": partial(_boxes, boxes(graphed), pixels, settings)} if graphed else {}

    for images in (1, 64) if on_gpu else (1,):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
        height, width = (720, 1280) if on_gpu else (24, 40)
        pictures = rng.integers(0, 256, (images, height, width, 3), dtype=np.uint8)
        yield GpuCase(
            name=f"nano pixels to boxes {images} x {size}",
            contestants={
                OURS: partial(_stages, plain.stages, torch.from_numpy(pixels).to(device), settings),
                **hosted(lambda engine: engine.boxes, pixels),
            },
            headline=True,
        )
        yield GpuCase(
            name=f"nano pictures to boxes {images} x {height} x {width}",
            contestants={
                OURS: partial(_stages, plain.picture_stages, torch.from_numpy(pictures).to(device), settings),
                **hosted(lambda engine: engine.pictures, pictures),
            },
            headline=True,
        )


def _single(weights: Checkpoint, device: str, size: int, images: int) -> GpuCase:
    """Float32 maps: on tensor cores in TF32, as torch's convolutions by default, and with all bits."""
    tf32, exact = (
        FusedNetwork(weights, name, device=device) for name in ("tf32" if device == "cuda" else None, "float32")
    )
    eager = to_torch(weights).eval().to(device, memory_format=torch.channels_last)
    x = torch.rand(images, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    return GpuCase(
        name=f"nano forward float32 {images} x {size}",
        contestants={
            OURS: module(tf32, x),
            "leyolo, no TF32": module(exact, x),
            "torch eager": module(eager, x),
        },
        bytes=arena_bytes(tf32, size, images),
        tolerance=0.03 * float(module(eager, x)().abs().max()),
        headline=False,
    )


def _stages(stages: Callable[[Tensor, Settings], Tensor], x: Tensor, settings: Settings) -> Tensor:
    with torch.inference_mode():
        return stages(x, settings)


def _boxes(boxes: Callable[..., list[Any]], pixels: np.ndarray, settings: Settings) -> Tensor:
    return torch.tensor([len(found) for found, _, _ in boxes(pixels, settings)])
