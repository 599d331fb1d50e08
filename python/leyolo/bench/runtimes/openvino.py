"""OpenVINO on the CPU with its latency settings."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from leyolo.bench.runtimes.base import Array, Job, Network, NotHereError
from leyolo.bench.runtimes.torch import example, maps_network


def prepared(module: Any, x: Any, threads: int, precision: str = "f32") -> Callable[[Array], list[Array]]:
    """``module`` in OpenVINO, for inputs like the tensor ``x``."""
    openvino = importlib.import_module("openvino")
    import torch

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotHereError("this CPU has no bfloat16 arithmetic that OpenVINO uses")
    with torch.no_grad():
        model = openvino.convert_model(module, example_input=x, input=[tuple(x.shape)])
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def forward(x: Array) -> list[Array]:
        return list(request.infer({0: x}, share_inputs=True, share_outputs=True).values())

    return forward


def load(job: Job, *, precision: str = "f32") -> Network:
    version = importlib.import_module("openvino").__version__.partition("-")[0]
    return Network(prepared(maps_network(job), example(job), job.threads, precision), "NCHW", version)
