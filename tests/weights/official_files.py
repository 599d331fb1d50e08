"""Official-looking files for the tests: the layout of the official checkpoints, written by torch itself."""

from __future__ import annotations

import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from leyolo.models.config import lookup
from leyolo.weights import official
from leyolo.weights.torch_archive import Storage, TensorRef

WriteOfficial = Callable[..., Path]


def _class(module: str, name: str) -> type[nn.Module]:
    return type(name, (nn.Module,), {"__module__": module})


@pytest.fixture
def write_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteOfficial:
    """Writes a checkpoint of any size and class count with random half-precision weights; returns its path.

    The classes are stand-ins of the official names; ``model`` may change the module before it is stored.
    """
    classes = {}
    for path, name in (("ultralytics.nn.tasks", "DetectionModel"), ("ultralytics.nn.modules.conv", "Conv")):
        for end in range(1, path.count(".") + 2):
            parent = ".".join(path.split(".")[:end])
            if parent not in sys.modules:
                monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        classes[name] = _class(path, name)
        setattr(sys.modules[path], name, classes[name])

    def write(
        size: str = "n",
        num_classes: int = 80,
        *,
        filename: str = "some.pt",
        class_width: int | None = None,
        model: Callable[[Any], Any] = lambda model: model,
        **top: Any,
    ) -> Path:
        config = lookup(size)
        width = config.default_head_width(num_classes) if class_width is None else class_width
        first = f"model.{len(config.layers)}.cv3.0.0.conv.weight"
        shape = (width, config.head_channels[0], 1, 1)
        ref = TensorRef(Storage(None, "0", 0), 0, shape, (0,) * 4)  # type: ignore[arg-type]
        root = classes["DetectionModel"]()
        for key, shape in official._expected({first: ref}, config, num_classes).items():
            module = root
            *parents, leaf = key.split(".")
            for parent in parents:
                if parent not in module._modules:
                    module.add_module(parent, classes["Conv"]())
                module = module._modules[parent]
            if leaf == "num_batches_tracked":
                module.register_buffer(leaf, torch.tensor(1))
            elif leaf.startswith("running"):
                module.register_buffer(leaf, torch.rand(shape).half() + 0.5)
            else:
                module.register_parameter(leaf, nn.Parameter(torch.randn(shape).half(), requires_grad=False))
        root.stride = torch.tensor([8.0, 16.0, 32.0]).half()
        root.names = {index: f"thing {index}" for index in range(num_classes)}
        path = tmp_path / filename
        torch.save({"model": model(root), "ema": None, "epoch": -1} | top, path, pickle_protocol=2)
        return path

    return write


def with_members(source: Path, target: Path, **changes: bytes | None) -> Path:
    """A copy of an archive with some members replaced (``data_pkl=…``), added, or left out (None)."""
    names = {key.replace("_", "."): value for key, value in changes.items()}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            top, _, inner = name.partition("/")
            data = names.pop(inner, old.read(name))
            if data is not None:
                new.writestr(name, data)
        for inner, data in names.items():
            if data is not None:
                new.writestr(f"{top}/{inner}", data)
    return target
