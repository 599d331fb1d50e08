"""Between :class:`Checkpoint` (numpy, on disk) and :class:`LeYOLONet` (torch)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from leyolo.models.network import LeYOLONet, build
from leyolo.weights.checkpoint import Checkpoint, WeightsError, check


def to_torch(checkpoint: Checkpoint, num_classes: int | None = None) -> LeYOLONet:
    """A network with the weights of ``checkpoint``, float32, in training mode as torch builds it.

    With another ``num_classes`` than the checkpoint's, every tensor keeps its weights but the last convolution of the
    class branch, which is fresh: hidden widths stay those of the checkpoint.
    """
    classes = checkpoint.num_classes if num_classes is None else num_classes
    network = build(checkpoint.size, classes, checkpoint.head, head_width=checkpoint.head_width)
    state = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in checkpoint.state.items()}
    if classes != checkpoint.num_classes:
        fresh = network.state_dict()
        last = "2" if checkpoint.head == "yolox" else "3"
        for level in range(len(checkpoint.strides)):
            for leaf in ("weight", "bias"):
                name = f"head.cls.{level}.{last}.conv.{leaf}"
                state[name] = fresh[name]
    network.load_state_dict(state)
    return network


def from_torch(
    network: LeYOLONet, names: Mapping[int, str] | None = None, metadata: Mapping[str, str] | None = None
) -> Checkpoint:
    """The checkpoint of an unfolded network. float16 stays float16, every other type becomes float32."""
    state: dict[str, np.ndarray] = {}
    for name, value in network.state_dict().items():
        array = value.detach().to("cpu", torch.float16 if value.dtype == torch.float16 else torch.float32).numpy()
        state[name] = np.array(array, order="C")
    if names is None:
        names = {index: f"class{index}" for index in range(network.num_classes)}
    if not any(name.endswith(".bn.weight") for name in state):
        raise WeightsError("a folded network cannot be stored: its batch norms are gone")
    return check(
        Checkpoint(
            size=network.config.size,
            num_classes=network.num_classes,
            names=dict(names),
            head=network.head_name,
            strides=network.config.strides,
            state=state,
            metadata=dict(metadata or {}),
        )
    )
