"""OpenVINO on the CPU with its latency settings."""

from __future__ import annotations

import importlib

from leyolo.bench.runtimes.base import Array, Job, Network, NotHereError
from leyolo.bench.runtimes.torch import example, maps_network


def load(job: Job, *, precision: str = "f32") -> Network:
    openvino = importlib.import_module("openvino")
    import torch

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotHereError("this CPU has no bfloat16 arithmetic that OpenVINO uses")
    x = example(job)
    with torch.no_grad():
        model = openvino.convert_model(maps_network(job), example_input=x, input=[tuple(x.shape)])
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": job.threads,
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def forward(x: Array) -> list[Array]:
        return list(request.infer({0: x}, share_inputs=True, share_outputs=True).values())

    return Network(forward, "NCHW", openvino.__version__.partition("-")[0])
