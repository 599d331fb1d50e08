"""Weights in the order of the kernels that read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import leyolo._C as C
from leyolo.runtime.cuda import Gpu, pack_conv2d, pack_depthwise
from leyolo.runtime.dtype import Dtype
from leyolo.runtime.program import CONV2D, SILU, Step

Packed = NDArray[np.float32] | NDArray[np.int32]


def pack(step: Step, weight: NDArray[np.float32], bias: NDArray[np.float32], dtype: Dtype, gpu: Gpu | None) -> Packed:
    """For a convolution or depthwise convolution whose maps have that dtype, on ``gpu`` or, if None, on this CPU."""
    dense = step.kind == CONV2D
    if gpu is not None:
        return (pack_conv2d if dense else pack_depthwise)(weight, bias, dtype)
    if dtype != "bfloat16":
        return (C.conv2d_pack if dense else C.depthwise_pack)(weight, bias)
    if dense and weight.shape[1] < step.x.channels:  # the image: 0..255 and a channel of zeros (UNIT)
        weight = np.pad(weight / np.float32(255), ((0, 0), (0, 1), (0, 0), (0, 0)))
    to_bf16 = C.conv2d_bf16_pack if dense else C.depthwise_bf16_pack
    return to_bf16(weight, bias, activation="silu" if step.activation == SILU else "none")
