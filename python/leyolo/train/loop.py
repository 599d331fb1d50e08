"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel

from leyolo.data.batch import Batch
from leyolo.data.dataset import Dataset
from leyolo.data.loader import Loader
from leyolo.errors import LeYOLOError
from leyolo.models.network import LeYOLONet
from leyolo.models.transfer import from_torch
from leyolo.train import state
from leyolo.train.assign import anchors
from leyolo.train.distributed import Group
from leyolo.train.log import Log
from leyolo.train.losses import PARTS, Losses, loss
from leyolo.train.memory import keep_blocks, peak_memory, trim
from leyolo.train.optimizer import learning_rate, set_learning_rate
from leyolo.train.prepare import training_mode
from leyolo.train.settings import Settings
from leyolo.train.validate import validate
from leyolo.weights import Checkpoint, save

_LEAST_SCALE = 1.0
"""A loss scale below this means that no scale keeps the fp16 gradients finite."""

_TRIM_STEPS = 16
"""Steps between two clean-ups of the heap, each of which takes some hundredths of a second."""


class DivergedError(LeYOLOError):
    """The gradient is no number any more."""


@dataclass
class Job:
    """A run: what learns, from what, and how far it is.

    network     the network itself; ``wrapped`` calls it, and brings the gradients of all processes together
    batches     of an epoch, in each process
    steps       of the optimizer, in the whole run
    metadata    text for the saved weights
    """

    settings: Settings
    assigner: str
    group: Group
    network: LeYOLONet
    wrapped: nn.Module
    parts: state.Parts
    data: Dataset
    val_data: Dataset | None
    loader: Loader
    batches: int
    steps: int
    log: Log
    metadata: Mapping[str, str]
    progress: state.Progress

    @property
    def weights(self) -> Path:
        """The folder of the weights files."""
        return self.settings.folder / "weights"

    @property
    def average(self) -> nn.Module:
        """The weights that are validated and saved."""
        ema = self.parts.ema
        return ema.module if isinstance(ema, AveragedModel) else ema

    def checkpoint(self) -> Checkpoint:
        average = self.average
        assert isinstance(average, LeYOLONet)
        return from_torch(average, dict(enumerate(self.data.names)), self.metadata)


def fit(job: Job) -> None:
    """Trains to the last epoch, or until patience ends; every epoch is validated, logged and saved."""
    keep_blocks()
    for epoch in range(job.progress.epoch, job.settings.epochs):
        started, pictures = time.perf_counter(), len(job.data) * (1 - job.progress.batches / job.batches)
        losses = learn(job, epoch)
        align_statistics(job)
        row = {"epoch": epoch + 1, "seconds": time.perf_counter() - started}
        row["images_per_s"] = pictures / row["seconds"]
        row |= {"lr": learning_rate(job.settings, job.progress.steps - 1, job.steps), "memory_mb": peak_memory()}
        row |= {f"train/{name}": value for name, value in zip(_parts(job), losses, strict=True)}
        finish(job, row)
        if _is_tired(job):
            job.log.line(f"no better mAP for {job.settings.patience} epochs: stopped after epoch {epoch + 1}")
            break


def learn(job: Job, epoch: int) -> list[float]:
    """One epoch; returns the mean of each part of the loss."""
    settings, progress = job.settings, job.progress
    training_mode(job.network, settings.freeze)
    before = progress.sums if progress.sums and job.group.leads else [0.0] * len(_parts(job))
    sums = torch.tensor(before, dtype=torch.float64, device=job.group.device)
    mixes = epoch < settings.closing_epoch
    augment = settings.augment if mixes else settings.augment.closed()
    job.loader.set_epoch(epoch, augment=augment, start=progress.batches)
    for number, batch in enumerate(job.loader, progress.batches):
        first = number - number % settings.accumulate
        together = min(settings.accumulate, job.batches - first)  # the last ones of an epoch may be fewer
        steps_now = number + 1 == first + together
        with _gradients_stay_here(job) if not steps_now else nullcontext():
            losses = forward(job, batch, epoch)
            # DDP averages over processes, and each has a share of the sum.
            job.parts.scaler.scale(losses.total * (job.group.world / together)).backward()  # type: ignore[no-untyped-call]
        sums += losses.parts
        job.log.batch(epoch, number, _parts(job), losses.parts * job.group.world)
        if steps_now:
            step(job, epoch)
            if settings.save_steps and progress.steps % settings.save_steps == 0:
                align_statistics(job)
                progress.batches, progress.sums = number + 1, job.group.total(sums).tolist()
                _save_state(job)
    progress.epoch, progress.batches, progress.sums = epoch + 1, 0, []
    return [value / job.batches for value in job.group.total(sums).tolist()]


