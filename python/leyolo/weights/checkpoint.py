"""What a weights file holds once it is read and checked. Numpy only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from leyolo.errors import InputError
from leyolo.models.config import CONFIGS, HEADS, ModelConfig
from leyolo.models.layout import state_shapes

MAX_CLASSES = 100_000
"""More classes than this in a file mean that the file is broken."""

_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))


class WeightsError(InputError):
    """A weights file that is not what it should be: the text says what was expected and what came."""


@dataclass
class Checkpoint:
    """The weights of one network.

    size         "n", "s", "m" or "l"
    names        class names by index, ``num_classes`` of them
    head         "leyolo" (box distributions) or "yolox" (decoupled, with objectness)
    state        tensors by our own parameter names, float32 or float16, in state-dict order
    metadata     text about the file: "license" (of the weights), "source", "source_sha256", …
    """

    size: str
    num_classes: int
    names: dict[int, str]
    head: str = "leyolo"
    strides: tuple[int, ...] = (8, 16, 32)
    state: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        return CONFIGS[self.size]

    @property
    def head_width(self) -> int:
        """Hidden channels of the class branch (leyolo head), or of the stem and both stacks (yolox head)."""
        return head_width({name: value.shape for name, value in self.state.items()}, self.head)


def head_width(shapes: Mapping[str, tuple[int, ...]], head: str) -> int:
    """The width of the head that these tensors belong to (it may differ from the default after a change of classes)."""
    name = "head.stem.0.conv.weight" if head == "yolox" else "head.cls.0.0.conv.weight"
    shape = shapes.get(name)
    if shape is None:
        raise WeightsError(f"the tensor {name!r} is missing")
    if len(shape) != 4 or not 1 <= shape[0] <= 65_536:
        raise WeightsError(f"the tensor {name!r} should have shape [width, channels, 1, 1], got {list(shape)}")
    return int(shape[0])


def check(checkpoint: Checkpoint) -> Checkpoint:
    """``checkpoint`` itself if every part fits the others, else :class:`WeightsError` naming the part."""
    if checkpoint.size not in CONFIGS:
        raise WeightsError(f"size should be one of {', '.join(CONFIGS)}, got {checkpoint.size!r}")
    if checkpoint.head not in HEADS:
        raise WeightsError(f"head should be one of {', '.join(HEADS)}, got {checkpoint.head!r}")
    if not 1 <= checkpoint.num_classes <= MAX_CLASSES:
        raise WeightsError(f"num_classes should be 1 to {MAX_CLASSES}, got {checkpoint.num_classes}")
    if tuple(checkpoint.strides) != checkpoint.config.strides:
        raise WeightsError(f"strides should be {checkpoint.config.strides}, got {tuple(checkpoint.strides)}")
    if set(checkpoint.names) != set(range(checkpoint.num_classes)):
        raise WeightsError(
            f"names should name the classes 0 to {checkpoint.num_classes - 1}, got {len(checkpoint.names)} names"
        )
    for key, text in checkpoint.metadata.items():
        if not isinstance(text, str):
            raise WeightsError(f"the metadata {key!r} should be text, got a {type(text).__name__}")
    shapes = {name: tuple(value.shape) for name, value in checkpoint.state.items()}
    width = head_width(shapes, checkpoint.head)
    check_shapes(shapes, state_shapes(checkpoint.config, checkpoint.num_classes, checkpoint.head, width))
    for name, value in checkpoint.state.items():
        if value.dtype not in _DTYPES:
            raise WeightsError(f"the tensor {name!r} should be float32 or float16, got {value.dtype}")
    return checkpoint


def halved(checkpoint: Checkpoint) -> Checkpoint:
    """``checkpoint`` with its convolution weights in float16. Biases and batch norm, a seventeenth of nano, stay
    as they are: variances may be too small or too large for it.

    Raises :class:`WeightsError` where a weight is too large."""
    state = dict(checkpoint.state)
    for name, value in checkpoint.state.items():
        if value.ndim > 1:
            with np.errstate(over="ignore"):
                state[name] = value.astype(np.float16)
            if np.isinf(state[name]).any() and not np.isinf(value).any():
                raise WeightsError(f"the tensor {name!r} reaches {np.abs(value).max():g}, float16 only to 65504")
    return replace(checkpoint, state=state)


def check_shapes(got: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Every expected tensor is there with its shape, and nothing else."""
    if missing := [name for name in expected if name not in got]:
        raise WeightsError(f"{len(missing)} of {len(expected)} tensors are missing: {_some(missing)}")
    if unexpected := [name for name in got if name not in expected]:
        raise WeightsError(f"{len(unexpected)} tensors are not part of this model: {_some(unexpected)}")
    for name, shape in expected.items():
        if tuple(got[name]) != shape:
            raise WeightsError(f"the tensor {name!r} should have shape {list(shape)}, got {list(got[name])}")


def _some(names: list[str], most: int = 4) -> str:
    text = ", ".join(repr(name[:80]) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
