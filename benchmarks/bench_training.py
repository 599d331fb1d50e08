"""A training step of nano (forward, loss, backward, optimizer) at 16 pictures of 320 x 320: with leyolo's operators and
in plain torch, in both memory formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from leyolo.data.batch import Targets
from leyolo.models.network import build
from leyolo.train.assign import anchors
from leyolo.train.losses import leyolo_loss
from leyolo.train.memory import keep_blocks
from leyolo.train.optimizer import make_optimizer
from leyolo.train.prepare import freeze
from leyolo.train.settings import make

BATCH, SIDE, OBJECTS = 16, 320, 12


def _targets() -> Targets:
    low = torch.rand(BATCH, OBJECTS, 2) * (SIDE - 70)
    boxes = torch.cat([low, low + 10 + torch.rand(BATCH, OBJECTS, 2) * 60], 2)
    labels = torch.randint(0, 3, (BATCH, OBJECTS))
    return Targets(boxes, labels, torch.full((BATCH,), OBJECTS), torch.arange(BATCH))


def _step(kind: str) -> Callable[[], None]:
    keep_blocks()  # as a run does; plain torch gains as much
    torch.manual_seed(0)
    network = build("n", 3).train().fuse_training_ops(kind.startswith("leyolo"))
    memory_format = torch.contiguous_format if kind.endswith("NCHW") else torch.channels_last
    network.to(memory_format=memory_format)
    freeze(network, 0)
    optimizer = make_optimizer(network, make({"data": ""}))
    x = torch.rand(BATCH, 3, SIDE, SIDE).contiguous(memory_format=memory_format)
    targets, points = _targets(), anchors(SIDE, SIDE, network.config.strides)

    @torch.enable_grad()
    def step() -> None:
        leyolo_loss(network(x), targets, points).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@pytest.mark.parametrize("kind", ["leyolo channels_last", "leyolo NCHW", "torch channels_last", "torch NCHW"])
def bench_training_step(benchmark: Any, kind: str) -> None:
    benchmark.group = f"training step n {SIDE} x{BATCH}"
    benchmark.pedantic(_step(kind), rounds=5, warmup_rounds=2)
    benchmark.extra_info["pictures a second"] = BATCH / benchmark.stats.stats.median
