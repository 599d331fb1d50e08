"""Everything that a training run can be told, checked once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from leyolo.data.augment import Augment
from leyolo.errors import UsageError, nearest
from leyolo.predict.backends import check_device
from leyolo.predict.pipeline import check_count, check_flag, image_size
from leyolo.weights.native import write_atomically

MAX_STRIDE = 32
DEFAULT_LR = {"adamw": 2e-3, "sgd": 1e-2}
_CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "linear"),
    "amp": ("off", "bf16", "fp16"),
    "head": ("leyolo", "yolox"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A training run. Shares are fractions of the whole run, so that a recipe fits any length.

    data, images     annotations in any form that ``leyolo.data.read`` knows, and the folder of their pictures
    val_data, val_images    the same for validation; None: the "val" list of ``data``, if it has one
    epochs           passes over the training list
    imgsz            side of the square network input, a multiple of 32
    batch            pictures a step and process
    head, assigner   leyolo (tal, simota, ota) or yolox (simota, ota); None: the head of the weights, its first assigner
    accumulate       batches whose gradients are averaged for one step; the rest of an epoch is stepped too
    optimizer        adamw or sgd (Nesterov); lr: None is its default (``DEFAULT_LR``), any other value is used as it is
    schedule         cosine or linear, from ``lr`` to ``lr * lr_final``, step by step
    warmup           share of all steps over which the learning rate rises from 0
    weight_decay     of convolution weights; norms and biases have none
    clip             largest norm of the gradient; 0: no limit
    ema              largest decay of the averaged weights; it ramps and fits the run's length; 0: none
    freeze           so many of the first layers keep their weights and statistics
    amp              off, bf16 or fp16 (fp16 needs a GPU)
    fused_ops        leyolo's operators for depthwise convolutions and batch norms; off: plain torch
    sync_bn          batch norm over the batches of all processes
    patience         epochs without a better mAP before the run ends; 0: never
    close_mosaic     share of the epochs, the last ones, without mixing; the yolox head then adds its L1 loss
    augment          how pictures are augmented
    workers          processes that read pictures; 0: this one does
    rect             validation pads to the next multiple of 32 instead of to a square
    val              validates after every so many epochs, and after the last; 0: never
    save_steps       saves the state after every so many steps too, not only after epochs; 0: no
    seed, device     cpu or cuda[:N]; project, name: the run's folder is project/name
    timeout          seconds that a process waits for the others
    """

    data: str
    images: str | None = None
    val_data: str | None = None
    val_images: str | None = None
    epochs: int = 100
    imgsz: int = 640
    batch: int = 16
    head: str | None = None
    assigner: str | None = None
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float | None = None
    lr_final: float = 0.01
    schedule: str = "cosine"
    warmup: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 10.0
    ema: float = 0.9999
    freeze: int = 0
    amp: str = "off"
    fused_ops: bool = True
    sync_bn: bool = False
    patience: int = 50
    augment: Augment = field(default_factory=Augment)
    close_mosaic: float = 0.2
    workers: int = 0
    rect: bool = False
    val: int = 1
    save_steps: int = 0
    seed: int = 0
    device: str = "cpu"
    project: str = "runs"
    name: str | None = None
    exist_ok: bool = False
    plots: bool = True
    tensorboard: bool = False
    timeout: int = 600

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "timeout"):
            check_count(name, getattr(self, name), 10**9)
        for name in ("freeze", "patience", "workers", "val", "save_steps", "seed"):
            _check_whole(name, getattr(self, name))
        for name in ("warmup", "ema", "close_mosaic", "lr_final"):
            _check_between(name, getattr(self, name), 0.0, 1.0)
        _check_between("momentum", self.momentum, 0.0, 0.9999)
        for name in ("clip", "weight_decay"):
            _check_between(name, getattr(self, name), 0.0, math.inf)
        if self.lr is not None:
            _check_between("lr", self.lr, 0.0, 100.0)
        for name in ("fused_ops", "sync_bn", "rect", "exist_ok", "plots", "tensorboard"):
            check_flag(name, getattr(self, name))
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known and not (name == "head" and value is None):
                raise UsageError(
                    f"{name} must be one of {', '.join(known)}, got {value!r}.{nearest(str(value), known)}"
                )
        if not isinstance(image_size(self.imgsz, MAX_STRIDE), int):
            raise UsageError(f"imgsz must be one number for training, got {self.imgsz!r}")
        if self.imgsz < 2 * MAX_STRIDE:  # a batch norm needs more than one value
            raise UsageError(f"imgsz must be at least {2 * MAX_STRIDE} for training, got {self.imgsz}")
        least = round(self.imgsz * (1 - self.augment.multi_scale) / MAX_STRIDE) * MAX_STRIDE
        if least < 2 * MAX_STRIDE:
            raise UsageError(
                f"multi_scale {self.augment.multi_scale:g} makes inputs of less than {2 * MAX_STRIDE} pixels, "
                f"the least for training, of imgsz {self.imgsz}"
            )
        if check_device(self.device) == "cpu" and self.amp == "fp16":
            raise UsageError("amp fp16 needs device='cuda'; on the CPU there is bf16")

    @property
    def folder(self) -> Path:
        return Path(self.project) / (self.name or "train")

    @property
    def base_lr(self) -> float:
        return DEFAULT_LR[self.optimizer] if self.lr is None else self.lr

    @property
    def closing_epoch(self) -> int:
        """The first epoch (from 0) without mixing; at least one epoch mixes unless the share is 1."""
        return min(self.epochs, max(self.close_mosaic < 1, self.epochs - round(self.epochs * self.close_mosaic)))

    def to_json(self) -> dict[str, Any]:
        """By name; the augmentation's values beside the others, as :func:`make` takes them."""
        values = asdict(self)
        values |= values.pop("augment")
        return values

    def changed(self, **values: Any) -> Settings:
        return replace(self, **values)

    def write(self, path: Path) -> None:
        """args.yaml: one ``name: value`` a line, every value in JSON, which is YAML."""
        lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in self.to_json().items()]
        write_atomically(path, "".join(lines).encode())


def make(values: Mapping[str, Any]) -> Settings:
    """Settings of values by name, those of the augmentation among them; UsageError names what is unknown or wrong."""
    augment = {entry.name for entry in fields(Augment)}
    known = ({entry.name for entry in fields(Settings)} - {"augment"}) | augment
    for name in values:
        if name not in known:
            raise UsageError(f"training has no setting {name!r}.{nearest(name, sorted(known))}")
    mixed = Augment(**{name: value for name, value in values.items() if name in augment})
    return Settings(augment=mixed, **{name: value for name, value in values.items() if name not in augment})


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise UsageError(f"{name} must be a whole number of at least 0, got {value!r}")


def _check_between(name: str, value: Any, low: float, high: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high or math.isinf(value):
        span = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise UsageError(f"{name} must be a number, {span}, got {value!r}")
