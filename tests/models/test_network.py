"""The network in torch against the official model's outputs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leyolo import weights
from leyolo.models.config import CONFIGS, HEADS, SIZES
from leyolo.models.cost import cost
from leyolo.models.layout import state_shapes
from leyolo.models.network import LeYOLONet, build
from leyolo.models.transfer import from_torch, to_torch
from leyolo.nn import BatchNorm, ConvBNAct, InvertedBottleneck
from leyolo.weights import Checkpoint, WeightsError

LOGITS, BOXES = 2e-4, 1e-2


@pytest.fixture(scope="module")
def checkpoint(shared: Path) -> Checkpoint:
    return weights.load(shared / "weights/LeYOLONano.pt")


@pytest.fixture(scope="module")
def nano(checkpoint: Checkpoint) -> LeYOLONet:
    return to_torch(checkpoint).eval()


def _picture(golden: np.lib.npyio.NpzFile) -> Tensor:
    if "input_u8" in golden:
        pixels = golden["input_u8"][None]
    else:
        pixels = np.random.RandomState(20240620).randint(0, 256, size=(2, 3, 256, 320), dtype=np.uint8)
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(255))


def _boxes(logits: Tensor, x: Tensor, reg_max: int = 16) -> Tensor:
    """Centre and size in pixels of every anchor, as the specification decodes them."""
    distances = logits[..., : 4 * reg_max].unflatten(-1, (4, reg_max)).softmax(-1) @ torch.arange(float(reg_max))
    parts = []
    for stride in (8, 16, 32):
        y, x_ = torch.meshgrid(*(torch.arange(side // stride) + 0.5 for side in x.shape[2:]), indexing="ij")
        parts.append(torch.stack([x_.flatten(), y.flatten(), torch.full((y.numel(),), float(stride))], 1))
    anchors = torch.cat(parts)
    low, high = anchors[:, :2] - distances[..., :2], anchors[:, :2] + distances[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1) * anchors[:, 2:]


@pytest.mark.parametrize("name", ["bus_320", "bus_640", "random_2x3x256x320"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("folded", [False, True])
def test_goldens(
    shared: Path, checkpoint: Checkpoint, name: str, memory_format: torch.memory_format, folded: bool
) -> None:
    golden = np.load(shared / f"golden/leyolo/{name}.npz")
    network = to_torch(checkpoint).eval()
    if folded:
        network.fold()
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    x = _picture(golden).contiguous(memory_format=memory_format)
    with torch.inference_mode():
        logits = network(x)
    assert logits.shape == (len(x), golden["boxes_xywh"].shape[1], 144)
    for b, index in enumerate(golden["idx"]):
        np.testing.assert_allclose(logits[b, index].numpy(), golden["logits_at_idx"][b], rtol=0, atol=LOGITS)
    np.testing.assert_allclose(_boxes(logits, x).numpy(), golden["boxes_xywh"], rtol=0, atol=BOXES)
    scores, classes = logits[..., 64:].sigmoid().max(-1)
    np.testing.assert_allclose(scores.numpy(), golden["cls_max"], rtol=0, atol=1e-5)
    same = classes.numpy() == golden["cls_argmax"]
    assert same[golden["cls_max"] > 1e-3].all()
    assert same.mean() > 0.99  # near ties between hopeless classes may flip


def test_layer_taps(shared: Path, nano: LeYOLONet) -> None:
    golden = np.load(shared / "golden/leyolo/random_layer_taps.npz")
    maps: dict[int, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _x, out, index=index: maps.__setitem__(index, out.clone()))
        for index, module in enumerate(nano.layers)
    ]
    with torch.inference_mode():
        nano(_picture({}))
    for hook in hooks:
        hook.remove()
    for row, index in enumerate(golden["layer"]):
        assert tuple(maps[index].shape) == tuple(golden["shape"][row])
        values = maps[index].contiguous().flatten()[torch.from_numpy(golden["flat_index"][row])]
        np.testing.assert_allclose(values.numpy(), golden["value"][row], rtol=1e-4, atol=LOGITS)
        flat = maps[index].double()
        found = [flat.mean(), flat.std(correction=0), flat.min(), flat.max()]
        np.testing.assert_allclose(found, golden["mean_std_min_max"][row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_classes", [1, 3, 16, 32, 80, 96, 144])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", SIZES)
def test_any_class_count(size: str, head: str, num_classes: int) -> None:
    network = build(size, num_classes, head).eval()
    state = network.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == state_shapes(CONFIGS[size], num_classes, head)
    assert list(state) == list(state_shapes(CONFIGS[size], num_classes, head))
    expected = cost(size, 64, num_classes, head)
    assert sum(p.numel() for p in network.parameters()) == expected.trainable_parameters
    with torch.inference_mode():
        logits = network(torch.rand(1, 3, 64, 96))
    assert logits.shape == (1, 126, CONFIGS[size].outputs(num_classes, head))
    assert logits.isfinite().all()


def test_macs_are_those_computed() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for size in SIZES:
        network = build(size).eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.rand(1, 3, 64, 64))
        assert counter.get_total_flops() == 2 * cost(size, 64).computed_macs


@pytest.mark.parametrize("size", ["m", "l"])
def test_layers_that_nothing_needs(size: str) -> None:
    network = build(size)
    network(torch.rand(2, 3, 64, 64)).square().mean().backward()
    idle = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is None}
    assert idle == {"38", "39", "40", "41"}


def test_initialisation() -> None:
    network = build("n", 20)
    for level, stride in enumerate((8, 16, 32)):
        assert (network.head.box[level][3].conv.bias == 1.0).all()
        expected = math.log(5 / 20 / (640 / stride) ** 2)
        torch.testing.assert_close(network.head.cls[level][3].conv.bias, torch.full((20,), expected))
    yolox = build("n", 20, "yolox")
    for box, cls in zip(yolox.head.box, yolox.head.cls, strict=True):
        torch.testing.assert_close(cls[2].conv.bias.sigmoid(), torch.full((20,), 0.01))
        torch.testing.assert_close(box[2].conv.bias.sigmoid(), torch.tensor([0.5, 0.5, 0.5, 0.5, 0.01]))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 94
    for norm in norms:
        assert (norm.eps, norm.momentum) == (1e-3, 0.03)
        assert (norm.running_mean == 0).all()
        assert (norm.running_var == 1).all()


def test_batch_norm_learns_as_torch_does() -> None:
    ours, torchs = BatchNorm(5), nn.BatchNorm2d(5, eps=1e-3, momentum=0.03)
    for _ in range(3):
        x = torch.randn(2, 5, 4, 4)
        assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours.running_var, torchs.running_var)
    assert list(ours.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    ours.load_state_dict({k: v for k, v in torchs.state_dict().items() if k in ours.state_dict()})


def test_channels_last_costs_no_copy() -> None:
    network = build("n").eval()
    assert network.layers[1].conv.weight.is_contiguous(memory_format=torch.channels_last)
    seen: list[bool] = []
    for module in network.modules():
        if isinstance(module, ConvBNAct):
            module.register_forward_hook(
                lambda _m, _x, out: seen.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    with torch.inference_mode():
        network(torch.rand(2, 3, 64, 96).contiguous(memory_format=torch.channels_last))
    assert len(seen) == 100
    assert all(seen)


@pytest.mark.parametrize("head", HEADS)
def test_compiles_whole(head: str) -> None:
    network = build("n", 3, head).eval()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), network(x))


def test_memory_formats_agree_in_training() -> None:
    network = build("n", 4)
    x = torch.rand(2, 3, 64, 64)
    first = network(x)
    torch.testing.assert_close(network(x.contiguous(memory_format=torch.channels_last)), first, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 3, 65, 64), (1, 3, 64, 48), (1, 1, 64, 64), (3, 64, 64), (1, 64, 64, 3)])
def test_rejects_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"divisible by 32, got \[") as error:
        build("n", 1)(torch.rand(shape))
    assert str(list(shape)) in str(error.value)


def test_rejects_pixels_as_bytes() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1, got torch\.uint8"):
        build("n", 1)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_rejects_names() -> None:
    with pytest.raises(ValueError, match="'leyolo-x'"):
        build("leyolo-x")
    with pytest.raises(ValueError, match=r"'yolo'.*did you mean"):
        build("n", head="yolo")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        build("n", 0)
    with pytest.raises(ValueError, match="in_channels = 8, got 16"):
        InvertedBottleneck(8, 16, 8, 3, expansion=False)


@pytest.mark.parametrize("head", HEADS)
def test_transfer_both_ways(head: str) -> None:
    network = build("s", 7, head, head_width=24).eval()
    for module in network.modules():
        if isinstance(module, BatchNorm):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    checkpoint = from_torch(network, metadata={"license": "CC0-1.0"})
    assert (checkpoint.size, checkpoint.num_classes, checkpoint.head) == ("s", 7, head)
    assert checkpoint.head_width == 24
    assert checkpoint.names[6] == "class6"
    again = to_torch(checkpoint).eval()
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(x), network(x))


def test_half_precision_is_kept(checkpoint: Checkpoint) -> None:
    again = from_torch(to_torch(checkpoint).half(), checkpoint.names)
    assert all(np.array_equal(again.state[name], value) for name, value in checkpoint.state.items())
    assert {value.dtype for value in again.state.values()} == {np.dtype(np.float16)}


@pytest.mark.parametrize("num_classes", [3, 200])
def test_another_class_count(checkpoint: Checkpoint, nano: LeYOLONet, num_classes: int) -> None:
    network = to_torch(checkpoint, num_classes).eval()
    old, new = nano.state_dict(), network.state_dict()
    changed = {name for name in new if new[name].shape != old[name].shape or not torch.equal(new[name], old[name])}
    assert changed == {f"head.cls.{level}.3.conv.{leaf}" for level in range(3) for leaf in ("weight", "bias")}
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        boxes, expected = network(x), nano(x)
    assert boxes.shape[2] == 64 + num_classes
    torch.testing.assert_close(boxes[..., :64], expected[..., :64], rtol=1e-4, atol=1e-4)
    assert from_torch(network).head_width == 80


def test_a_folded_network_is_not_stored() -> None:
    with pytest.raises(WeightsError, match="folded"):
        from_torch(build("n", 2).fold())
