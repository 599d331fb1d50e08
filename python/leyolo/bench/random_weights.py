"""Weights that mean nothing, for measuring a size without having its weights: speed does not depend on them."""

from __future__ import annotations

import math

import numpy as np

from leyolo.errors import UsageError
from leyolo.models.config import lookup
from leyolo.models.layout import state_shapes
from leyolo.weights import Checkpoint


def random_checkpoint(size: str, num_classes: int = 80) -> Checkpoint:
    """A model of a size ("n", "leyolo-s", …) with the same random weights every time.

    Values keep their magnitude from layer to layer, so that arithmetic meets neither infinities nor denormal numbers.
    UsageError for a size there is not.
    """
    try:
        config = lookup(size)
    except ValueError as error:
        raise UsageError(str(error)) from None
    random = np.random.default_rng(0)
    state = {}
    for name, shape in state_shapes(config, num_classes).items():
        if name.endswith("conv.weight"):
            value = random.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
        else:
            value = np.full(shape, 1.0 if name.endswith(("bn.weight", "running_var")) else 0.0)
        state[name] = value.astype(np.float32)
    names = {index: f"class{index}" for index in range(num_classes)}
    return Checkpoint(size=config.size, num_classes=num_classes, names=names, strides=config.strides, state=state)
