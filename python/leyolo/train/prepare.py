"""The network at the start of a run: kept weights, a class layer for the new classes, what is frozen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from leyolo.models.network import LeYOLONet, build
from leyolo.models.transfer import to_torch
from leyolo.nn import BatchNorm, ConvBNAct
from leyolo.weights import Checkpoint


def from_checkpoint(checkpoint: Checkpoint, names: Sequence[str], head: str, imgsz: int) -> LeYOLONet:
    """The checkpoint's network for the classes ``names``; every tensor but the last class layer keeps its weights.

    That layer keeps the rows of classes that both know by name. A class that is new starts from the mean of all rows,
    which says "some object", and its bias from the prior of :func:`class_prior`. Another head is fresh as a whole.
    """
    if head != checkpoint.head:
        network = from_scratch(checkpoint.size, len(names), head, imgsz)
        network.layers.load_state_dict(to_torch(checkpoint).layers.state_dict())
        return network
    old = to_torch(checkpoint)
    if list(checkpoint.names.values()) == list(names):
        return old
    network = to_torch(checkpoint, len(names))
    rows = _common_rows(checkpoint.names, names)
    with torch.no_grad():
        pairs = zip(_class_layers(old), _class_layers(network), network.config.strides, strict=True)
        for before, after, stride in pairs:
            assert before.bias is not None
            assert after.bias is not None
            after.weight.copy_(before.weight.mean(0, keepdim=True).expand_as(after.weight))
            after.bias.fill_(class_prior(head, len(names), imgsz, stride))
            for new, known in rows.items():
                after.weight[new] = before.weight[known]
                after.bias[new] = before.bias[known]
    return network


def from_scratch(size: str, num_classes: int, head: str, imgsz: int) -> LeYOLONet:
    """A fresh network whose class scores start at the prior of this input size."""
    network = build(size, num_classes, head)
    with torch.no_grad():
        for layer, stride in zip(_class_layers(network), network.config.strides, strict=True):
            assert layer.bias is not None
            layer.bias.fill_(class_prior(head, num_classes, imgsz, stride))
    return network


def class_prior(head: str, num_classes: int, imgsz: int, stride: int) -> float:
    """The logit that a class starts at: five objects a picture, of any class, on the cells of the level; for the yolox
    head, which has objectness besides, a probability of 0.01."""
    if head == "yolox":
        return -math.log(99.0)
    return math.log(5 / num_classes / (imgsz / stride) ** 2)


def _common_rows(old: Mapping[int, str], new: Sequence[str]) -> dict[int, int]:
    """New class index -> old class index, by name without regard to case."""
    index = {name.lower(): number for number, name in old.items()}
    return {number: index[name.lower()] for number, name in enumerate(new) if name.lower() in index}


def _class_layers(network: LeYOLONet) -> list[nn.Conv2d]:
    """The last convolution of the class branch of every level."""
    branches = network.get_submodule("head.cls").children()
    return [list(branch.children())[-1].get_submodule("conv") for branch in branches]  # type: ignore[misc]


def freeze(network: LeYOLONet, layers: int) -> None:
    """Takes the gradient from what does not learn: the first ``layers`` layers, those that nothing reads (medium and
    large have four), and biases in front of a batch norm, which subtracts them again."""
    for module in network.modules():
        if isinstance(module, ConvBNAct) and module.bn is not None and module.conv.bias is not None:
            module.conv.bias.requires_grad_(False)
    for index, layer in enumerate(network.layers):
        if index < layers or index in network.config.unused:
            layer.requires_grad_(False)


def training_mode(network: LeYOLONet, layers: int) -> None:
    """Training mode, but the batch norms of the first ``layers`` layers keep their statistics."""
    network.train()
    for layer in list(network.layers)[:layers]:
        layer.eval()


def fit_statistics(network: nn.Module, steps: int) -> None:
    """Lets running statistics average over a tenth of the run at most, as the averaged weights do: LeYOLO's momentum of
    0.03 is made for long ones."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.momentum = min(1.0, max(BatchNorm.MOMENTUM, 10 / steps))
