"""What a training step takes: a batch of pictures with its boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """The boxes of a batch of B pictures, padded to the G of the picture that has most, at least 1.

    boxes    float32 [B, G, 4], xyxy in pixels of the network input; zeros behind a picture's last
    labels   int64 [B, G], class indices; zeros behind a picture's last
    counts   int64 [B], how many of G are boxes
    index    int64 [B], the pictures' positions in the dataset
    """

    boxes: Tensor
    labels: Tensor
    counts: Tensor
    index: Tensor

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Targets:
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Targets:
        """Copies in page-locked memory: torch's DataLoader calls this where it is asked to pin."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Targets:
        return Targets(change(self.boxes), change(self.labels), change(self.counts), change(self.index))


class Batch(NamedTuple):
    """Pictures of one size with their boxes.

    images    uint8 [B, 3, H, W] in channels_last memory, RGB
    targets   their boxes
    """

    images: Tensor
    targets: Targets

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        images = self.images.to(device, non_blocking=non_blocking)
        return Batch(images, self.targets.to(device, non_blocking=non_blocking))
