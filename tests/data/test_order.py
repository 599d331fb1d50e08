"""The order of an epoch: complete, shared, reproducible, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leyolo.data.augment import Augment
from leyolo.data.dataset import PER_BOX, Dataset, ImageRecord
from leyolo.data.order import Order
from leyolo.errors import UsageError


def dataset(count: int, sizes: list[tuple[int, int]] | None = None) -> Dataset:
    """Records alone; ``sizes``: (width, height), in turns."""
    sizes = sizes or [(64, 64)]
    records = [ImageRecord(Path(f"{at}.jpg"), at, *sizes[at % len(sizes)], f"{at}.jpg") for at in range(count)]
    arrays = {key: np.zeros((0, 4) if key in ("boxes", "annotated") else 0, dtype) for key, dtype in PER_BOX.items()}
    return Dataset(tuple(records), np.zeros(count + 1, np.int64), **arrays, names=("a",), categories=(0,))


def taken(count: int, epoch: int = 0, augment: Augment | None = None, **options: Any) -> list[list[int]]:
    order = Order(imgsz=64, **options)
    return [list(plan.indices) for plan in order.plans(dataset(count), epoch, augment)]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_every_picture_comes_once_and_every_process_has_as_many_batches(
    count: int, batch: int, world: int, shuffle: bool
) -> None:
    ranks = [taken(count, batch=batch, world=world, rank=rank, shuffle=shuffle) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    assert all(0 < len(indices) <= batch for batches in ranks for indices in batches)
    seen = [index for batches in ranks for indices in batches for index in indices]
    assert set(seen) == set(range(count))
    # Only where the last batch has fewer pictures than there are processes do some come again.
    rest = count % (batch * world)
    assert len(seen) == count + (world - rest if 0 < rest < world else 0)


def test_two_processes_learn_what_one_learns_with_twice_the_batch() -> None:
    one = taken(37, batch=8)
    first, second = (taken(37, batch=4, world=2, rank=rank) for rank in (0, 1))
    assert [a + b for a, b in zip(first, second, strict=True)] == one


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert taken(50, batch=8, seed=3) == taken(50, batch=8, seed=3)
    assert taken(50, batch=8, seed=3) != taken(50, batch=8, seed=4)
    assert taken(50, epoch=1, batch=8, seed=3) != taken(50, batch=8, seed=3)
    assert taken(50, batch=8, seed=3, augment=Augment()) == taken(50, batch=8, seed=3)
    assert taken(5, batch=2, shuffle=False) == [[0, 1], [2, 3], [4]]


def test_multi_scale_changes_the_side_from_batch_to_batch() -> None:
    plans = Order(imgsz=320, batch=1).plans(dataset(100), 0, Augment(multi_scale=0.5))
    sides = {plan.height for plan in plans}
    assert all(plan.height == plan.width for plan in plans)
    assert all(side % 32 == 0 and 160 <= side <= 480 for side in sides)
    assert len(sides) > 5
    assert Order(imgsz=320, batch=1).plans(dataset(100), 0, Augment(multi_scale=0.5)) == plans


@pytest.mark.parametrize("shuffle", [True, False])
def test_rect_puts_like_shapes_together(shuffle: bool) -> None:
    data = dataset(41, [(640, 480), (480, 640), (100, 100), (640, 100)])
    plans = Order(imgsz=64, batch=4, rect=True, shuffle=shuffle).plans(data, 0, None)
    assert sorted(index for plan in plans for index in plan.indices) == list(range(41))
    assert {(plan.height, plan.width) for plan in plans} == {(32, 64), (64, 64)}
    for plan in plans:
        for index in plan.indices:
            image = data.images[index]
            assert max(image.width / plan.width, image.height / plan.height) == max(image.width, image.height) / 64
    with pytest.raises(UsageError, match="rect needs pictures as they are"):
        Order(imgsz=64, batch=4, rect=True).plans(data, 0, Augment())


def test_rect_of_a_picture_without_a_size_is_left_to_reading_it() -> None:
    data = dataset(3, [(64, 32), (0, 0), (64, 64)])
    assert [p.indices for p in Order(imgsz=64, batch=1, shuffle=False, rect=True).plans(data, 0, None)] == [
        (1,),
        (0,),
        (2,),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imgsz": 65}, "imgsz must be a positive multiple of 32, got 65"),
        ({"imgsz": 0}, "imgsz must be a positive multiple of 32"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"rank": 2, "world": 2}, "rank must be within 0..1, got 2"),
    ],
)
def test_bad_numbers_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Order(**{"imgsz": 64, "batch": 2} | change)
