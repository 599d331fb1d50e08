"""A BGR picture into the network input: scaled, padded, RGB, float32 in 0..1, channels first in shape."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from leyolo import _C, geometry, ops
from leyolo.bench.ops.case import OURS, Case, Contestant, peer

PAD = 114


def cases(size: str, imgsz: int) -> list[Case]:
    """A wide picture (at 640 its scale is exactly 1/2, OpenCV's fast path) and a tall one."""
    return [
        Case(
            op="letterbox",
            name=f"{width}x{height} to {imgsz}x{imgsz}",
            build=partial(_build, height, width, imgsz),
            bytes=3 * height * width + 12 * imgsz * imgsz,
            tolerance=1.5 / 255,  # torch rounds otherwise than OpenCV, whose pixels ours are
        )
        for height, width in ((720, 1280), (1080, 810))
    ]


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x / (40 + 13 * c)) * np.cos(y / (60 + 17 * c)) for c in range(3)]
    return np.stack([np.clip(127 + 120 * wave, 0, 255) for wave in waves], 2).astype(np.uint8)


def _build(height: int, width: int, imgsz: int, threads: int) -> dict[str, Contestant]:
    picture = _picture(height, width)
    tensor = torch.from_numpy(picture)
    box = geometry.letterbox(height, width, imgsz)
    found = {
        OURS: Contestant(lambda: ops.letterbox(tensor, imgsz, swap_rb=True), lambda y: [y[0]]),
        "leyolo on numpy": Contestant(
            lambda: _C.letterbox(picture, imgsz, swap_rb=True), lambda y: [y[0].transpose(0, 3, 1, 2)]
        ),
        "torch, on uint8": Contestant(lambda: _torch(tensor, box, torch.uint8)),
        "torch, on float32": Contestant(lambda: _torch(tensor, box, torch.float32)),
    }
    if cv2 := peer("cv2"):
        found["cv2, without normalising"] = Contestant(lambda: _cv2(cv2, picture, box), lambda y: [_numpy(y)])
        found["cv2 and numpy"] = Contestant(lambda: _numpy(_cv2(cv2, picture, box)))
        found["cv2 and torch"] = Contestant(lambda: _normalised(torch.from_numpy(_cv2(cv2, picture, box))))
        found["cv2 and its blobFromImage"] = Contestant(
            lambda: cv2.dnn.blobFromImage(_cv2(cv2, picture, box), 1 / 255, swapRB=True)
        )
    return found


def _cv2(cv2: Any, picture: NDArray[np.uint8], box: geometry.Letterbox) -> NDArray[np.uint8]:
    small = cv2.resize(picture, (box.resized_width, box.resized_height), interpolation=cv2.INTER_LINEAR)
    bottom, right = box.height - box.top - box.resized_height, box.width - box.left - box.resized_width
    padded: NDArray[np.uint8] = cv2.copyMakeBorder(
        small, box.top, bottom, box.left, right, cv2.BORDER_CONSTANT, value=(PAD, PAD, PAD)
    )
    return padded


def _numpy(padded: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = padded[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32, order="C")
    x *= np.float32(1 / 255)
    return x


def _normalised(padded: Tensor) -> Tensor:
    return padded.permute(2, 0, 1).flip(0)[None].float().div_(255)


def _torch(picture: Tensor, box: geometry.Letterbox, dtype: torch.dtype) -> Tensor:
    x = picture.permute(2, 0, 1).flip(0)[None].to(dtype)
    x = F.interpolate(x, (box.resized_height, box.resized_width), mode="bilinear", align_corners=False)
    out = torch.full((1, 3, box.height, box.width), PAD / 255)
    inner = out[:, :, box.top : box.top + box.resized_height, box.left : box.left + box.resized_width]
    inner.copy_(x).div_(255)
    return out
