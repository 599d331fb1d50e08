"""Scale, pad and normalise images into the network input, in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from leyolo import geometry
from leyolo.ops._library import call, library, register_fake

Letterboxed = tuple[Tensor, float, tuple[int, int]]


def _taps(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Source position below every target position, and the fraction towards the next one (float32, as in OpenCV)."""
    scale = 1.0 / (target / source)
    exact = ((torch.arange(target, dtype=torch.float64, device=device) + 0.5) * scale - 0.5).float()
    low = exact.floor()
    return low.long(), exact - low


def _weights(fraction: Tensor) -> tuple[Tensor, Tensor]:
    return ((1 - fraction) * 2048).round().long(), (fraction * 2048).round().long()


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    """OpenCV's INTER_LINEAR on uint8 [B, H, W, 3], in plain torch, to the bit."""
    rows, columns = image.shape[1:3]
    x = image.long()
    if (rows, columns) == (height, width):
        return image
    if (rows, columns) == (2 * height, 2 * width):
        return ((x[:, ::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, ::2] + x[:, 1::2, 1::2] + 2) >> 2).to(torch.uint8)
    low, fraction = _taps(columns, width, image.device)
    fraction = torch.where((low < 0) | (low >= columns - 1), 0, fraction)
    low = low.clamp(0, columns - 1)
    left, right = (w[:, None] for w in _weights(fraction))
    lines = (x[:, :, low] * left + x[:, :, (low + 1).clamp(max=columns - 1)] * right) >> 4
    low, fraction = _taps(rows, height, image.device)
    upper, lower = (w[:, None, None] for w in _weights(fraction))
    above, below = lines[:, low.clamp(0, rows - 1)], lines[:, (low + 1).clamp(0, rows - 1)]
    return ((((above * upper) >> 16) + ((below * lower) >> 16) + 2) >> 2).to(torch.uint8)


def _batch(image: Tensor) -> Tensor:
    if image.dim() not in (3, 4) or image.shape[-1] != 3 or image.dtype != torch.uint8:
        raise ValueError(
            f"letterbox: image must be uint8 [H, W, 3] or [B, H, W, 3], got {image.dtype} {list(image.shape)}"
        )
    return image if image.dim() == 4 else image[None]


def letterbox_reference(
    image: Tensor,
    size: int | Sequence[int],
    *,
    stride: int = 32,
    rect: bool = False,
    scale_up: bool = True,
    value: int = 114,
    dtype: torch.dtype = torch.float32,
    swap_rb: bool = False,
) -> Letterboxed:
    """The same in plain torch."""
    batch = _batch(image)
    box = geometry.letterbox(batch.shape[1], batch.shape[2], size, stride=stride, rect=rect, scale_up=scale_up)
    pixels = batch.new_full((len(batch), box.height, box.width, 3), value)
    resized = _resize(batch, box.resized_height, box.resized_width)
    bottom, right = box.top + box.resized_height, box.left + box.resized_width
    pixels[:, box.top : bottom, box.left : right] = resized.flip(-1) if swap_rb else resized
    x = pixels if dtype == torch.uint8 else (pixels.float() / 255).to(dtype)
    return x.permute(0, 3, 1, 2), box.scale, (box.left, box.top)


def letterbox(
    image: Tensor,
    size: int | Sequence[int],
    *,
    stride: int = 32,
    rect: bool = False,
    scale_up: bool = True,
    value: int = 114,
    dtype: torch.dtype = torch.float32,
    swap_rb: bool = False,
) -> Letterboxed:
    """Images into the network input: scaled as a whole, padded on both sides, divided by 255.

    Pixels are those of OpenCV's ``resize`` with ``INTER_LINEAR`` on uint8, to the bit.

    Args:
        image: uint8 [H, W, 3] or [B, H, W, 3], on the CPU or on CUDA; the result is there too.
        size: of the network input in pixels, an int or (height, width).
        stride: with ``rect``, each side is padded to the next multiple of it.
        rect: pad only that far, not to ``size``.
        scale_up: whether images that are smaller than ``size`` are enlarged.
        value: of the padding, 0 to 255.
        dtype: of the result: float32, float16 or bfloat16, or uint8 for pixels as they are, not divided.
        swap_rb: exchange the first and the last channel (BGR to RGB).

    Returns:
        x [B, 3, h, w] in channels_last memory with values in 0..1 (uint8: 0..255), the scale (input pixels per image
        pixel) and the padding (left, top) in input pixels; :func:`leyolo.geometry.unletterbox_boxes` leads back.

    Raises:
        ValueError: a shape, dtype or value that does not fit; the text says what was expected and what came.
    """
    batch = _batch(image)
    box = geometry.letterbox(batch.shape[1], batch.shape[2], size, stride=stride, rect=rect, scale_up=scale_up)
    x: Tensor = call(
        library.letterbox,
        (batch.contiguous(),),
        [box.height, box.width],
        [box.resized_height, box.resized_width],
        [box.top, box.left],
        value,
        swap_rb,
        dtype,
    )
    return x, box.scale, (box.left, box.top)


@register_fake("letterbox")
def _(
    image: Tensor,
    size: list[int],
    resized: list[int],
    offset: list[int],
    value: int,
    swap_rb: bool,
    dtype: torch.dtype,
) -> Tensor:
    shape = (image.shape[0], 3, size[0], size[1])
    return torch.empty(shape, dtype=dtype, device=image.device, memory_format=torch.channels_last)
