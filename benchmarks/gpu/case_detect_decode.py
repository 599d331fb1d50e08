"""From the head's outputs to candidates: few objects on a background far below."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from case import OURS, GpuCase
from leyolo import geometry
from leyolo.ops import detect_decode, yolox_decode
from leyolo.ops.detect_decode import detect_decode_reference, yolox_decode_reference

REG_MAX, STRIDES = 16, (8, 16, 32)


def cases(device: str, quick: bool) -> Iterator[GpuCase]:
    size = 640 if device == "cuda" else 64
    for batch in (64, 8, 1) if device == "cuda" else (2,):
        yield _dfl(device, size, batch, torch.float16, 80, 0.25, False)
        yield _dfl(device, size, batch, torch.float32, 80, 0.25, False)
        yield _dfl(device, size, batch, torch.float16, 80, 0.001, True)
        yield _dfl(device, size, batch, torch.float16, 20, 0.25, False)
        yield _yolox(device, size, batch)


def _scene(device: str, size: int, batch: int, channels: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """One anchor of a hundred sees an object."""
    g = torch.Generator().manual_seed(0)
    centers, strides = (torch.from_numpy(x) for x in geometry.anchor_points(size, size, STRIDES))
    logits = torch.randn(batch, len(strides), channels + classes, generator=g)
    logits[..., channels:] = 1.2 * logits[..., channels:] - 11
    logits[..., channels] += 11 * (torch.rand(batch, len(strides), generator=g) < 0.01)
    return logits.to(device), centers.to(device), strides.to(device)


def _case(name: str, ours: Any, plain: Any, arrays: tuple[Tensor, ...], classes: int, **options: Any) -> GpuCase:
    logits = arrays[0]
    headline = logits.dtype == torch.float16 and len(logits) in (2, 64) and options.get("score_threshold") == 0.25
    return GpuCase(
        name=name,
        contestants={OURS: partial(ours, *arrays, **options), "torch": partial(plain, *arrays, **options)},
        bytes=logits.shape[0] * logits.shape[1] * classes * logits.element_size(),
        goal_us=60 if headline and len(logits) == 64 and classes == 80 else None,
        tolerance=1e-2,  # pixels
        headline=headline,
    )


def _dfl(
    device: str, size: int, batch: int, dtype: torch.dtype, classes: int, threshold: float, multi_label: bool
) -> GpuCase:
    logits, centers, strides = _scene(device, size, batch, 4 * REG_MAX, classes)
    name = f"detect_decode {str(dtype)[6:]} {batch} x {len(strides)}, {classes} classes above {threshold}"
    return _case(
        name + (", all labels" if multi_label else ""),
        detect_decode,
        detect_decode_reference,
        (logits.to(dtype), centers, strides),
        classes,
        reg_max=REG_MAX,
        score_threshold=threshold,
        multi_label=multi_label,
    )


def _yolox(device: str, size: int, batch: int) -> GpuCase:
    logits, centers, strides = _scene(device, size, batch, 5, 80)
    logits[..., 2:4] *= 0.1
    logits[..., 4] = logits[..., 5] + 1
    return _case(
        f"yolox_decode float16 {batch} x {len(strides)}",
        yolox_decode,
        yolox_decode_reference,
        (logits.half(), centers, strides),
        81,
        score_threshold=0.25,
    )