def forward(job: Job, batch: Batch, epoch: int) -> Losses:
    """The loss of a batch, this process's share of it."""
    device, amp = job.group.device, job.settings.amp
    images, targets = batch.to(device, non_blocking=True)
    x = images.to(torch.float32).div_(255)
    dtype = torch.float16 if amp == "fp16" else torch.bfloat16
    with torch.autocast(device.type, dtype, enabled=amp != "off"):
        logits: Tensor = job.wrapped(x)
    config = job.network.config
    return loss(
        job.network.head_name,
        logits,
        targets,
        anchors(*map(int, x.shape[2:]), config.strides, device),
        assigner=job.assigner,
        reg_max=config.reg_max,
        l1=epoch >= job.settings.closing_epoch,
        across=job.group.total,
    )


def step(job: Job, epoch: int) -> None:
    """One step of the optimizer and of the averaged weights; DivergedError where the gradient is no number."""
    settings, optimizer, scaler = job.settings, job.parts.optimizer, job.parts.scaler
    set_learning_rate(optimizer, learning_rate(settings, job.progress.steps, job.steps))
    scaler.unscale_(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = float(clip_grad_norm_(parameters, settings.clip or math.inf))
    overflows = scaler.is_enabled() and scaler.get_scale() >= _LEAST_SCALE  # the scaler leaves such a step out
    if not math.isfinite(norm) and not overflows:
        raise DivergedError(
            f"the gradient became {norm} in epoch {epoch + 1}, step {job.progress.steps + 1}: training stopped\n"
            f"{job.weights} holds what was saved before. Lower --lr, lengthen --warmup or leave --amp off."
        )
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if isinstance(job.parts.ema, AveragedModel):
        job.parts.ema.update_parameters(job.network)
    job.progress.steps += 1
    if job.progress.steps % _TRIM_STEPS == 0:
        trim()


def align_statistics(job: Job) -> None:
    """The running statistics of all processes become their mean: one set is saved, and all go on from it."""
    job.group.align([*job.network.buffers(), *job.average.buffers()])


def finish(job: Job, row: dict[str, float]) -> None:
    """Validates, writes and reports an epoch. The state comes last: it says that all of this is done."""
    progress, settings = job.progress, job.settings
    checkpoint = job.checkpoint()
    due = settings.val and (progress.epoch % settings.val == 0 or progress.epoch == settings.epochs)
    metrics = validate(checkpoint, job.val_data, settings, job.group) if job.val_data is not None and due else None
    if metrics is not None:
        row |= {f"val/{name}": metrics[name] for name in ("map", "map50", "map75")}
        score = 0.0 if math.isnan(metrics["map"]) else metrics["map"]  # NaN: there is no object to find
        if score > progress.best:
            progress.best, progress.best_epoch = score, progress.epoch - 1
    best = progress.best_epoch in (-1, progress.epoch - 1)  # without a mAP yet, the last are the best known
    progress.rows.append(row)
    if job.group.leads:
        save(job.weights / "last.safetensors", checkpoint)
        if best:
            save(job.weights / "best.safetensors", checkpoint)
    _save_state(job)
    job.log.epoch(row, settings.epochs, best and metrics is not None)


def _is_tired(job: Job) -> bool:
    """Only a validated epoch can say so: another may be the better one."""
    settings, progress = job.settings, job.progress
    if not settings.patience or "val/map" not in progress.rows[-1]:
        return False
    return progress.epoch - 1 - progress.best_epoch >= settings.patience


def _save_state(job: Job) -> None:
    if not job.group.leads:
        return
    network = job.network
    about = {
        "settings": job.settings.to_json(),
        "names": list(job.data.names),
        "size": network.config.size,
        "head": network.head_name,
        "head_width": network.head_width,
        "metadata": dict(job.metadata),
        "world": job.group.world,
        "pictures": len(job.data),
    }
    state.write(job.weights / "state.safetensors", job.parts, job.progress, about)
    job.log.rows(job.progress.rows)


def _parts(job: Job) -> tuple[str, ...]:
    return PARTS[job.network.head_name]


def _gradients_stay_here(job: Job) -> AbstractContextManager[Any]:
    """Gradients of a batch that is not stepped yet need not meet those of the other processes."""
    no_sync: Any = getattr(job.wrapped, "no_sync", nullcontext)
    context: AbstractContextManager[Any] = no_sync()
    return context
