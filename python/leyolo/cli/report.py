"""What ``leyolo info`` and ``leyolo models`` show."""

from __future__ import annotations

import platform
import sys
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leyolo.models.config import ModelConfig
    from leyolo.weights import Checkpoint

_PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "opencv-python",
    "av",
    "faster-coco-eval",
)


def environment() -> dict[str, Any]:
    """This build and this machine. Torch is not imported."""
    import leyolo
    from leyolo import _C
    from leyolo.assets import PACKAGED
    from leyolo.bench.environment import processor
    from leyolo.bench.timing import cores
    from leyolo.cli.checks import version_of

    return {
        "leyolo": leyolo.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": cores(),
        "cpu_features": dict(_C.cpu_features()),
        "build": {key: value for key, value in _C.build_info().items() if key != "version"},
        "packages": {name: version for name in _PACKAGES if (version := version_of(name)) is not None},
        "gpu_driver": _gpu_driver(),
        "weights": [str(path) for path in PACKAGED.values()],
    }


def _gpu_driver() -> str:
    if not sys.platform.startswith("linux"):
        return ""
    try:
        with open("/proc/driver/nvidia/version") as file:
            return file.readline().strip()
    except OSError:
        return ""


def layer_rows(
    config: ModelConfig, num_classes: int, head: str, head_width: int | None, imgsz: int
) -> list[dict[str, Any]]:
    """One row a top-level layer that has convolutions, the head last: its parameters, and its multiply-accumulates."""
    from leyolo.models.layout import convolutions

    rows: dict[int, dict[str, Any]] = {}
    for conv in convolutions(config, num_classes, head, head_width):
        kind = config.layers[conv.layer].kind if conv.layer < len(config.layers) else f"{head} head"
        row = rows.setdefault(
            conv.layer,
            {"layer": conv.layer, "kind": kind, "in": conv.in_channels, "out": 0, "parameters": 0, "macs": 0},
        )
        row["out"] = conv.out_channels if conv.layer < len(config.layers) else config.outputs(num_classes, head)
        row["parameters"] += sum(prod(shape) for name, shape in conv.tensors() if ".running_" not in name)
        row["macs"] += prod(conv.weight_shape) * (imgsz // conv.reduction) ** 2
    return list(rows.values())


def model(name: str, imgsz: int) -> dict[str, Any]:
    """One model by name (no weights needed) or by weights file: see :func:`describe`."""
    from leyolo.models.config import CONFIGS, find_size
    from leyolo.predict.backends import load_weights

    size = None if Path(name).exists() else find_size(name)
    return describe(load_weights(name) if size is None else CONFIGS[size], imgsz)


def plan(name: str, imgsz: int, threads: int | None) -> dict[str, Any]:
    """The planned forward pass of one model by name (random weights: times do not depend on them) or by weights file:
    see :func:`leyolo.bench.plan.plan`."""
    from leyolo.bench.plan import plan
    from leyolo.bench.random_weights import random_checkpoint
    from leyolo.models.config import find_size
    from leyolo.predict.backends import load_weights

    size = None if Path(name).exists() else find_size(name)
    return plan(load_weights(name) if size is None else random_checkpoint(size), imgsz=imgsz, threads=threads)


def describe(what: Checkpoint | ModelConfig, imgsz: int) -> dict[str, Any]:
    """What a model is, its parameters and multiply-accumulates, and its layers."""
    from leyolo.errors import UsageError
    from leyolo.models.config import ModelConfig

    if imgsz < 32 or imgsz % 32:
        raise UsageError(f"imgsz must be a multiple of 32, got {imgsz}")
    about: dict[str, Any] = {}
    if isinstance(what, ModelConfig):
        config, classes, head, width = what, 80, "leyolo", None
    else:
        config, classes, head, width = what.config, what.num_classes, what.head, what.head_width
        about = {**what.metadata, "names": [what.names[i] for i in sorted(what.names)]}
    layers = layer_rows(config, classes, head, width, imgsz)
    return {
        "model": f"leyolo-{config.size}",
        **about,
        "num_classes": classes,
        "head": head,
        "strides": list(config.strides),
        "imgsz": imgsz,
        "parameters": sum(row["parameters"] for row in layers),
        "macs": sum(row["macs"] for row in layers),
        "layers": layers,
    }


def model_rows() -> list[dict[str, Any]]:
    """All sizes with 80 classes at 640 x 640."""
    from leyolo.models.config import CONFIGS

    rows = []
    for config in CONFIGS.values():
        layers = layer_rows(config, 80, "leyolo", None, 640)
        rows.append(
            {
                "name": f"leyolo-{config.size}",
                "size": config.name,
                "parameters": sum(row["parameters"] for row in layers),
                "macs": sum(row["macs"] for row in layers),
            }
        )
    return rows
