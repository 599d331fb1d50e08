"""ncnn, converted by pnnx. It knows no batches: images run one after the other."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from leyolo.bench.runtimes.base import Array, Job, Network, NotHereError
from leyolo.bench.runtimes.torch import example, maps_network


def prepared(module: Any, x: Any, threads: int) -> Callable[[Array], list[Array]]:
    """``module`` in ncnn, for inputs like the tensor ``x``."""
    ncnn, pnnx = importlib.import_module("ncnn"), importlib.import_module("pnnx")
    torch: Any = importlib.import_module("torch")

    network = ncnn.Net()
    network.opt.num_threads = threads
    network.opt.use_vulkan_compute = False
    with tempfile.TemporaryDirectory() as folder:
        stem = str(Path(folder) / "model")
        with torch.no_grad():
            torch.jit.save(torch.jit.trace(module, x[:1]), f"{stem}.pt")
        pnnx.convert(f"{stem}.pt", x[:1], fp16=False)
        if network.load_param(f"{stem}.ncnn.param") or network.load_model(f"{stem}.ncnn.bin"):
            raise NotHereError("pnnx could not convert the network")
    outputs = network.output_names()

    def image(x: Array) -> list[Array]:
        extractor = network.create_extractor()
        extractor.input("in0", ncnn.Mat(x))
        return [extractor.extract(name)[1].numpy()[None] for name in outputs]

    def forward(x: Array) -> list[Array]:
        images = [image(each) for each in x]
        return images[0] if len(images) == 1 else [np.concatenate(maps) for maps in zip(*images, strict=True)]

    return forward


def load(job: Job) -> Network:
    version = importlib.import_module("ncnn").__version__
    return Network(prepared(maps_network(job), example(job), job.threads), "NCHW", version)
