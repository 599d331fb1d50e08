"""A plan to its batch: pictures read, augmented and stacked. This is what loader workers run."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch

from leyolo.data.augment import augmented, generator
from leyolo.data.batch import Batch, Targets
from leyolo.data.dataset import DataError, Dataset
from leyolo.data.order import Plan
from leyolo.data.sample import Sample, fitted, padded
from leyolo.errors import InputError
from leyolo.predict.images import Pixels, read_image


class Drawer:
    """Draws batches of one dataset.

    Pictures are kept, decoded and scaled, up to ``memory`` bytes: the mosaics of an epoch read each of them four times.
    What a batch holds does not depend on what was kept.
    """

    def __init__(self, dataset: Dataset, memory: int) -> None:
        self.dataset = dataset
        self._left = memory
        self._kept: OrderedDict[tuple[int, int], Sample] = OrderedDict()

    def batch(self, plan: Plan) -> Batch:
        """
        Raises:
            DataError: a picture cannot be read; the text names it.
        """
        samples = [self._sample(plan, index) for index in plan.indices]
        images = np.stack([sample.image for sample in samples])
        counts = [len(sample.labels) for sample in samples]
        most = max(1, *counts)
        boxes = np.zeros((len(samples), most, 4), np.float32)
        labels = np.zeros((len(samples), most), np.int64)
        for row, (sample, count) in enumerate(zip(samples, counts, strict=True)):
            boxes[row, :count], labels[row, :count] = sample.boxes, sample.labels
        targets = Targets(
            torch.from_numpy(boxes), torch.from_numpy(labels), torch.tensor(counts), torch.tensor(plan.indices)
        )
        return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), targets)

    def _sample(self, plan: Plan, index: int) -> Sample:
        if plan.augment is None:
            return padded(self._load(index, max(plan.height, plan.width)), plan.height, plan.width)
        random = generator(plan.seed, plan.epoch, index)
        return augmented(self._load, index, len(self.dataset), plan.height, plan.augment, random)

    def _load(self, index: int, size: int) -> Sample:
        key = index, size
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        sample = fitted(Sample(self._pixels(index), *self.dataset.objects(index)), size)
        self._kept[key] = sample
        self._left -= sample.image.nbytes
        while self._left < 0 and self._kept:
            self._left += self._kept.popitem(last=False)[1].image.nbytes
        return sample

    def _pixels(self, index: int) -> Pixels:
        record = self.dataset.images[index]
        try:
            pixels = read_image(record.path)
        except InputError as error:
            raise DataError(f"{record.path}: {error}\nFind all such pictures with: leyolo data check") from error
        if pixels.shape[:2] != (record.height, record.width):
            raise DataError(
                f"{record.path}: is {pixels.shape[1]} x {pixels.shape[0]}, but was {record.width} x {record.height} "
                "when its annotations were read"
            )
        return pixels
