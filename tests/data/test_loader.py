"""Batches: the same whoever makes them, and an error that names its cause."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotated import write_voc, write_yolo
from leyolo.data import DataError, Dataset, read
from leyolo.data.augment import Augment
from leyolo.data.batch import Batch
from leyolo.data.loader import Loader, LoaderError, loader
from leyolo.data.order import Order
from leyolo.errors import LeYOLOError, UsageError

pytest.importorskip("cv2")

CAT = ("cat", (10.0, 20.0, 50.0, 60.0))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Nine pictures with 0 to 2 boxes."""
    return read(write_voc(tmp_path / "v", {f"p{n}": [CAT, ("dog", (0, 0, 90, 90))][: n % 3] for n in range(9)}),
                split="train")  # fmt: skip


def batches(dataset: Dataset, **options: Any) -> list[Batch]:
    defaults = {"imgsz": 64, "batch": 4, "seed": 5, "epoch": 2, "augment": Augment()}
    return list(loader(dataset, **defaults | options))


def same(first: list[Batch], second: list[Batch]) -> bool:
    tensors = [[b.images, b.targets.boxes, b.targets.labels, b.targets.counts, b.targets.index] for b in first]
    others = [[b.images, b.targets.boxes, b.targets.labels, b.targets.counts, b.targets.index] for b in second]
    return len(tensors) == len(others) and all(
        torch.equal(a, b) for x, y in zip(tensors, others, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("augment", [None, Augment(mixup=0.3, cutmix=0.3)])
def test_shapes_and_types(augment: Augment | None, data: Dataset) -> None:
    made = batches(data, augment=augment)
    assert [len(batch.images) for batch in made] == [4, 4, 1]
    assert sorted(torch.cat([batch.targets.index for batch in made]).tolist()) == list(range(9))
    for images, targets in made:
        assert images.shape[1:] == (3, 64, 64)
        assert images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)
        most = targets.boxes.shape[1]
        assert most >= 1
        assert targets.boxes.shape == (len(images), most, 4)
        assert targets.labels.shape == (len(images), most)
        assert (targets.boxes.dtype, targets.labels.dtype, targets.counts.dtype) == (
            torch.float32,
            torch.int64,
            torch.int64,
        )
        padding = torch.arange(most) >= targets.counts[:, None]
        assert targets.boxes[padding].abs().sum() == 0
        assert targets.labels[padding].abs().sum() == 0
        sides = (targets.boxes[..., 2:] - targets.boxes[..., :2])[~padding]
        assert (sides > 0).all()
        assert (targets.boxes >= 0).all()
        assert (targets.boxes <= 64).all()


def test_without_augmentation_it_is_the_letterbox(data: Dataset) -> None:
    from leyolo import _C
    from leyolo.predict.images import read_image

    (first, *_) = batches(data, augment=None, shuffle=False)
    expected, scale, (left, top) = _C.letterbox(read_image(data.images[2].path), 64, dtype="uint8")
    assert np.array_equal(first.images[2].permute(1, 2, 0).numpy(), expected[0])
    boxes = data.boxes[data.rows(2)] * scale + [left, top, left, top]
    assert np.allclose(first.targets.boxes[2, : first.targets.counts[2]].numpy(), boxes, atol=1e-4)


def test_rect(data: Dataset) -> None:
    assert {tuple(b.images.shape[2:]) for b in batches(data, augment=None, rect=True)} == {(64, 64)}
    assert {tuple(b.images.shape[2:]) for b in batches(data, augment=None, rect=True, imgsz=128)} == {(96, 128)}


def test_the_same_batches_whoever_makes_them(data: Dataset) -> None:
    alone = batches(data)
    state = torch.get_rng_state()
    with_workers = loader(data, imgsz=64, batch=4, seed=5, epoch=2, augment=Augment(), workers=2)
    assert same(list(with_workers), alone)
    assert torch.equal(torch.get_rng_state(), state)  # training's own random numbers are left alone
    # The workers live on: another epoch, and one that is resumed in the middle.
    with_workers.set_epoch(3, augment=Augment().closed())
    assert same(list(with_workers), batches(data, epoch=3, augment=Augment().closed()))
    with_workers.set_epoch(2, augment=Augment(), start=1)
    assert len(with_workers) == 2
    assert same(list(with_workers), alone[1:])


def test_an_epoch_resumes_where_it_stopped(data: Dataset) -> None:
    whole = batches(data)
    for start in range(4):
        assert same(batches(data, start=start), whole[start:])
    with pytest.raises(UsageError, match=r"start must be within 0\.\.3"):
        batches(data, start=4)
    with pytest.raises(UsageError, match="workers must be 0 or more"):
        batches(data, workers=-1)


def test_what_is_kept_in_memory_does_not_show(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batches(data)
    for memory in (0, 20_000):  # none, and two pictures
        monkeypatch.setattr("leyolo.data.loader.MEMORY", memory)
        assert same(batches(data), whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named(workers: int, data: Dataset) -> None:
    data.images[3].path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"p3\.jpg: is not an image .*\nFind all such pictures with: leyolo data check"):
        batches(data, workers=workers)


def test_a_picture_that_has_changed_is_named(data: Dataset) -> None:
    data.images[3].path.write_bytes(data.images[4].path.read_bytes())
    assert batches(data)  # another picture of the same size is not noticed
    from annotated import write_picture

    write_picture(data.images[3].path, 20, 20)
    with pytest.raises(DataError, match=r"p3\.jpg: is 20 x 20, but was 200 x 150"):
        batches(data)


def worker_of(running: Loader) -> int:
    """The process id of the one worker of a loader that has been started."""
    (worker,) = running._batches._iterator._workers
    return int(worker.pid)


def test_an_epoch_may_be_left_early(data: Dataset) -> None:
    running = loader(data, imgsz=64, batch=1, seed=5, epoch=0, augment=Augment(), workers=1)
    for batch in running:
        assert len(batch.images) == 1
        break
    running.set_epoch(1, augment=Augment())
    assert same(list(running), batches(data, batch=1, epoch=1))


def test_a_killed_worker_ends_the_run_with_its_cause(data: Dataset) -> None:
    many = data.subset([n % 9 for n in range(400)])
    running = loader(many, imgsz=64, batch=1, seed=0, epoch=0, augment=Augment(), workers=1)

    def kill() -> None:
        for batch in running:
            os.kill(worker_of(running), signal.SIGKILL)
            assert len(batch.images)

    with pytest.raises(LoaderError, match="a loader worker ended, most often for lack of memory"):
        kill()


def test_a_worker_that_dies_while_it_is_waited_for_is_noticed_soon(data: Dataset) -> None:
    """Long before the time-out, though no signal comes from the children of a fork server."""
    running = loader(
        data.subset([n % 9 for n in range(100)]), imgsz=64, batch=1, seed=0, epoch=0, augment=None, workers=1
    )
    batches = iter(running)
    next(batches)
    worker = worker_of(running)
    os.kill(worker, signal.SIGSTOP)  # so that it has not answered when it dies
    killer = threading.Timer(1.0, os.kill, (worker, signal.SIGKILL))
    killer.start()
    started = time.monotonic()
    with pytest.raises(LoaderError, match="a loader worker ended"):
        list(batches)
    assert 1 < time.monotonic() - started < 60


def test_a_worker_that_died_after_an_epoch_is_noticed_before_the_next(data: Dataset) -> None:
    running = loader(data, imgsz=64, batch=4, seed=0, epoch=0, augment=None, workers=1)
    list(running)
    os.kill(worker_of(running), signal.SIGKILL)
    running._batches._iterator._workers[0].join(10)
    running.set_epoch(1, augment=None)
    started = time.monotonic()
    with pytest.raises(LoaderError, match="a loader worker ended"):
        list(running)
    assert time.monotonic() - started < 30  # the time-out is two minutes


def test_a_worker_killed_with_the_lock_of_the_last_word_holds_nobody(data: Dataset) -> None:
    """As by the system for lack of memory, while it looked whether it should end."""
    running = loader(data, imgsz=64, batch=4, seed=0, epoch=0, augment=None, workers=1)
    list(running)
    worker, done = worker_of(running), running._batches._iterator._workers_done_event
    lock = done._event._cond
    while True:  # until nobody else holds it
        os.kill(worker, signal.SIGSTOP)
        if lock.acquire(timeout=1):
            break
        os.kill(worker, signal.SIGCONT)
    os.kill(worker, signal.SIGKILL)
    started = time.monotonic()
    done.set()
    assert done.is_set()
    del running  # which sets it once more
    assert time.monotonic() - started < 60


def test_workers_end_with_their_loader(data: Dataset) -> None:
    running = loader(data, imgsz=64, batch=4, seed=0, epoch=0, augment=None, workers=1)
    list(running)
    process = running._batches._iterator._workers[0]
    del running  # at once, without the garbage collection
    process.join(30)
    assert process.exitcode == 0, "it was told to end, not killed"


def test_a_script_without_a_guard_is_told(data: Dataset, tmp_path: Path) -> None:
    """Its workers start by running it, and end since it would start workers."""
    script = tmp_path / "script.py"
    script.write_text(
        "from leyolo.data import read\nfrom leyolo.data.loader import loader\n"
        f"data = read({str(tmp_path / 'v')!r}, split='train')\n"
        "list(loader(data, imgsz=64, batch=4, seed=0, epoch=0, augment=None, workers=1))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert 'a script needs: if __name__ == "__main__":' in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_workers_that_stand_still_are_given_up(data: Dataset) -> None:
    """As on a disk that does not answer: nobody writes into the pipe that a picture has become."""
    path = data.images[8].path
    path.unlink()
    os.mkfifo(path)
    order = Order(imgsz=64, batch=1, shuffle=False)
    batches = iter(Loader(data, order, augment=None, workers=1, timeout=8))
    assert [next(batches).targets.index.tolist() for _ in range(8)] == [[n] for n in range(8)]
    started = time.monotonic()
    with pytest.raises(LoaderError, match=r"no batch for 8 s") as error:
        next(batches)
    assert isinstance(error.value, LeYOLOError)  # the command says it, without a traceback
    assert 8 <= time.monotonic() - started < 60


def test_many_boxes(tmp_path: Path) -> None:
    line = "\n".join(f"0 {0.05 + 0.9 * n / 5000:.5f} 0.5 0.05 0.5" for n in range(5000))
    data = read(write_yolo(tmp_path, {"train": {"a": line, "b": ""}}), split="train")
    (batch,) = batches(data, augment=None, batch=2)
    assert sorted(batch.targets.counts.tolist()) == [0, 5000]
    assert batch.targets.boxes.shape == (2, 5000, 4)


def test_moving_a_batch(data: Dataset) -> None:
    (first, *_) = batches(data)
    moved = first.to("meta")
    assert (moved.images.device.type, moved.targets.boxes.device.type) == ("meta", "meta")
