"""ExecuTorch with the XNNPACK backend."""

from __future__ import annotations

import importlib
from importlib.metadata import version

from leyolo.bench.runtimes.base import Array, Job, Network
from leyolo.bench.runtimes.torch import example, maps_network


def load(job: Job) -> Network:
    exir = importlib.import_module("executorch.exir")
    partitioner = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    library = importlib.import_module("executorch.extension.pybindings.portable_lib")
    runtime = importlib.import_module("executorch.runtime")
    import torch

    with torch.no_grad():
        program = torch.export.export(maps_network(job), (example(job),))
        lowered = exir.to_edge_transform_and_lower(program, partitioner=[partitioner.XnnpackPartitioner()])
    library._unsafe_reset_threadpool(job.threads)  # the name warns of calls that run meanwhile: there are none
    data = lowered.to_executorch().buffer
    loaded = runtime.Runtime.get().load_program(data)
    alive = data, loaded, loaded.load_method("forward")  # the method reads the others' memory without owning it

    def forward(x: Array) -> list[Array]:
        return [each.numpy() for each in alive[-1].execute([torch.from_numpy(x)])]

    return Network(forward, "NCHW", version("executorch"))
