"""One runtime in a process of its own: loads a model, gives its outputs, then measures a turn whenever it is asked.

Run as ``python -m leyolo.bench.runtimes`` by :mod:`leyolo.bench.model`; they talk in JSON lines over stdin and stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leyolo import __version__, weights
from leyolo.bench.timing import Run, turn
from leyolo.weights import Checkpoint

Array = NDArray[Any]

CONFIDENCE, IOU, MAX_DETECTIONS = 0.25, 0.7, 300


@dataclass(frozen=True)
class Job:
    """What to run: ``x`` float32 [B, H, W, 3] in 0..1 for a network, uint8 [H, W, 3] for a pipeline."""

    checkpoint: Checkpoint
    x: Array
    imgsz: tuple[int, int]
    threads: int


def _leyolo(job: Job) -> tuple[Run, str]:
    from leyolo import _C
    from leyolo.runtime import Engine

    _C.set_num_threads(job.threads)
    engine = Engine(job.checkpoint)
    return lambda: engine(job.x), __version__


def _torch(job: Job, *, channels_last: bool = False, folded: bool = False, compiled: bool = False) -> tuple[Run, str]:
    import torch

    from leyolo.models.transfer import to_torch

    torch.set_num_threads(job.threads)
    network = to_torch(job.checkpoint).eval()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    if folded:
        network.fold()
    x = torch.from_numpy(job.x).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    forward: Callable[..., Any] = network
    if compiled:
        # Weights packed for oneDNN, torch.compile's fastest form; it is not applied in inference mode.
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.freezing = True
        forward = torch.compile(network, fullgraph=True)

    def run() -> Array:
        with torch.no_grad() if compiled else torch.inference_mode():
            logits: Array = forward(x).numpy()
            return logits

    return run, torch.__version__


def _fused(job: Job) -> tuple[Run, str]:
    import torch

    from leyolo.models.fused import FusedNetwork

    torch.set_num_threads(job.threads)
    network = FusedNetwork(job.checkpoint)
    x = torch.from_numpy(job.x).permute(0, 3, 1, 2)

    def run() -> Array:
        with torch.inference_mode():
            logits: Array = network(x).numpy()
            return logits

    return run, __version__


def _onnxruntime(job: Job) -> tuple[Run, str]:
    import torch

    from leyolo.models.transfer import to_torch

    runtime = importlib.import_module("onnxruntime")
    network = to_torch(job.checkpoint).eval().fold()
    x = np.ascontiguousarray(job.x.transpose(0, 3, 1, 2))
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        torch.onnx.export(network, (torch.from_numpy(x),), path, dynamo=True, verbose=False)
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}

    def run() -> Array:
        logits: Array = session.run(None, feed)[0]
        return logits

    return run, runtime.__version__


def _predict_leyolo(job: Job) -> tuple[Run, str]:
    from leyolo import _C
    from leyolo.predict.pipeline import Pipeline, Settings
    from leyolo.runtime import Engine

    _C.set_num_threads(job.threads)
    c = job.checkpoint
    pipeline = Pipeline(Engine(c), num_classes=c.num_classes, strides=c.strides, head=c.head)
    settings = Settings(imgsz=job.imgsz, conf=CONFIDENCE, iou=IOU, max_det=MAX_DETECTIONS)

    def run() -> Array:
        found = pipeline([job.x], settings)[0]
        return np.concatenate([found.boxes, found.scores[:, None], found.labels[:, None]], 1)

    return run, __version__


def _predict_torch(job: Job) -> tuple[Run, str]:
    """The same steps as one writes them with torch and OpenCV; NMS from torchvision where it is installed."""
    import torch

    from leyolo.models.transfer import to_torch

    cv2 = importlib.import_module("cv2")
    try:
        batched_nms = importlib.import_module("torchvision.ops").batched_nms
    except ImportError:  # torch itself has none
        batched_nms = importlib.import_module("leyolo.ops").batched_nms
    if job.checkpoint.head != "leyolo":
        raise ModuleNotFoundError("the pipeline in torch is written for the leyolo head")
    torch.set_num_threads(job.threads)
    cv2.setNumThreads(job.threads)
    network = to_torch(job.checkpoint).eval().fold()
    reg_max = job.checkpoint.config.reg_max
    grids = []
    for stride in job.checkpoint.strides:
        y, x = (torch.arange(side // stride) * float(stride) + stride / 2 for side in job.imgsz)
        grids.append(
            torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.full((len(y), len(x)), float(stride))], 2)
        )
    cells = torch.cat([grid.flatten(0, 1) for grid in grids])
    anchors, steps = cells[:, :2], cells[:, 2:]
    bins = torch.arange(reg_max, dtype=torch.float32)
    height, width = job.x.shape[:2]
    scale = min(job.imgsz[0] / height, job.imgsz[1] / width)
    inner = (round(width * scale), round(height * scale))
    left, top = (round((outer - side) / 2 - 0.1) for outer, side in zip(job.imgsz[::-1], inner, strict=True))
    right, bottom = job.imgsz[1] - inner[0] - left, job.imgsz[0] - inner[1] - top

    def run() -> Array:
        picture = job.x if inner == (width, height) else cv2.resize(job.x, inner, interpolation=cv2.INTER_LINEAR)
        picture = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        with torch.inference_mode():
            x = torch.from_numpy(picture).permute(2, 0, 1)[None].float().div_(255)
            logits = network(x.contiguous(memory_format=torch.channels_last))[0]
            scores, labels = logits[:, 4 * reg_max :].sigmoid().max(1)
            keep = scores > CONFIDENCE
            logits, scores, labels = logits[keep], scores[keep], labels[keep]
            sides = logits[:, : 4 * reg_max].view(-1, 4, reg_max).softmax(2) @ bins * steps[keep]
            boxes = torch.cat([anchors[keep] - sides[:, :2], anchors[keep] + sides[:, 2:]], 1)
            best = batched_nms(boxes, scores, labels, IOU)[:MAX_DETECTIONS]
            boxes = (boxes[best] - torch.tensor([left, top, left, top])) / scale
            boxes[:, 0::2].clamp_(0, width)
            boxes[:, 1::2].clamp_(0, height)
            return torch.cat([boxes, scores[best, None], labels[best, None]], 1).numpy()

    return run, torch.__version__


OURS = "leyolo"
PREDICT_OURS = "predict leyolo"

NETWORKS: dict[str, Callable[[Job], tuple[Run, str]]] = {
    OURS: _leyolo,
    "leyolo on torch tensors": _fused,
    "torch": _torch,
    "torch channels_last": partial(_torch, channels_last=True),
    "torch folded": partial(_torch, folded=True),
    "torch channels_last folded": partial(_torch, channels_last=True, folded=True),
    "torch.compile": partial(_torch, channels_last=True, folded=True, compiled=True),
    "onnxruntime": _onnxruntime,
}
"""Image tensors to logits."""

PIPELINES: dict[str, Callable[[Job], tuple[Run, str]]] = {
    PREDICT_OURS: _predict_leyolo,
    "predict torch channels_last": _predict_torch,
}
"""A picture to boxes [n, 6]: xyxy, score, class; one picture at a time."""


def _load(order: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    job = Job(weights.load(order["weights"]), np.load(order["input"]), tuple(order["imgsz"]), order["threads"])
    run, version = (NETWORKS | PIPELINES)[order["runtime"]](job)
    np.save(Path(order["output"]), run())
    return run, {"version": version}


def main() -> None:
    """Answers orders until stdin ends. What libraries print goes to stderr, away from the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run: Run | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if run is None:
                run, answer = _load(order)
            else:
                answer = {"ms": turn(run, order["seconds"])}
        except Exception as error:  # whatever a runtime raises, the driver says which one it was
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
