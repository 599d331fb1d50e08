"""The optimizer, its learning rate, and the averaged weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel

from leyolo.train.settings import Settings


def make_optimizer(network: nn.Module, settings: Settings) -> Optimizer:
    """AdamW or Nesterov SGD over the trainable parameters; weight decay on matrices and kernels only."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return SGD(groups, settings.base_lr, settings.momentum, nesterov=settings.momentum > 0, fused=True)
    return AdamW(groups, settings.base_lr, (settings.momentum, 0.999), fused=True)


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """The rate of optimizer step ``step`` (from 0) of ``steps``: up a line during the warm-up, then down the schedule.

    The warm-up is a share of the run, so that a short run too reaches the rate that the user gave.
    """
    rising = round(settings.warmup * steps)
    if step < rising:
        return settings.base_lr * (step + 1) / (rising + 1)
    done = (step - rising) / max(1, steps - rising)
    left = (1 + math.cos(math.pi * done)) / 2 if settings.schedule == "cosine" else 1 - done
    return settings.base_lr * (settings.lr_final + (1 - settings.lr_final) * left)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def ema_decay(most: float, updates: int, steps: int) -> float:
    """The decay of update number ``updates`` (from 1) in a run of ``steps``.

    It ramps, so that the first average is not the first weights, and never averages over more than a tenth of the run:
    a decay made for half a million steps would leave a run of a hundred with its beginning.
    """
    return min(most, (1 + updates) / (10 + updates), max(0.0, 1 - 10 / steps))


def averaged(network: nn.Module, decay: float, steps: int) -> AveragedModel:
    """The exponential moving average of ``network``, running statistics included."""

    def average(mine: Sequence[Tensor], new: Sequence[Tensor], _: Tensor | int) -> None:
        updates = int(model.n_averaged)  # on the CPU; torch passes a copy on the GPU, which would have to be waited for
        torch._foreach_lerp_(list(mine), list(new), 1 - ema_decay(decay, updates, steps))

    model = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    return model
