"""What the assigner tests share: golden files, random images, comparison of twins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import leyolo._C as C
from leyolo.ops import Assignment

ISAS = ["baseline", "avx2", "avx512"]
needs_cpu = pytest.mark.skipif(
    C.build_info()["cuda"].startswith("shim"), reason="CUDA's twins do not look at data from the host"
)


def anchors(height: int, width: int, strides: Any = (8, 16, 32)) -> tuple[Tensor, Tensor]:
    """Centres [A, 2] and strides [A] of all levels."""
    centers, sizes = [], []
    for stride in map(int, strides):
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        centers.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        sizes.append(torch.full((len(centers[-1]),), float(stride)))
    return torch.cat(centers).float(), torch.cat(sizes)


def splitmix_bytes(seed: int, count: int) -> NDArray[np.int64]:
    """The top byte of splitmix64 at 0..count-1 after `seed`."""
    gamma = 0x9E3779B97F4A7C15
    start = np.uint64((seed + 1) * gamma & (2**64 - 1))
    with np.errstate(over="ignore"):
        state = np.arange(count, dtype=np.uint64) + start
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(56)).astype(np.int64)


def simota_golden(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of simota_assign as tensors, and everything the file holds."""
    file = dict(np.load(path))
    images, count = file["boxes"].shape[:2]
    classes = int(file["C"])
    if "cls_q" in file:
        codes = file["cls_q"].astype(np.float32)
    else:
        seeds = file["cls_proc_seed"]
        codes = np.concatenate([splitmix_bytes(int(s), count * classes) for s in seeds]) + int(file["cls_proc_offset"])
        codes[file["cls_ov_idx"]] = file["cls_ov_q"]
        codes = codes.reshape(images, count, classes).astype(np.float32)
    centers, strides = anchors(int(file["H"]), int(file["W"]), file["strides"])
    gts = torch.from_numpy(file["gts"])
    arguments = {
        "cls_logits": torch.from_numpy(codes * file["cls_scale"].astype(np.float32)),
        "obj_logits": torch.from_numpy(file["obj_logits"]),
        "boxes": torch.from_numpy(file["boxes"]),
        "gt_boxes": gts[..., 1:].contiguous(),
        "gt_labels": gts[..., 0].long(),
        "gt_counts": torch.from_numpy(file["num_gt"]).long(),
        "centers": centers,
        "strides": strides,
    }
    return arguments, file


def random_batch(
    images: int = 2,
    targets: int = 12,
    classes: int = 7,
    size: int = 128,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    fmt: str = "cxcywh",
) -> dict[str, Any]:
    """Arguments of simota_assign: predictions scattered around random ground truths."""
    g = torch.Generator().manual_seed(seed)
    centers, strides = anchors(size, size)
    count = len(centers)
    counts = torch.randint(0, targets + 1, (images,), generator=g)
    if images:
        counts[0] = targets
    wh = torch.rand(images, targets, 2, generator=g) * size * 0.4 + 4
    gt = torch.cat([torch.rand(images, targets, 2, generator=g) * size, wh], 2)
    labels = torch.randint(0, classes, (images, targets), generator=g)
    boxes = torch.cat([centers.expand(images, -1, -1), strides[None, :, None].expand(images, -1, 2) * 3], 2).clone()
    if targets:
        nearest = torch.cdist(boxes[..., :2], gt[..., :2]).argmin(2)
        boxes = 0.35 * boxes + 0.65 * gt.gather(1, nearest[..., None].expand(-1, -1, 4))
    boxes = boxes + torch.randn(images, count, 4, generator=g)
    boxes[..., 2:] = boxes[..., 2:].clamp(min=1)
    if fmt == "xyxy":
        boxes, gt = (torch.cat([t[..., :2] - t[..., 2:] / 2, t[..., :2] + t[..., 2:] / 2], -1) for t in (boxes, gt))
    cls_logits = torch.randn(images, count, classes, generator=g) * 2 - 1
    obj_logits = torch.randn(images, count, generator=g)
    return {
        "cls_logits": cls_logits.to(dtype),
        "obj_logits": obj_logits.to(dtype),
        "boxes": boxes.to(dtype),
        "gt_boxes": gt.to(dtype),
        "gt_labels": labels,
        "gt_counts": counts,
        "centers": centers,
        "strides": strides,
    }


def on_device(device: str, function: Any, arguments: dict[str, Any], **options: Any) -> tuple[Tensor, ...]:
    """The function's results on the CPU, its arguments having been on ``device``."""
    moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in arguments.items()}
    return tuple(result.cpu() for result in function(**moved, **options))


def one_image(arguments: dict[str, Any], b: int) -> dict[str, Any]:
    """Image b of a batch for a reference: no padding, no count."""
    count = int(arguments["gt_counts"][b])
    image: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in ("gt_boxes", "gt_labels"):
            image[name] = value[b, :count]
        elif name != "gt_counts":
            image[name] = value[b] if isinstance(value, Tensor) and name not in ("centers", "strides") else value
    return image


def check_consistent(out: Assignment, counts: Tensor) -> None:
    """What holds for every assigner's result."""
    foreground = out.gt_index >= 0
    assert [t.dtype for t in out] == [torch.int64, torch.float32, torch.float32, torch.int64, torch.int64]
    assert torch.equal(out.num_fg, foreground.sum(1))
    assert (out.gt_index >= -1).all()
    assert (out.gt_index.amax(1) < counts).all() if out.gt_index.numel() else True
    assert (out.iou[~foreground] == 0).all()
    assert (out.score[~foreground] == 0).all()
    padding = torch.arange(out.dynamic_k.shape[1]) >= counts[:, None]
    assert (out.dynamic_k[padding] == 0).all()


def same(ours: Any, expected: Any) -> None:
    for a, b in zip(ours, expected, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def numpy_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: v.numpy() if isinstance(v, Tensor) else v for k, v in arguments.items()}


def digests_on_every_isa(script: str) -> list[str]:
    """What the script (which imports numpy only) prints when run on each instruction set."""
    outputs = []
    for isa in ISAS:
        environment = {**os.environ, "LEYOLO_ISA": isa, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(run.stdout)
    return outputs
