"""From the head's outputs to candidates: few objects on a background far below."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from case import Case, main
from leyolo import geometry
from leyolo.ops import detect_decode, yolox_decode
from leyolo.ops.detect_decode import detect_decode_reference, yolox_decode_reference

REG_MAX, STRIDES = 16, (8, 16, 32)


def cases(device: str, tiny: bool) -> Iterator[Case]:
    batches = (2,) if tiny else (1, 8, 64)
    size = 64 if tiny else 640
    for batch in batches:
        for dtype in (torch.float16, torch.float32):
            yield _dfl(device, size, batch, dtype, 80, 0.25, False)
        yield _dfl(device, size, batch, torch.float16, 80, 0.001, True)
        yield _dfl(device, size, batch, torch.float16, 20, 0.25, False)
        yield _yolox(device, size, batch)


def _scene(device: str, size: int, batch: int, channels: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """One anchor of a hundred sees an object."""
    g = torch.Generator().manual_seed(0)
    centers, strides = (torch.from_numpy(x) for x in geometry.anchor_points(size, size, STRIDES))
    logits = torch.randn(batch, len(strides), channels + classes, generator=g)
    logits[..., channels:] = 1.2 * logits[..., channels:] - 11
    objects = torch.rand(batch, len(strides), generator=g) < 0.01
    logits[..., channels] += 11 * objects
    return logits.to(device), centers.to(device), strides.to(device)


def _case(name: str, ours: Any, plain: Any, arrays: tuple[Tensor, ...], **options: Any) -> Case:
    return Case(
        "detect_decode",
        name,
        lambda: ours(*arrays, **options),
        lambda: plain(*arrays, **options),
        arrays[0].numel() * arrays[0].element_size(),
        # float16 logits are compared as they are: the same candidates, boxes of up to 640 pixels
        tolerance=1e-3,
    )


def _dfl(
    device: str, size: int, batch: int, dtype: torch.dtype, classes: int, threshold: float, multi_label: bool
) -> Case:
    logits, centers, strides = _scene(device, size, batch, 4 * REG_MAX, classes)
    name = f"dfl, {str(dtype)[6:]}, {batch} x {len(strides)}, {classes} classes, above {threshold}"
    return _case(
        name + (", many labels" if multi_label else ""),
        detect_decode,
        detect_decode_reference,
        (logits.to(dtype), centers, strides),
        reg_max=REG_MAX,
        score_threshold=threshold,
        multi_label=multi_label,
    )


def _yolox(device: str, size: int, batch: int) -> Case:
    logits, centers, strides = _scene(device, size, batch, 5, 80)
    logits[..., 2:4] *= 0.1
    logits[..., 4] = logits[..., 5] + 1
    return _case(
        f"yolox, float16, {batch} x {len(strides)}",
        yolox_decode,
        yolox_decode_reference,
        (logits.half(), centers, strides),
        score_threshold=0.25,
    )


if __name__ == "__main__":
    main(cases)
