"""Official LeYOLO checkpoints (``LeYOLONano.pt`` and its like): read without torch, without executing anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leyolo.models.config import CONFIGS, ModelConfig
from leyolo.models.layout import Convolution, convolutions
from leyolo.weights.checkpoint import MAX_CLASSES, Checkpoint, WeightsError, check, check_shapes, head_width, sha256_of
from leyolo.weights.restricted_pickle import Stub
from leyolo.weights.torch_archive import TensorRef, TorchArchive

_LICENSE = "AGPL-3.0 unless the author of the weights says otherwise"
_MODEL = "ultralytics.nn.tasks.DetectionModel"
_MAX_VISITS = 20_000
_COUNTER = "num_batches_tracked"


@dataclass
class OfficialFile:
    """An official checkpoint as stored: its own tensor names, order and dtypes (``state``), names and strides."""

    state: dict[str, np.ndarray]
    size: str
    num_classes: int
    names: dict[int, str]


def load(path: str | Path) -> Checkpoint:
    """Reads an official checkpoint of any size. Raises :class:`WeightsError` if it is anything else."""
    path = Path(path)
    raw = read(path)
    config = CONFIGS[raw.size]
    width = raw.state[f"model.{len(config.layers)}.cv3.0.0.conv.weight"].shape[0]
    state = {
        name: raw.state[official]
        for conv in convolutions(config, raw.num_classes, head_width=width)
        for name, official in _names(conv, config)
    }
    metadata = {"license": _LICENSE, "source": path.name, "source_sha256": sha256_of(path)}
    checkpoint = Checkpoint(raw.size, raw.num_classes, raw.names, "leyolo", config.strides, state, metadata)
    return check(checkpoint)


def read(path: str | Path) -> OfficialFile:
    """The tensors under their official names, after the whole set of names, shapes and dtypes was checked."""
    path = Path(path)
    with TorchArchive(path) as archive:
        model = _model(archive.root)
        tensors = dict(_walk(model))
        config, num_classes = _identify(tensors, path)
        expected = _expected(tensors, config, num_classes)
        check_shapes({name: tensor.shape for name, tensor in tensors.items()}, expected)
        for name, tensor in tensors.items():
            if (tensor.storage.dtype.kind == "i") != name.endswith(_COUNTER):
                raise WeightsError(f"the tensor {name!r} has the dtype {tensor.storage.dtype.name}")
        strides = model.state.get("stride")
        if type(strides) is not TensorRef or strides.shape != (len(config.strides),):
            raise WeightsError(f"the model's strides should be a tensor of {len(config.strides)} values")
        values = archive.read(strides)
        if values.tolist() != list(config.strides):
            raise WeightsError(f"the model's strides should be {list(config.strides)}, got {values.tolist()}")
        state = {name: archive.read(tensor) for name, tensor in tensors.items()}
    return OfficialFile(state, config.size, num_classes, _class_names(model.state.get("names"), num_classes))


def _model(root: Any) -> Stub:
    """The averaged weights where the file still has them beside the trained ones, as the official code does."""
    if type(root) is not dict:
        raise WeightsError(f"expected a dict with a model in it, got a {type(root).__name__}")
    for key in ("ema", "model"):
        model = root.get(key)
        if type(model) is Stub:
            if model.kind != _MODEL:
                raise WeightsError(f"{key!r} should be a {_MODEL}, got a {model.kind}")
            return model
    raise WeightsError("the file holds no model: neither 'ema' nor 'model' is a network")


def _walk(model: Stub) -> Iterator[tuple[str, TensorRef]]:
    """Parameters, then persistent buffers, then children, in stored order: the order of a torch state dict."""
    waiting = [("", model)]
    visits = 0
    while waiting:
        prefix, module = waiting.pop()
        parts = [module.state.get(part) for part in ("_parameters", "_buffers", "_modules")]
        parameters, buffers, children = ({} if part is None else part for part in parts)
        hidden = module.state.get("_non_persistent_buffers_set", frozenset())
        if not (type(parameters) is type(buffers) is type(children) is dict) or type(hidden) is not frozenset:
            raise WeightsError(f"the module {prefix[:80]!r} should hold dicts of parameters, buffers and modules")
        entries = [*parameters.items(), *((name, value) for name, value in buffers.items() if name not in hidden)]
        # A module may hold itself, or one module many times over: the count, not the structure, ends the walk.
        visits += 1 + len(entries) + len(children)
        if visits > _MAX_VISITS or len(prefix) > 256:
            raise WeightsError(f"the model has more than {_MAX_VISITS} modules and tensors, or holds itself")
        for name, value in entries:
            if value is None:
                continue
            if type(value) is not TensorRef:
                raise WeightsError(f"{prefix[:80]}{name} should be a tensor, got a {type(value).__name__}")
            yield f"{prefix}{name}", value
        for name, child in reversed(children.items()):
            if child is None:
                continue
            if type(child) is not Stub:
                raise WeightsError(f"{prefix[:80]}{name} should be a module, got a {type(child).__name__}")
            waiting.append((f"{prefix}{name}.", child))


def _identify(tensors: dict[str, TensorRef], path: Path) -> tuple[ModelConfig, int]:
    """Size and class count from the shapes. Medium and large are one network; the file's name tells them apart."""
    stem = tensors.get("model.0.c.weight")
    if stem is None or len(stem.shape) != 4:
        raise WeightsError("this is no LeYOLO: the stem's tensor 'model.0.c.weight' is missing")
    if "model.42.cv3.0.3.weight" in tensors:
        size = "l" if "large" in path.name.lower() else "m"
    else:
        size = "n" if stem.shape[0] == CONFIGS["n"].layers[0].out_channels else "s"
    config = CONFIGS[size]
    key = f"model.{len(config.layers)}.cv3.0.3.weight"
    last = tensors.get(key)
    if last is None or len(last.shape) != 4 or not 1 <= last.shape[0] <= MAX_CLASSES:
        raise WeightsError(f"the tensor {key!r} should have shape [classes, channels, 1, 1]")
    return config, last.shape[0]


