"""The batches of an epoch, as the settings ask for them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from leyolo.data.augment import Augment
from leyolo.data.batch import Batch
from leyolo.data.loader import loader

if TYPE_CHECKING:
    from leyolo.train.loop import Job
    from leyolo.train.settings import Settings


def batches_per_epoch(pictures: int, batch: int, world: int) -> int:
    return math.ceil(pictures / (batch * world))


def augmentation(settings: Settings, epoch: int) -> Augment:
    """Mixing of pictures ends with the closing epochs; the rest stays."""
    mixes = epoch < settings.closing_epoch
    return Augment(mosaic=settings.mosaic * mixes, mixup=settings.mixup * mixes, cutmix=settings.cutmix * mixes)


def training_batches(job: Job, epoch: int) -> Iterable[Batch]:
    """What is left of the epoch, for this process."""
    settings = job.settings
    return loader(
        job.data,
        imgsz=settings.imgsz,
        batch=settings.batch,
        seed=settings.seed,
        epoch=epoch,
        augment=augmentation(settings, epoch),
        workers=settings.workers,
        rank=job.group.rank,
        world=job.group.world,
        start=job.progress.batches,
    )
