"""Prediction on a GPU: network, decoding and suppression go to one stream, and the host waits once, for the boxes."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leyolo.geometry import anchor_points
from leyolo.models.config import lookup
from leyolo.models.fused import FusedNetwork
from leyolo.ops.detect_decode import detect_decode, yolox_decode
from leyolo.ops.letterbox import letterbox
from leyolo.ops.nms import nms_padded
from leyolo.predict.pipeline import Kept, Settings

if TYPE_CHECKING:
    from leyolo.weights import Checkpoint

_MOST_GRAPHS = 8
"""Kept at a time; each holds the memory of its batch."""
_MOST_BYTES = 256 << 20
"""Of a batch of whole pictures: larger ones are letterboxed before they go to the GPU."""


class GpuEngine:
    """A folded and packed model on a GPU, numpy in, numpy out. Threads may share it: they take turns.

    ``cuda_graph``: see :class:`leyolo.LeYOLO`.
    """

    input_dtype = "uint8"

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: str, *, cuda_graph: bool = False) -> None:
        self._device = torch.device(device)
        self._network = FusedNetwork(checkpoint, dtype, device=self._device)
        self._config, self._classes = lookup(checkpoint.size), checkpoint.num_classes
        self._yolox, self._cuda_graph = checkpoint.head == "yolox", cuda_graph
        self._constants: dict[Any, tuple[Tensor, ...]] = {}
        self._graphs: OrderedDict[Any, _Graph] = OrderedDict()
        self._sizes: OrderedDict[tuple[int, ...], None] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Logits [B, A, K] of [B, H, W, 3]: uint8, or float32 in 0..1."""
        with self._lock, torch.inference_mode():
            logits = self._network(torch.from_numpy(x).to(self._device).permute(0, 3, 1, 2))
            return np.asarray(logits.cpu().numpy())

    def boxes(self, x: NDArray[np.uint8], settings: Settings) -> list[Kept]:
        """Boxes in pixels of ``x`` [B, H, W, 3], scores and labels of every image, best first."""
        return self._found((), x, self.stages, settings)

    def takes_pictures(self, shape: tuple[int, ...]) -> bool:
        """Whether :meth:`pictures` is the way for a batch of pictures of this shape. With graphs only where it comes
        again: each shape has a graph of its own, which takes long to record."""
        if math.prod(shape) > _MOST_BYTES:
            return False
        if not self._cuda_graph:
            return True
        with self._lock:
            again = shape in self._sizes
            self._sizes[shape] = None
            self._sizes.move_to_end(shape)
            while len(self._sizes) > _MOST_GRAPHS // 2:  # the others are for letterboxed batches
                self._sizes.popitem(last=False)
        return again

    def pictures(self, x: NDArray[np.uint8], settings: Settings) -> list[Kept]:
        """The same for pictures [B, H, W, 3] of one size, which are letterboxed on the GPU, to the very bytes that the
        CPU would make: boxes in pixels of the network's input."""
        return self._found((settings.imgsz, settings.rect), x, self.picture_stages, settings)

    def _found(self, kind: Any, x: NDArray[np.uint8], stages: Any, settings: Settings) -> list[Kept]:
        chosen = (settings.conf, settings.iou, settings.max_det, settings.classes)
        key = kind, x.shape, chosen, settings.agnostic_nms, settings.multi_label
        run = partial(stages, settings=settings)
        with self._lock, torch.inference_mode():
            found = self._replay(key, x, run) if self._cuda_graph else self._run(x, run)
        return [_rows(image) for image in found]

    def _run(self, x: NDArray[np.uint8], run: Any) -> NDArray[np.float32]:
        return np.asarray(run(torch.from_numpy(x).to(self._device)).cpu().numpy())

    def _replay(self, key: Any, x: NDArray[np.uint8], run: Any) -> NDArray[np.float32]:
        if key not in self._graphs:
            while len(self._graphs) >= _MOST_GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[key] = _Graph(x.shape, self._device, run)
        self._graphs.move_to_end(key)
        return self._graphs[key](x)

    def picture_stages(self, x: Tensor, settings: Settings) -> Tensor:
        """Pictures uint8 [B, H, W, 3] on the device, then as :meth:`stages`."""
        stride = max(self._config.strides)
        pixels, _, _ = letterbox(x, settings.imgsz, stride=stride, rect=settings.rect, dtype=torch.uint8)
        return self.stages(pixels.permute(0, 2, 3, 1), settings)

    def stages(self, x: Tensor, settings: Settings) -> Tensor:
        """uint8 [B, H, W, 3] on the device -> float32 [B, 1 + max_det, 6]: the number of boxes in the first row, then
        x1, y1, x2, y2, score and class. Nothing here waits for the GPU once the constants have been made."""
        centers, strides = self._anchors(x.shape[1], x.shape[2])
        logits = self._network(x.permute(0, 3, 1, 2))
        common: dict[str, Any] = {"score_threshold": settings.conf, "multi_label": settings.multi_label}
        if self._yolox:
            boxes, scores, labels, counts = yolox_decode(logits, centers, strides, **common)
        else:
            boxes, scores, labels, counts = detect_decode(
                logits, centers, strides, reg_max=self._config.reg_max, **common
            )
        if settings.classes is not None:
            scores = scores.masked_fill(~self._wanted(settings.classes)[labels], -1)
        indices, kept = nms_padded(
            *(boxes, scores, None if settings.agnostic_nms else labels),
            iou_threshold=settings.iou,
            max_det=settings.max_det,
            score_threshold=settings.conf,
            counts=counts,
        )
        rows = indices.clamp(min=0)
        parts = [boxes.gather(1, rows[..., None].expand(-1, -1, 4))]
        parts += [values.gather(1, rows)[..., None].float() for values in (scores, labels)]
        first = kept[:, None, None].float().expand(-1, 1, 6)
        return torch.cat([first, torch.cat(parts, -1)], 1)

    def _anchors(self, height: int, width: int) -> tuple[Tensor, ...]:
        key = "anchors", height, width
        if key not in self._constants:
            made = anchor_points(height, width, self._config.strides)
            self._constants[key] = tuple(torch.from_numpy(values).to(self._device) for values in made)
        return self._constants[key]

    def _wanted(self, classes: tuple[int, ...]) -> Tensor:
        if ("classes", classes) not in self._constants:
            wanted = torch.zeros(self._classes, dtype=torch.bool)
            wanted[list(classes)] = True
            self._constants["classes", classes] = (wanted.to(self._device),)
        return self._constants["classes", classes][0]


def _rows(image: NDArray[np.float32]) -> Kept:
    rows = image[1 : 1 + int(image[0, 0])]
    return rows[:, :4].copy(), rows[:, 4].copy(), rows[:, 5].astype(np.int64)


class _Graph:
    """``run`` recorded for one shape of input, with memory of its own for what goes in and what comes out."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, run: Any) -> None:
        self._given = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        self._x = torch.zeros(shape, dtype=torch.uint8, device=device)
        with torch.cuda.device(device):
            stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                run(self._x)  # makes the constants, and all that is loaded at a first call
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # On a stream of this device (torch's own for captures belongs to whatever was current first), and so that
            # other threads may allocate meanwhile.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._y = run(self._x)
        self._taken = torch.empty(self._y.shape, dtype=self._y.dtype, pin_memory=True)
        self._device = device

    def __call__(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.cuda.device(self._device):
            self._given.copy_(torch.from_numpy(x))
            self._x.copy_(self._given, non_blocking=True)
            self._graph.replay()
            self._taken.copy_(self._y, non_blocking=True)
            torch.cuda.current_stream().synchronize()
        return self._taken.numpy().copy()
