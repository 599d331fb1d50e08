"""uint8 images into the network's input."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from case import Case, main
from leyolo.ops import letterbox
from leyolo.ops.letterbox import letterbox_reference


def cases(device: str, tiny: bool) -> Iterator[Case]:
    shapes = [(2, 48, 36)] if tiny else [(1, 1080, 1920), (8, 1080, 1920), (64, 480, 640), (64, 1280, 1280)]
    types = (torch.float16, torch.float32, torch.uint8)
    for shape in shapes:
        for dtype in types:
            yield _case(device, *shape, 32 if tiny else 640, dtype)


def _case(device: str, batch: int, height: int, width: int, size: int, dtype: torch.dtype) -> Case:
    g = torch.Generator().manual_seed(0)
    image = torch.randint(256, (batch, height, width, 3), generator=g, dtype=torch.uint8).to(device)
    return Case(
        "letterbox",
        f"{batch} x {height} x {width} to {size}, {str(dtype)[6:]}",
        lambda: letterbox(image, size, dtype=dtype)[0],
        lambda: letterbox_reference(image, size, dtype=dtype)[0],
        image.numel() + batch * 3 * size * size * dtype.itemsize,
        tolerance=0,
    )


if __name__ == "__main__":
    main(cases)