def _expected(tensors: dict[str, TensorRef], config: ModelConfig, num_classes: int) -> dict[str, tuple[int, ...]]:
    first = f"model.{len(config.layers)}.cv3.0.0.conv.weight"
    if first not in tensors:
        raise WeightsError(f"the tensor {first!r} is missing")
    width = head_width({"head.cls.0.0.conv.weight": tensors[first].shape}, "leyolo")
    expected: dict[str, tuple[int, ...]] = {}
    for conv in convolutions(config, num_classes, head_width=width):
        shapes = dict(conv.tensors())
        for name, official in _names(conv, config):
            expected[official] = shapes[name]
            if official.endswith("running_var"):
                expected[official.removesuffix("running_var") + _COUNTER] = ()
    expected[f"model.{len(config.layers)}.dfl.conv.weight"] = (1, config.reg_max, 1, 1)
    return expected


def _names(conv: Convolution, config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Our name and the official name of every tensor of one convolution."""
    parts = conv.name.split(".")
    base = f"model.{conv.layer}"
    if parts[0] == "head":
        branch, level, j = parts[1:]
        base += f".{'cv2' if branch == 'box' else 'cv3'}.{level}.{j}"
        owners = (f"{base}.conv", f"{base}.bn") if conv.norm else (base, "")
    elif len(parts) == 2:
        owners = (f"{base}.c", f"{base}.bn")
    elif parts[2] in ("reduce", "merge"):
        base += ".cv1" if parts[2] == "reduce" else ".cv2"
        owners = (f"{base}.conv", f"{base}.bn")
    else:
        depthwise = int(config.layers[conv.layer].has_expansion)
        if parts[2] == "project":
            owners = (f"{base}.layers.{depthwise + 1}", f"{base}.layers.{depthwise + 2}")
        else:
            base += f".layers.{0 if parts[2] == 'expand' else depthwise}"
            owners = (f"{base}.c", f"{base}.bn")
    for name, _ in conv.tensors():
        owner, leaf = name[len(conv.name) + 1 :].split(".")
        yield name, f"{owners[owner == 'bn']}.{leaf}"


def _class_names(names: Any, num_classes: int) -> dict[int, str]:
    if names is None:
        return {index: f"class{index}" for index in range(num_classes)}
    if type(names) is list:
        names = dict(enumerate(names))
    if type(names) is not dict or set(names) != set(range(num_classes)):
        raise WeightsError(f"the model's names should name the classes 0 to {num_classes - 1}")
    if any(type(name) is not str for name in names.values()):
        raise WeightsError("the model's class names should be text")
    return {index: names[index] for index in range(num_classes)}
