"""ONNX Runtime on the CPU at its full optimisation level, its threads spinning between layers."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leyolo.bench.runtimes.base import Array, Job, Network
from leyolo.bench.runtimes.torch import example, maps_network


def prepared(module: Any, x: Any, threads: int) -> Callable[[Array], list[Array]]:
    """``module`` in ONNX Runtime, for inputs like the tensor ``x``."""
    runtime = importlib.import_module("onnxruntime")
    import torch

    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def forward(x: Array) -> list[Array]:
        maps: list[Array] = session.run(None, {name: x})
        return maps

    return forward


def load(job: Job) -> Network:
    version = importlib.import_module("onnxruntime").__version__
    return Network(prepared(maps_network(job), example(job), job.threads), "NCHW", version)
