"""Every runtime by name. To add one: a function ``Job -> Network`` in a module of its own, and a line here."""

from __future__ import annotations

from functools import partial

from leyolo.bench.runtimes import executorch, ncnn, onnxruntime, openvino, ours, pipeline, torch
from leyolo.bench.runtimes.base import Network, Pipeline, Precision, Runtime

OURS: dict[Precision, str] = {"float32": "leyolo", "bfloat16": "leyolo bf16"}
"""Our own row in every precision: what the others are compared with."""

NETWORKS: dict[str, Runtime[Network]] = {
    "leyolo": Runtime(ours.engine),
    "leyolo bf16": Runtime(partial(ours.engine, dtype="bfloat16"), dtype="bfloat16"),
    "leyolo on torch tensors": Runtime(ours.torch_tensors, ("torch",)),
    "onnxruntime": Runtime(onnxruntime.load, ("torch", "onnxruntime", "onnx", "onnxscript")),
    "openvino": Runtime(openvino.load, ("torch", "openvino")),
    "openvino bf16": Runtime(partial(openvino.load, precision="bf16"), ("torch", "openvino"), "bfloat16"),
    "ncnn": Runtime(ncnn.load, ("torch", "ncnn", "pnnx")),
    "executorch": Runtime(executorch.load, ("torch", "executorch")),
    "torch as installed": Runtime(torch.eager, ("torch",), tuned=False),
    "torch": Runtime(torch.eager, ("torch",)),
    "torch channels_last": Runtime(partial(torch.eager, channels_last=True), ("torch",)),
    "torch folded": Runtime(partial(torch.eager, folded=True), ("torch",)),
    "torch channels_last folded": Runtime(partial(torch.eager, channels_last=True, folded=True), ("torch",)),
    "torch.compile": Runtime(torch.compiled, ("torch",), usual=False),
}
"""Image tensors to logits. torch.compile takes a minute to start, so it runs only when it is asked for."""


def _around(name: str) -> Runtime[Pipeline]:
    network = NETWORKS[name]
    packages = (*network.packages, "opencv-python-headless")
    return Runtime(partial(pipeline.peer, load=network.load), packages, network.dtype, network.usual, network.tuned)


PIPELINES: dict[str, Runtime[Pipeline]] = {
    "leyolo": Runtime(pipeline.ours),
    "leyolo bf16": Runtime(partial(pipeline.ours, dtype="bfloat16"), dtype="bfloat16"),
    "onnxruntime": _around("onnxruntime"),
    "openvino": _around("openvino"),
    "openvino bf16": _around("openvino bf16"),
    "ncnn": _around("ncnn"),
    "executorch": _around("executorch"),
    "torch channels_last": _around("torch channels_last folded"),
    "torch.compile": _around("torch.compile"),
}
"""An encoded picture to boxes; the networks of torch with batch norm folded."""
