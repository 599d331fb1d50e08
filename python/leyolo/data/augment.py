"""What is done to pictures before they are learnt, as settings, and the order in which it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from numbers import Real

import numpy as np

from leyolo.data.mixing import cutmix, mixup, mosaic
from leyolo.data.sample import Sample, padded
from leyolo.data.transforms import affine, flip_horizontal, flip_vertical, jitter_colour, random_matrix
from leyolo.errors import UsageError

Load = Callable[[int, int], Sample]
"""Position in the dataset and size -> the picture, scaled to fit into size x size (:func:`leyolo.data.sample.fitted`),
with its boxes. Its pixels are only read."""


@dataclass(frozen=True)
class Augment:
    """How pictures are augmented, by the names and defaults that are usual for YOLO training.

    hsv_h, hsv_s, hsv_v    largest relative change of hue, saturation, value: 0 to 1
    degrees, shear         largest turn and slant, 0 to 180 and 0 to 45 degrees
    translate              largest shift, as share of the side: 0 to 0.5
    scale                  largest relative change of size: 0 to 0.9
    flipud, fliplr         chance that a picture is mirrored top to bottom, left to right
    mosaic                 chance that a picture becomes one of four
    mixup, cutmix          chance that another picture is blended in, or laid over a part
    multi_scale            largest relative change of the input's side, another for every batch: 0 to 0.5
    """

    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4
    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    shear: float = 0.0
    flipud: float = 0.0
    fliplr: float = 0.5
    mosaic: float = 1.0
    mixup: float = 0.0
    cutmix: float = 0.0
    multi_scale: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = _MOST.get(field.name, 1.0)
            if not isinstance(value, Real) or not 0 <= float(value) <= most:
                raise UsageError(f"{field.name} must be within 0..{most:g}, got {value!r}")
        if self.mixup + self.cutmix > 1:
            raise UsageError(f"mixup and cutmix must sum to 1 at most, got {self.mixup:g} + {self.cutmix:g}")

    def closed(self) -> Augment:
        """Without what joins several pictures: for the last epochs, so that training ends on pictures as they are."""
        return replace(self, mosaic=0.0, mixup=0.0, cutmix=0.0)

    @property
    def moves(self) -> bool:
        return bool(self.degrees or self.translate or self.scale or self.shear)


_MOST = {"degrees": 180.0, "shear": 45.0, "translate": 0.5, "scale": 0.9, "multi_scale": 0.5}


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """What is random about picture ``index`` in an epoch: the same whatever process, and order, it is drawn in."""
    return np.random.default_rng([seed, epoch, index])


def augmented(
    load: Load, index: int, count: int, size: int, settings: Augment, generator: np.random.Generator
) -> Sample:
    """Picture ``index`` of ``count`` as it is learnt: ``size`` x ``size`` pixels.

    Mosaic or letterbox, affine map, mixup or cutmix with another picture that was made so, colour, mirroring.
    """
    sample = _placed(load, index, count, size, settings, generator)
    chance = generator.uniform()
    if chance < settings.mixup + settings.cutmix:
        other = _placed(load, int(generator.integers(count)), count, size, settings, generator)
        joined = mixup if chance < settings.mixup else cutmix
        sample = joined(sample, other, generator)
    colours = (settings.hsv_h, settings.hsv_s, settings.hsv_v)
    sample = sample._replace(image=jitter_colour(sample.image, generator, *colours))
    if generator.uniform() < settings.flipud:
        sample = flip_vertical(sample)
    if generator.uniform() < settings.fliplr:
        sample = flip_horizontal(sample)
    return sample


def _placed(load: Load, index: int, count: int, size: int, settings: Augment, generator: np.random.Generator) -> Sample:
    if generator.uniform() < settings.mosaic:
        others = (int(other) for other in generator.integers(0, count, 3))
        sample = mosaic([load(i, size) for i in (index, *others)], size, generator)
    else:
        sample = padded(load(index, size), size, size)
    if sample.image.shape[:2] == (size, size) and not settings.moves:
        return sample
    matrix = random_matrix(
        generator,
        sample.image.shape[:2],
        (size, size),
        degrees=settings.degrees,
        translate=settings.translate,
        scale=settings.scale,
        shear=settings.shear,
    )
    return affine(sample, matrix, (size, size))
