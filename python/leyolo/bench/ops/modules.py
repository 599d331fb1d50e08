"""Parts of the network in other libraries: every one of them is a torch module with batch norms, and an image."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from leyolo.bench.ops.case import Contestant, peer
from leyolo.models.cost import ConvCost, cost
from leyolo.models.network import LeYOLONet, build
from leyolo.nn.blocks import ConvBNAct

BLOCKS = "blocks summed over the network"
"""The sum of everything but upsampling: stem, inverted bottlenecks, dense convolutions between them, SPPF, head."""


@cache
def network(size: str) -> LeYOLONet:
    """A network with random weights and statistics that keep activations near 1."""
    torch.manual_seed(0)
    net = build(size).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 1.5),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, high)
    return net


def distinct(size: str, imgsz: int, name: Callable[[ConvCost], str | None]) -> dict[str, list[ConvCost]]:
    """The convolutions that are computed, together where ``name`` is the same; without those that it calls None."""
    table = cost(size, imgsz)
    found: dict[str, list[ConvCost]] = {}
    for c in table.convolutions:
        key = name(c) if table.layers[c.convolution.layer].used else None
        if key is not None:
            found.setdefault(key, []).append(c)
    return found


def image(channels: int, height: int, width: int) -> Tensor:
    """Random feature maps [1, C, H, W]."""
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))


def folded(module: nn.Module) -> nn.Module:
    """A copy with every batch norm in its convolution."""
    module = copy.deepcopy(module)
    for part in module.modules():
        if isinstance(part, ConvBNAct):
            part.fold()
    return module


def peers(module: nn.Module, x: Tensor, threads: int) -> dict[str, Contestant]:
    """``module`` on ``x`` in torch eager (both layouts; batch norm apart and, where there is one, folded), ONNX Runtime
    and OpenVINO."""
    found = {}
    norms = any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    for suffix, net in (("", module), (" folded", folded(module)))[: 1 + norms]:
        for layout, memory in (("", torch.contiguous_format), (" channels_last", torch.channels_last)):
            own = copy.deepcopy(net).to(memory_format=memory)  # type: ignore[call-overload]
            found[f"torch{layout}{suffix}"] = Contestant(_calls(own, x.contiguous(memory_format=memory)))
    if (peer("onnxruntime") or peer("openvino")) and peer("onnxscript"):
        graph = _onnx(folded(module), x)
        if peer("onnxruntime"):
            found["onnxruntime"] = _onnxruntime(graph, x, threads)
        if peer("openvino"):
            found["openvino"] = _openvino(graph, x, threads)
    return found


def _calls(module: nn.Module, x: Tensor) -> Any:
    return lambda: module(x)


def _onnx(module: nn.Module, x: Tensor) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def _onnxruntime(graph: bytes, x: Tensor, threads: int) -> Contestant:
    runtime = peer("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Its threads spin during a run, as by default, but not on after it into another contestant's turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return Contestant(lambda: session.run(None, feed)[0])


def _openvino(graph: bytes, x: Tensor, threads: int) -> Contestant:
    core = peer("openvino").Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    array = x.numpy()
    return Contestant(lambda: request.infer([array], share_inputs=True, share_outputs=True)[0])
