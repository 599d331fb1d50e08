"""Pictures that are already in memory: numpy arrays, PIL images, torch tensors (recognised without importing torch)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leyolo.errors import InputError
from leyolo.predict.images import Pixels, pil_to_rgb

_LAYOUT = "expected RGB [H, W, 3] (or grey [H, W], RGBA [H, W, 4], or a batch [B, H, W, 3])"


def is_tensor(value: object) -> bool:
    """Whether this is a torch tensor. If torch was never imported, nothing can be one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_pil(value: object) -> bool:
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def pixels_of(value: Any, *, bgr: bool = False) -> Iterator[Pixels]:
    """The pictures of an array, tensor or PIL image, each ``uint8 [H, W, 3]`` RGB.

    * numpy: channels last, ``uint8`` 0..255 or float 0..1; ``bgr`` says that its channels come in OpenCV's order.
    * torch: channels first ``[3, H, W]``/``[B, 3, H, W]`` or last, ``uint8`` 0..255 or float 0..1, any device.
    """
    if is_pil(value):
        yield pil_to_rgb(value)
        return
    if is_tensor(value):
        array = _channels_last(_numpy_of(value))
    else:
        array = np.asarray(value)
        if array.ndim in (3, 4) and array.shape[-1] not in (1, 3, 4) and array.shape[-3] in (1, 3):
            raise InputError(f"array of shape {array.shape} looks channels-first; {_LAYOUT}")
    if array.ndim not in (2, 3, 4) or (array.ndim > 2 and array.shape[-1] not in (1, 3, 4)) or 0 in array.shape[-3:]:
        raise InputError(f"array of shape {array.shape}: {_LAYOUT}")
    for image in array if array.ndim == 4 else (array,):
        yield _rgb(_to_uint8(image), bgr)


def _numpy_of(tensor: Any) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array: NDArray[Any] = tensor.numpy()
    return array


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    """Channels first is torch's habit, so it wins where both are possible (three rows of three columns)."""
    if array.ndim not in (3, 4):
        return array
    first = array.shape[-3] in (1, 3) or (array.shape[-3] == 4 and array.shape[-1] not in (1, 3, 4))
    return np.moveaxis(array, -3, -1) if first else array


def _to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return np.where(image, np.uint8(255), np.uint8(0))
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    if image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise InputError(f"float images must be within 0..1, got {low:g}..{high:g} (uint8 images are 0..255)")
        scaled: NDArray[np.uint8] = np.rint(image * 255).astype(np.uint8)
        return scaled
    raise InputError(f"images must be uint8 0..255 or float 0..1, got dtype {image.dtype}")


def _rgb(image: NDArray[np.uint8], bgr: bool) -> Pixels:
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[-1] == 1:
        image = np.broadcast_to(image, (*image.shape[:2], 3))
    image = image[..., :3]
    return np.ascontiguousarray(image[..., ::-1] if bgr else image)
