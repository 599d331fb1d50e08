"""What holds for every operator on a GPU: results of the CPU twin, no waiting for the GPU, any stream, CUDA graphs.

Without a GPU only the calls themselves are tried; through the CUDA shim they run the kernels' bodies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from assignment_cases import random_batch
from torch import Tensor

from leyolo import geometry, ops
from leyolo.ops._library import on_cuda

Inputs = tuple[Tensor, ...]
Call = Callable[..., Any]


def boxes(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(*shape, 2, generator=g) * 200
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2, generator=g) * 60], -1).to(dtype)


def uniform(*shape: int, seed: int = 0, low: float = 0, high: float = 1) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def head(channels: int, dtype: torch.dtype) -> Inputs:
    centers, strides = (torch.from_numpy(x) for x in geometry.anchor_points(96, 128, (8, 16, 32)))
    return uniform(3, len(strides), channels, low=-8, high=3).to(dtype), centers, strides


def image(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def gradients(function: Call, *inputs: Tensor) -> Inputs:
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    result = function(*inputs)
    weights = torch.linspace(-1, 1, result.numel(), device=result.device, dtype=result.dtype).view(result.shape)
    return torch.autograd.grad(result, inputs, weights)


def padded(b: Tensor, scores: Tensor, labels: Tensor, counts: Tensor, **options: Any) -> Inputs:
    return ops.nms_padded(b, scores, labels, iou_threshold=0.4, counts=counts, **options)


def nms_inputs(batch: int, count: int, dtype: torch.dtype = torch.float32) -> Inputs:
    labels = torch.randint(5, (batch, count), generator=torch.Generator().manual_seed(1))
    scores = (uniform(batch, count, seed=2) * 50).floor() / 50  # with ties
    return boxes(batch, count, dtype=dtype), scores.to(dtype), labels, torch.arange(batch) * count // 2


# name -> function and inputs. No result of these may differ in a bit from the CPU's.
EXACT: dict[str, tuple[Call, Inputs]] = {
    "box_iou": (ops.box_iou, (boxes(2, 70), boxes(2, 50, seed=1))),
    "box_iou, wide": (ops.box_iou, (boxes(1, 3), boxes(1, 1000, seed=1))),
    "box_iou, float64": (ops.box_iou, (boxes(33, dtype=torch.float64), boxes(9, seed=1, dtype=torch.float64))),
    "generalized_box_iou, float16": (
        ops.generalized_box_iou,
        (boxes(50, dtype=torch.float16), boxes(65, seed=1, dtype=torch.float16)),
    ),
    "distance_box_iou_loss": (ops.distance_box_iou_loss, (boxes(300), boxes(300, seed=1))),
    "nms_padded": (partial(padded, max_det=40), nms_inputs(4, 300)),
    "nms_padded, float16": (partial(padded, max_det=100, score_threshold=0.3), nms_inputs(2, 100, torch.float16)),
    "nms_padded, many": (partial(padded, max_det=20), nms_inputs(2, 9000)),
    "nms_padded, in rounds": (partial(padded, max_det=5000), nms_inputs(2, 5000)),
    "letterbox": (lambda x: ops.letterbox(x, 64)[0], (image(2, 48, 100, 3),)),
    "letterbox, half the size, float16": (
        lambda x: ops.letterbox(x, 64, dtype=torch.float16, swap_rb=True)[0],
        (image(128, 96, 3),),
    ),
}
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    for multi_label in (False, True):
        options = {"score_threshold": 0.9, "max_candidates": 150, "multi_label": multi_label}
        EXACT[f"detect_decode, {dtype}, {multi_label}"] = (
            partial(ops.detect_decode, reg_max=16, **options),
            head(64 + 20, dtype),
        )
        EXACT[f"yolox_decode, {dtype}, {multi_label}"] = (partial(ops.yolox_decode, **options), head(5 + 3, dtype))

for dtype in (torch.float32, torch.float16, torch.bfloat16):
    scene = random_batch(3, 14, 9, dtype=dtype)
    truths = (scene["gt_boxes"], scene["gt_labels"], scene["gt_counts"])
    places = (scene["centers"], scene["strides"])
    everything = (scene["cls_logits"], scene["obj_logits"], scene["boxes"], *truths, *places)
    for rule in ("main", "v030"):
        EXACT[f"simota_assign, {rule}, {dtype}"] = (partial(ops.simota_assign, rule=rule), everything)
        EXACT[f"simota_cost, {rule}, {dtype}"] = (partial(ops.simota_cost, rule=rule), everything)
    EXACT[f"tal_assign, {dtype}"] = (
        partial(ops.tal_assign, fmt="cxcywh"),
        (scene["cls_logits"].sigmoid(), scene["boxes"], *truths, places[0]),
    )
    EXACT[f"fcos_assign, {dtype}"] = (partial(ops.fcos_assign, fmt="cxcywh"), (*truths, *places))
    EXACT[f"ota_assign, {dtype}"] = (ops.ota_assign, everything)
EXACT["fcos_assign, ranges"] = (
    lambda ranges, *rest: ops.fcos_assign(*rest, ranges=ranges, fmt="cxcywh"),
    (torch.tensor([[0.0, 20.0], [15.0, 60.0], [50.0, 1e9]]), *truths, *places),
)

# The library's atan, or sums in another order.
NEAR: dict[str, tuple[Call, Inputs]] = {
    "complete_box_iou": (ops.complete_box_iou, (boxes(40), boxes(50, seed=1))),
    "complete_box_iou_loss": (ops.complete_box_iou_loss, (boxes(300), boxes(300, seed=1))),
    "box_iou, gradients": (partial(gradients, ops.box_iou), (boxes(2, 70), boxes(2, 50, seed=1))),
    "complete_box_iou, gradients": (partial(gradients, ops.complete_box_iou), (boxes(3, 9), boxes(3, 200, seed=1))),
    "complete_box_iou_loss, gradients": (
        partial(gradients, ops.complete_box_iou_loss),
        (boxes(300), boxes(300, seed=1)),
    ),
}
FEATURES = uniform(2, 16, 11, 13, low=-1)
WEIGHTS = tuple(
    uniform(*shape, seed=3, low=-0.3, high=0.3) for shape in ((40, 16, 1, 1), (40, 1, 5, 5), (24, 40, 1, 1))
)
NEAR |= {
    f"conv2d, kernel {k}": (
        partial(ops.conv2d, padding=k // 2, activation="silu"),
        (FEATURES, uniform(24, 16, k, k, seed=4, low=-0.3, high=0.3), uniform(24, seed=5)),
    )
    for k in (1, 3)
}


def bottleneck(x: Tensor, expand: Tensor, depthwise: Tensor, project: Tensor) -> Tensor:
    return ops.inverted_bottleneck(x, expand, None, depthwise, None, project, None)


def normalized(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    statistics = torch.zeros_like(weight), torch.ones_like(weight)
    return ops.batch_norm_act(x, weight, bias, *statistics, training=True, momentum=0.1, eps=1e-3, activation="silu")


def bottleneck_norm(x: Tensor, scale: Tensor, *weights: Tensor) -> Tensor:
    """In float32 on the CPU, which has no other."""
    convert = torch.float32 if x.device.type == "cpu" and not on_cuda(x.device) else x.dtype
    layers = [ops.ConvNorm(w.to(convert), None, scale[: len(w)]) for w in weights]
    return ops.inverted_bottleneck_norm(x.to(convert), *layers, eps=1e-3).to(x.dtype)


for dtype in (torch.float32, torch.float16, torch.bfloat16):
    features, *weights = (t.to(dtype) for t in (FEATURES, *WEIGHTS))
    features = features.contiguous(memory_format=torch.channels_last)
    taps = uniform(16, 1, 3, 3, seed=6, low=-0.3, high=0.3).to(dtype)
    filtering = partial(ops.depthwise_conv2d, padding=1, activation="silu")
    scales = uniform(16, seed=7, low=0.5), uniform(16, seed=8)
    NEAR |= {
        f"conv2d, {dtype}": (
            partial(ops.conv2d, activation="silu"),
            (features, weights[0], weights[0][:, 0, 0, 0].clone()),
        ),
        f"inverted_bottleneck, {dtype}": (bottleneck, (features, *weights)),
        f"depthwise_conv2d, {dtype}": (filtering, (features, taps, taps[:, 0, 0, 0].clone())),
        f"depthwise_conv2d, gradients, {dtype}": (
            partial(gradients, filtering),
            (features, taps, taps[:, 0, 0, 0].clone()),
        ),
        f"inverted_bottleneck_norm, {dtype}": (bottleneck_norm, (features, uniform(40, seed=9, low=0.5), *weights)),
        f"inverted_bottleneck_norm, gradients, {dtype}": (
            partial(gradients, bottleneck_norm),
            (features, uniform(40, seed=9, low=0.5), *weights),
        ),
        f"batch_norm_act, {dtype}": (normalized, (features, *scales)),
        f"batch_norm_act, gradients, {dtype}": (partial(gradients, normalized), (features, *scales)),
    }
TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
# The size of the result has to reach the host.
WAITING: dict[str, tuple[Call, Inputs]] = {
    "nms": (partial(ops.nms, iou_threshold=0.5), (boxes(300), uniform(300))),
    "nms, in rounds": (partial(ops.nms, iou_threshold=0.5), (boxes(5000), uniform(5000))),
    "batched_nms": (partial(ops.batched_nms, iou_threshold=0.5), (boxes(99), uniform(99), torch.arange(99) % 3)),
}
ALL = EXACT | NEAR | WAITING
CAPTURED = [name for name in EXACT | NEAR if "gradients" not in name]


def leaves(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [leaf for part in result for leaf in leaves(part)]


def compare(name: str, ours: Any, expected: Any) -> None:
    for a, b in zip(leaves(ours), leaves(expected), strict=True):
        if name in NEAR:
            # The CPU has the block in float32 alone, while a GPU rounds every map in it.
            slack = TOLERANCES[b.dtype] * (8 if name.startswith("inverted_bottleneck_norm") else 1)
            torch.testing.assert_close(a.cpu(), b, rtol=slack, atol=slack * float(b.abs().max()))
        else:
            assert torch.equal(a.cpu(), b)


def on(device: str, inputs: Inputs) -> Inputs:
    return tuple(x.to(device) for x in inputs)


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ALL)
def test_the_result_is_that_of_the_cpu(name: str, device: str) -> None:
    function, inputs = ALL[name]
    result = function(*on(device, inputs))
    assert all(leaf.device.type == device for leaf in leaves(result))
    compare(name, result, function(*inputs))


@pytest.mark.cuda
@pytest.mark.parametrize("name", ALL)
def test_twice_the_same(name: str) -> None:
    function, inputs = ALL[name]
    arrays = on("cuda", inputs)
    for a, b in zip(leaves(function(*arrays)), leaves(function(*arrays)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.cuda
@pytest.mark.parametrize("name", EXACT | NEAR)
def test_nothing_waits_for_the_gpu(name: str) -> None:
    function, inputs = ALL[name]
    arrays = on("cuda", inputs)
    with no_waiting():
        result = function(*arrays)
    compare(name, result, function(*inputs))


@pytest.mark.cuda
@pytest.mark.parametrize("name", ALL)
def test_runs_on_the_current_stream(name: str) -> None:
    function, inputs = ALL[name]
    arrays = on("cuda", inputs)
    late = [torch.zeros_like(x) for x in arrays]
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(20_000_000)  # a kernel on another stream would be done with the zeros by then
        for to, x in zip(late, arrays, strict=True):
            to.copy_(x)
        result = leaves(function(*late))
        torch.cuda.current_stream().synchronize()
    compare(name, result, function(*inputs))


@pytest.mark.cuda
@pytest.mark.skipif("PYTORCH_NO_CUDA_MEMORY_CACHING" in os.environ, reason="capture needs torch's memory cache")
@pytest.mark.parametrize("name", CAPTURED)
def test_can_be_captured_in_a_graph(name: str) -> None:
    function, inputs = ALL[name]
    arrays = [torch.zeros_like(x) for x in on("cuda", inputs)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        function(*arrays)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(*arrays)
    for to, x in zip(arrays, inputs, strict=True):
        to.copy_(x)
    graph.replay()
    compare(name, result, function(*inputs))
