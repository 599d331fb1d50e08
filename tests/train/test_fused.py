"""The network in training mode on leyolo's operators against plain torch."""

from __future__ import annotations

import copy

import pytest
import torch

from leyolo.data.batch import Targets
from leyolo.models.network import build
from leyolo.nn import ConvBNAct
from leyolo.train.assign import anchors
from leyolo.train.losses import leyolo_loss, yolox_loss


def _targets() -> Targets:
    boxes = torch.tensor([[[4.0, 4, 40, 50], [30, 20, 90, 80]], [[10, 60, 80, 90], [0, 0, 0, 0]]])
    return Targets(boxes, torch.tensor([[0, 1], [2, 0]]), torch.tensor([2, 1]), torch.arange(2))


@pytest.mark.parametrize("head", ["leyolo", "yolox"])
def test_same_losses_gradients_and_statistics(head: str) -> None:
    """In float64, where a wrong formula cannot hide behind rounding."""
    plain = build("n", 3, head).double().train()
    fused = copy.deepcopy(plain).fuse_training_ops()
    x = torch.rand(2, 3, 96, 96, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    loss = leyolo_loss if head == "leyolo" else yolox_loss
    losses = [loss(network(x), _targets(), anchors(96, 96, (8, 16, 32))) for network in (plain, fused)]
    assert losses[0].parts.tolist() == pytest.approx(losses[1].parts.tolist(), rel=1e-9)
    for each in losses:
        each.total.backward()
    for (name, one), (_, two) in zip(plain.named_parameters(), fused.named_parameters(), strict=True):
        if name.endswith("conv.bias") and ".3.conv" not in name and ".2.conv" not in name:
            continue  # before a batch norm: zero but for rounding
        assert one.grad is not None, name
        assert two.grad is not None, name
        assert torch.allclose(one.grad, two.grad, rtol=1e-6, atol=1e-9 * float(one.grad.abs().max() + 1)), name
    for (name, one), (_, two) in zip(plain.named_buffers(), fused.named_buffers(), strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=1e-12), name


def test_float32_agrees_within_rounding() -> None:
    plain = build("n", 3).train()
    fused = copy.deepcopy(plain).fuse_training_ops()
    x = torch.rand(2, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    losses = [leyolo_loss(n(x), _targets(), anchors(96, 96, (8, 16, 32))).parts for n in (plain, fused)]
    assert torch.allclose(*losses, rtol=1e-4)


def test_channels_last_is_kept_and_the_switch_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    block = ConvBNAct(8, 8, 3, 2, groups=8).to(memory_format=torch.channels_last)
    block.fused_training = True
    x = torch.rand(2, 8, 17, 11).contiguous(memory_format=torch.channels_last)
    y = block(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert y.shape == (2, 8, 9, 6)
    called: list[str] = []
    monkeypatch.setattr(block, "_fused", lambda *_: called.append("fused"))
    block(x)
    block.eval()
    block(x)
    block.train()
    block.fused_training = False
    block(x)
    assert called == ["fused"]


def test_a_frozen_norm_stays_frozen() -> None:
    plain = ConvBNAct(8, 8, 3, groups=8).train()
    plain.bn.eval()
    fused = copy.deepcopy(plain)
    fused.fused_training = True
    x = torch.rand(2, 8, 9, 9) + 3
    assert torch.equal(plain(x), fused(x))
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), fused.buffers(), strict=True))


def test_mixed_precision() -> None:
    """Under autocast the fused network stays in bfloat16 between its layers, and learns as the plain one does."""
    plain = build("n", 3).train()
    fused = copy.deepcopy(plain).fuse_training_ops()
    x = torch.rand(2, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [network(x) for network in (plain, fused)]
    assert outputs[1].dtype == torch.bfloat16
    losses = [leyolo_loss(y, _targets(), anchors(96, 96, (8, 16, 32))) for y in outputs]
    assert torch.allclose(losses[0].parts, losses[1].parts, rtol=0.1)
    losses[1].total.backward()
    assert all(torch.isfinite(p.grad).all() for p in fused.parameters() if p.grad is not None)
