"""The network in training mode on leyolo's operators against plain torch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from leyolo.data.batch import Targets
from leyolo.models.network import build
from leyolo.nn import ConvBNAct, InvertedBottleneck
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


def _block(expansion: bool = True) -> InvertedBottleneck:
    torch.manual_seed(1)
    channels = (8, 24, 8) if expansion else (8, 8, 8)
    block = InvertedBottleneck(*channels, 3, expansion=expansion).to(memory_format=torch.channels_last).train()
    for name, parameter in block.named_parameters():
        if ".bn." in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return block


def _fuse(block: InvertedBottleneck) -> InvertedBottleneck:
    block.fused_training = True
    for layer in block.children():
        layer.fused_training = True
    return block


def _compare(plain: torch.nn.Module, fused: torch.nn.Module, x: torch.Tensor, tolerance: float = 2e-4) -> None:
    """Outputs, gradients and running statistics; the gradients of biases before a norm are zero but for rounding."""
    upstream = torch.randn(2, 8, 11, 9, generator=torch.Generator().manual_seed(2)).to(x)
    found = []
    for block in (plain, fused):
        leaf = x.clone().requires_grad_()
        y = block(leaf)
        y.backward(upstream.to(y))
        named = {n: p.grad for n, p in block.named_parameters() if p.requires_grad and not n.endswith("conv.bias")}
        assert all(grad is not None for grad in named.values())
        found.append({"y": y, "x": leaf.grad, **named, **dict(block.named_buffers())})
    assert found[0].keys() == found[1].keys()
    for name, expected in found[0].items():
        error = (found[1][name] - expected).abs().max() / expected.abs().max().clamp(min=1)
        assert error < tolerance, f"{name}: {error:.1e}"


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("expansion", [True, False])
def test_a_block_is_one_operator(expansion: bool, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _block(expansion)
    fused = _fuse(copy.deepcopy(plain))
    called = []
    whole = fused._fused
    monkeypatch.setattr(fused, "_fused", lambda x: called.append(x) or whole(x))
    x = torch.randn(2, 8, 11, 9).contiguous(memory_format=layout)
    _compare(plain, fused, x)
    assert len(called) == 1
    assert fused(x).is_contiguous(memory_format=layout)
    assert len(called) == 2
    fused.eval()(x)
    assert len(called) == 2


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_block_is_one_operator_on_a_gpu(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _block().cuda()
    fused = _fuse(copy.deepcopy(plain))
    called = []
    whole = fused._fused
    monkeypatch.setattr(fused, "_fused", lambda x: called.append(x) or whole(x))
    x = torch.randn(2, 8, 11, 9).contiguous(memory_format=torch.channels_last).cuda().to(dtype)
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with exact, torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        _compare(plain, fused, x, tolerance={torch.float32: 2e-4, torch.float16: 2e-2, torch.bfloat16: 0.15}[dtype])
        assert fused(x).dtype == dtype
    assert len(called) == 2


def _frozen(block: InvertedBottleneck) -> None:
    block.depthwise.bn.eval()


def _other_momentum(block: InvertedBottleneck) -> None:
    block.project.bn.momentum = 0.5


def _other_eps(block: InvertedBottleneck) -> None:
    assert block.expand is not None
    block.expand.bn.eps = 0.5


def _no_activation(block: InvertedBottleneck) -> None:
    block.depthwise.activation = False


def _synced(block: InvertedBottleneck) -> None:
    block.project.bn = torch.nn.BatchNorm2d(8, eps=1e-3, momentum=0.03)


def _hooked(block: InvertedBottleneck) -> None:
    block.depthwise.register_forward_hook(lambda _module, _inputs, y: 2 * y)


def _double(block: InvertedBottleneck) -> None:
    block.double()


@pytest.mark.parametrize(
    "change",
    [_frozen, _other_momentum, _other_eps, _no_activation, _synced, _hooked, _double],
    ids=lambda f: f.__name__,
)
def test_a_changed_block_goes_layer_by_layer(
    change: Callable[[InvertedBottleneck], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _block()
    change(plain)
    fused = _fuse(copy.deepcopy(plain))
    monkeypatch.setattr(fused, "_fused", lambda _: pytest.fail("as one operator"))
    x = torch.randn(2, 8, 11, 9).to(next(plain.parameters()).dtype)
    _compare(plain, fused, x.contiguous(memory_format=torch.channels_last))


def test_blocks_from_before_the_operator_run() -> None:
    block = _block()
    state = block.__dict__
    state.pop("fused_training", None)
    assert block(torch.randn(2, 8, 11, 9)).shape == (2, 8, 11, 9)
