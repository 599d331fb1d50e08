"""What a training step takes: a batch of pictures with its boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Targets(NamedTuple):
    """The boxes of a batch of B pictures, padded to the G of the picture that has most.

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
        return Targets(*(each.to(device, non_blocking=non_blocking) for each in self))


class Batch(NamedTuple):
    """Pictures of one size with their boxes.

    images    uint8 [B, 3, H, W] in channels_last memory, RGB
    targets   their boxes
    """

    images: Tensor
    targets: Targets

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        return Batch(
            self.images.to(device, non_blocking=non_blocking), self.targets.to(device, non_blocking=non_blocking)
        )

    def pin_memory(self) -> Batch:
        """Copies in page-locked memory; torch's DataLoader calls this where it is asked to pin."""
        return Batch(self.images.pin_memory(), Targets(*(each.pin_memory() for each in self.targets)))
