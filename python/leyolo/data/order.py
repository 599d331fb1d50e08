"""In which order, and in which batches, the pictures of an epoch come. Numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leyolo import geometry
from leyolo.data.augment import Augment
from leyolo.data.dataset import Dataset
from leyolo.errors import UsageError

STRIDE = 32


@dataclass(frozen=True)
class Plan:
    """One batch of one process: all that a worker needs to know.

    indices         positions in the dataset
    height, width   of the network input
    seed, epoch     what the random numbers of the pictures come from
    augment         None: letterbox alone
    """

    indices: tuple[int, ...]
    height: int
    width: int
    seed: int
    epoch: int
    augment: Augment | None


@dataclass(frozen=True)
class Order:
    """How the pictures of an epoch are put into batches.

    A batch of the whole job is ``batch * world`` pictures in a row, of which every process takes its share: two
    processes learn the pictures of one with twice the batch. Every picture comes once in an epoch; the last batch is
    smaller. Only where it has fewer pictures than there are processes do some of its pictures come again, since all
    must have a batch.

    imgsz         side of the network input, a multiple of 32
    batch         pictures in a batch of one process
    seed          with the epoch's number, all that the order depends on
    rank, world   which process this is, and of how many
    shuffle       False: the dataset's order
    rect          batches of pictures of like shape, padded to the multiples of 32 that all fit into, not to a square
    """

    imgsz: int
    batch: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    shuffle: bool = True
    rect: bool = False

    def __post_init__(self) -> None:
        if self.imgsz < STRIDE or self.imgsz % STRIDE:
            raise UsageError(f"imgsz must be a positive multiple of {STRIDE}, got {self.imgsz}")
        if self.batch < 1:
            raise UsageError(f"batch must be 1 or more, got {self.batch}")
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, got {self.seed}")
        if not 0 <= self.rank < self.world:
            raise UsageError(f"rank must be within 0..{self.world - 1}, got {self.rank}")

    def plans(self, dataset: Dataset, epoch: int, augment: Augment | None) -> list[Plan]:
        """The batches of this process in an epoch, in order. Shapes with ``rect`` suit pictures that are not
        augmented: augmented ones become squares.

        Raises:
            UsageError: ``rect`` together with ``augment``.
        """
        if self.rect and augment is not None:
            raise UsageError("rect needs pictures as they are: augmented ones are square")
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(dataset)) if self.shuffle else np.arange(len(dataset))
        if self.rect:
            order = order[np.argsort([_ratio(dataset, i) for i in order], kind="stable")]
        step = self.batch * self.world
        groups = [order[at : at + step] for at in range(0, len(order), step)]
        if self.rect and self.shuffle:
            groups = [groups[i] for i in random.permutation(len(groups))]
        sides = [self._side(random, augment) for _ in groups]
        return [self._plan(dataset, group, side, epoch, augment) for group, side in zip(groups, sides, strict=True)]

    def _side(self, random: np.random.Generator, augment: Augment | None) -> int:
        change = augment.multi_scale if augment else 0.0
        if not change:
            return self.imgsz
        return max(STRIDE, round(self.imgsz * random.uniform(1 - change, 1 + change) / STRIDE) * STRIDE)

    def _plan(self, dataset: Dataset, group: NDArray[np.int64], side: int, epoch: int, augment: Augment | None) -> Plan:
        height = width = side
        if self.rect:
            shapes = [_rect(dataset, int(i), side) for i in group]
            height, width = (max(lengths) for lengths in zip(*shapes, strict=True))
        if len(group) < self.world:
            group = np.resize(group, self.world)
        first, last = (len(group) * part // self.world for part in (self.rank, self.rank + 1))
        indices = tuple(int(i) for i in group[first:last])
        return Plan(indices, height, width, self.seed, epoch, augment)


def _ratio(dataset: Dataset, index: int) -> float:
    """A picture that cannot be read has no size here: who draws it says what is wrong with it."""
    image = dataset.images[index]
    return image.height / max(image.width, 1)


def _rect(dataset: Dataset, index: int, side: int) -> tuple[int, int]:
    image = dataset.images[index]
    if not image.width:
        return STRIDE, STRIDE
    box = geometry.letterbox(image.height, image.width, side, stride=STRIDE, rect=True)
    return box.height, box.width
