"""uint8 images into the network's input."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from case import OURS, GpuCase
from leyolo.ops import letterbox
from leyolo.ops.letterbox import letterbox_reference


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    if device != "cuda":
        shapes, size = [(2, 48, 36)], 32
    else:
        shapes, size = [(64, 480, 640), (8, 1080, 1920), (1, 1080, 1920), (16, 1280, 1280)], 640
    for shape in shapes:
        for dtype in (torch.float16, torch.float32, torch.uint8):
            yield _case(device, *shape, size, dtype)


def _case(device: str, batch: int, height: int, width: int, size: int, dtype: torch.dtype) -> GpuCase:
    g = torch.Generator().manual_seed(0)
    image = torch.randint(256, (batch, height, width, 3), generator=g, dtype=torch.uint8).to(device)
    return GpuCase(
        name=f"letterbox {batch} x {height} x {width} to {size}, {str(dtype)[6:]}",
        contestants={
            OURS: lambda: letterbox(image, size, dtype=dtype)[0],
            "torch": lambda: letterbox_reference(image, size, dtype=dtype)[0],
        },
        bytes=image.numel() + batch * 3 * size * size * dtype.itemsize,
        tolerance=0,
        headline=batch in (2, 64) and dtype == torch.float16,
    )
