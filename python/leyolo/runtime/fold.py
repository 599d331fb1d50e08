"""BatchNorm folded into the convolution before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BN_EPSILON = 1e-3

Weights = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def fold(state: Mapping[str, NDArray[Any]]) -> Weights:
    """Weight and bias of every convolution, by the name of its block.

    The one rule: ``X.conv.weight`` with a sibling ``X.bn.weight`` is scaled and shifted by it (in float64); without one
    it stays as it is.

    Args:
        state: a state dict in leyolo's own names, any float dtype.

    Returns:
        ``{"X": (weight float32 [O, C, k, k], bias float32 [O])}``
    """
    folded: Weights = {}
    for key in state:
        if not key.endswith(".conv.weight"):
            continue
        name = key.removesuffix(".conv.weight")
        weight = state[key].astype(np.float64)
        bias = state[name + ".conv.bias"].astype(np.float64) if name + ".conv.bias" in state else np.zeros(len(weight))
        if name + ".bn.weight" in state:
            gamma, beta, mean, variance = (
                state[f"{name}.bn.{part}"].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gamma / np.sqrt(variance + BN_EPSILON)
            weight = weight * scale[:, None, None, None]
            bias = beta + (bias - mean) * scale
        folded[name] = weight.astype(np.float32), bias.astype(np.float32)
    return folded
