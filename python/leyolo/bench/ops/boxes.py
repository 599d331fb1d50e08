"""Random boxes, as detectors make them, and pictures full of them, as training sees them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from leyolo import geometry

STRIDES = (8, 16, 32)


def scattered(count: int, seed: int = 0) -> Tensor:
    """float32 [N, 4] xyxy, all over an image of 640 x 640."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g) * 560
    return torch.cat([corner, corner + 8 + torch.rand(count, 2, generator=g) * 72], 1)


def clustered(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes [N, 4] in groups of 20 that overlap, in any order, and scores [N]: what reaches a detector's NMS."""
    g = torch.Generator().manual_seed(seed)
    groups = -(-count // 20)
    centers = torch.rand(groups, 2, generator=g) * 1240 + 20
    sizes = torch.rand(groups, 2, generator=g) * 100 + 20
    of = torch.randint(groups, (count,), generator=g)
    middle = centers[of] + torch.randn(count, 2, generator=g) * sizes[of] * 0.125
    half = sizes[of] * (1 + torch.randn(count, 2, generator=g) * 0.125).clamp(0.5, 1.5) / 2
    return torch.cat([middle - half, middle + half], 1), torch.rand(count, generator=g)


@dataclass(frozen=True)
class Scene:
    """What an assigner reads: B images of ``imgsz`` x ``imgsz``, A anchors, G objects, 80 classes; boxes are xyxy."""

    cls_logits: Tensor
    obj_logits: Tensor
    boxes: Tensor
    gt_boxes: Tensor
    gt_labels: Tensor
    gt_counts: Tensor
    centers: Tensor
    strides: Tensor

    def to(self, device: str) -> Scene:
        return Scene(*(getattr(self, field.name).to(device) for field in fields(self)))


def scene_bytes(images: int, objects: int, imgsz: int) -> int:
    """Of a scene and its assignment."""
    anchors = sum((imgsz // stride) ** 2 for stride in STRIDES)
    return images * (anchors * (4 * 85 + 16) + objects * 32)


def scene(images: int, objects: int, imgsz: int) -> Scene:
    """Objects all over the image; predictions round their anchors, drawn towards the nearest object."""
    g = torch.Generator().manual_seed(0)
    centers, strides = map(torch.from_numpy, geometry.anchor_points(imgsz, imgsz, STRIDES))
    anchors = len(strides)
    middle = torch.rand(images, objects, 2, generator=g) * imgsz
    half = torch.rand(images, objects, 2, generator=g) * imgsz * 0.15 + 4
    gt = torch.cat([middle - half, middle + half], 2)
    own = torch.cat([centers - 1.5 * strides[:, None], centers + 1.5 * strides[:, None]], 1)
    nearest = torch.stack([torch.cdist(centers, each).argmin(1) for each in middle])
    boxes = 0.35 * own + 0.65 * gt.gather(1, nearest[..., None].expand(-1, -1, 4))
    inwards = torch.tensor([1.0, 1.0, -1.0, -1.0])
    boxes = boxes + torch.rand(images, anchors, 4, generator=g) * inwards
    return Scene(
        cls_logits=torch.randn(images, anchors, 80, generator=g) * 2 - 3,
        obj_logits=torch.randn(images, anchors, generator=g),
        boxes=boxes,
        gt_boxes=gt,
        gt_labels=torch.randint(80, (images, objects), generator=g),
        gt_counts=torch.full((images,), objects),
        centers=centers,
        strides=strides,
    )
