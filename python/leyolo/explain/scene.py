"""A picture as the network sees it in training: its pixels, its objects, and what is predicted at every anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leyolo import _C
from leyolo.data.batch import Targets
from leyolo.explain.truths import Truths, model_classes
from leyolo.predict import backends
from leyolo.predict.images import Pixels
from leyolo.predict.pipeline import Pipeline
from leyolo.train.assign import Anchors, anchors
from leyolo.train.losses import corners, distances, yolox_boxes


@dataclass(frozen=True)
class Scene:
    """One picture, A anchors, G objects, C classes.

    image        uint8 [H, W, 3], the network input
    content      (left, top, right, bottom) of the picture inside the padding
    scale        input pixels per picture pixel
    targets      a batch of one; boxes xyxy in input pixels
    names        [G], the objects' class names
    cls_logits   [1, A, C]
    obj_logits   [1, A], None for a head without objectness
    boxes        [1, A, 4], predicted, xyxy in input pixels
    points       the anchors
    """

    image: Pixels
    content: tuple[int, int, int, int]
    scale: float
    targets: Targets
    names: tuple[str, ...]
    cls_logits: Tensor
    obj_logits: Tensor | None
    boxes: Tensor
    points: Anchors

    @property
    def levels(self) -> list[int]:
        """The strides, finest first."""
        return sorted({int(stride) for stride in self.points.strides.tolist()})


class Predictor:
    """A model that says what it predicts at every anchor.

    Args:
        model: weights file or model name. None: the weights inside the package; where there are none, a nano network
            as training from scratch starts with it.
        names: the classes of the objects. A model that lacks one of them gets an untrained last class layer, as
            fine-tuning starts with it. None: the model's own.
        seed: of what is untrained.

    ``source`` says in words what predicts; ``classes`` has the model's class for each of ``names``.
    """

    def __init__(self, model: str | None, names: Sequence[str] | None, *, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.checkpoint, self.classes, self.source = _opened(model, names)
        self.head: str = self.checkpoint.head
        self.strides: tuple[int, ...] = tuple(self.checkpoint.strides)
        self.names: dict[int, str] = dict(self.checkpoint.names)
        self.pipeline = Pipeline(
            backends.engine(self.checkpoint, "cpu", "float32"),
            num_classes=self.checkpoint.num_classes,
            strides=self.strides,
            head=self.head,
        )

    def scene(self, pixels: Pixels, truths: Truths, size: int | tuple[int, int]) -> Scene:
        """The picture letterboxed to ``size`` as in training, with objects and predictions."""
        stride, engine = max(self.strides), self.pipeline.engine
        image, scale, (left, top) = _C.letterbox(pixels, size, stride=stride, dtype="uint8")
        x, _, _ = _C.letterbox(pixels, size, stride=stride, dtype=getattr(engine, "input_dtype", "float32"))
        height, width = (
            min(round(side * scale), limit) for side, limit in zip(pixels.shape[:2], image.shape[1:3], strict=True)
        )
        points = anchors(image.shape[1], image.shape[2], self.strides)
        cls_logits, obj_logits, boxes = self._split(torch.from_numpy(np.array(engine(x), np.float32)), points)
        return Scene(
            image=image[0],
            content=(left, top, left + width, top + height),
            scale=float(scale),
            targets=self._targets(truths, scale, (left, top)),
            names=tuple(truths.names[i] if truths.names else self.names[i] for i in truths.labels.tolist()),
            cls_logits=cls_logits,
            obj_logits=obj_logits,
            boxes=boxes,
            points=points,
        )

    def _targets(self, truths: Truths, scale: float, padding: tuple[int, int]) -> Targets:
        boxes = truths.boxes * np.float32(scale) + np.array([*padding, *padding], np.float32)
        labels: NDArray[np.int64] = truths.labels
        if self.classes is not None:
            labels = np.array(self.classes, np.int64)[labels]
        return Targets(
            torch.from_numpy(boxes.astype(np.float32))[None],
            torch.from_numpy(labels.astype(np.int64))[None],
            torch.tensor([len(labels)]),
            torch.zeros(1, dtype=torch.int64),
        )

    def _split(self, logits: Tensor, points: Anchors) -> tuple[Tensor, Tensor | None, Tensor]:
        """Class logits, objectness logits and boxes of raw outputs [1, A, …]."""
        if self.head == "yolox":
            return logits[..., 5:], logits[..., 4], yolox_boxes(logits[..., :4], *points)
        box_channels = logits.shape[-1] - self.pipeline.num_classes
        return logits[..., box_channels:], None, corners(distances(logits[..., :box_channels]), *points)


def _opened(model: str | None, names: Sequence[str] | None) -> tuple[Any, list[int] | None, str]:
    checkpoint = backends.load_weights(model)
    source = "the weights of this package" if model is None else str(model).replace("\\", "/").rpartition("/")[2]
    if names is None:
        return checkpoint, None, source
    classes = model_classes(names, checkpoint.names)
    if classes is not None:
        return checkpoint, classes, source
    fresh = backends.with_new_head(checkpoint, len(names), checkpoint.head)
    return (
        fresh,
        list(range(len(names))),
        f"{source}, with an untrained class layer: it does not know all of the classes",
    )
