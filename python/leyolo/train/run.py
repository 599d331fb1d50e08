"""A run from its settings to its folder: ``weights/{best,last,state}.safetensors``, ``results.csv``, ``args.yaml``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from leyolo.data.dataset import Dataset
from leyolo.data.formats import names_pictures
from leyolo.data.loader import loader
from leyolo.data.read import read
from leyolo.data.splits import splits
from leyolo.errors import InputError, UsageError
from leyolo.eval.coco import require_engine
from leyolo.models.config import check_head, lookup
from leyolo.models.network import LeYOLONet, build
from leyolo.train import state
from leyolo.train.assign import check_assigner
from leyolo.train.distributed import Group, joined
from leyolo.train.log import Log
from leyolo.train.loop import Job, fit
from leyolo.train.optimizer import averaged, make_optimizer
from leyolo.train.plots import draw_data, draw_results
from leyolo.train.prepare import fit_statistics, freeze, from_checkpoint, from_scratch
from leyolo.train.settings import Settings, make
from leyolo.weights import Checkpoint

RESUMABLE = (
    "epochs", "device", "workers", "patience", "timeout", "save_steps", "plots", "val", "tensorboard", "exist_ok",
)  # fmt: skip
"""What may differ when a run goes on; anything else would make it another run."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, both weights files, the rows of results.csv, and the best epoch (from 1; 0: none)
    with its mAP."""

    folder: Path
    best: Path
    last: Path
    rows: Sequence[dict[str, float]]
    best_epoch: int
    map: float


def train(settings: Settings, start: Checkpoint | str, *, quiet: bool = False) -> TrainResult:
    """Trains ``start``: a checkpoint's weights, or the fresh network of a size ("n", "leyolo-s", …).

    Raises:
        UsageError: settings that do not fit, or a run folder that exists. InputError: data that cannot be used.
        DivergedError: the gradient became no number. ProcessError: another process of the run ended.
    """
    if isinstance(start, str):
        try:
            start = lookup(start).size
        except ValueError as error:
            raise UsageError(str(error)) from None
    settings = _absolute(settings)
    with joined(settings.device, settings.timeout) as group:
        head = check_head(settings.head or ("leyolo" if isinstance(start, str) else start.head))
        settings = settings.changed(head=head, assigner=check_assigner(settings.assigner, head))
        group.led(lambda: _check_free(settings))
        data, val_data = _datasets(settings, None)
        torch.manual_seed(settings.seed)
        if isinstance(start, str):
            network, metadata = from_scratch(start, len(data.names), head, settings.imgsz), dict[str, str]()
        else:
            network = from_checkpoint(start, data.names, head, settings.imgsz)
            known = {"license": "license", "source_sha256": "started_from_sha256"}
            metadata = {known[key]: text for key, text in start.metadata.items() if key in known}
        settings = settings.changed(name=group.led(lambda: _claim(settings)))
        return _run(settings, group, network, (data, val_data), metadata, None, quiet)


def resume(folder: Path, changes: dict[str, Any], *, quiet: bool = False) -> TrainResult:
    """Goes on with the run in ``folder``, on the CPU to the bit as if it had not stopped. A larger ``epochs`` among the
    ``changes`` extends it."""
    path = folder / "weights" / "state.safetensors"
    if not path.is_file():
        raise InputError(f"{path}: there is no run to resume here")
    saved = state.read(path)
    settings = _changed(
        make({**saved.header["settings"], "project": str(folder.parent), "name": folder.name, "exist_ok": True}),
        changes,
    )
    if saved.progress.epoch >= settings.epochs:
        raise UsageError(f"{folder}: all epochs are done; to go on, pass an epochs larger than {saved.progress.epoch}")
    with joined(settings.device, settings.timeout) as group:
        names = [str(name) for name in saved.header["names"]]
        data = _datasets(settings, names)
        header = saved.header
        _check_same(folder, header, group.world, len(data[0]))
        network = build(header["size"], len(names), header["head"], head_width=header["head_width"])
        return _run(settings, group, network, data, header["metadata"], saved, quiet)


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    """``settings`` with those ``changes`` that a resumed run can take; the same value again is no change."""
    before = settings.to_json()
    changed = _absolute(make({**before, **changes}))
    after = changed.to_json()
    for name in changes:
        if name not in RESUMABLE and after[name] != before[name]:
            raise UsageError(
                f"{name} cannot change when a run is resumed: it is {before[name]!r}, got {after[name]!r}\n"
                f"What can: {', '.join(RESUMABLE)}"
            )
    return changed


def _check_same(folder: Path, header: dict[str, Any], world: int, pictures: int) -> None:
    """With another number of processes or pictures, steps and the place within the epoch would mean something else."""
    if header["world"] != world:
        raise UsageError(
            f"{folder}: the run has {header['world']} processes, got {world}\n"
            f"Resume it with as many: torchrun --nproc-per-node N -m leyolo train --resume …"
        )
    if header["pictures"] != pictures:
        raise InputError(f"{folder}: the run learns from {header['pictures']} pictures, but now there are {pictures}")


def _run(
    settings: Settings,
    group: Group,
    network: LeYOLONet,
    data: tuple[Dataset, Dataset | None],
    metadata: dict[str, str],
    saved: state.State | None,
    quiet: bool,
) -> TrainResult:
    folder = settings.folder
    if group.leads:
        _prepare_folder(settings, fresh=saved is None)
    job = _job(settings, group, network, data, metadata, saved, quiet)
    try:
        job.log.line(_introduction(job))
        for name, dataset in (("train", job.data), ("val", job.val_data)):
            if dataset is not None and dataset.problems:
                job.log.line(f"note: {name}: {len(dataset.problems)} problems; leyolo data check names them")
        draws = settings.plots and group.leads
        if draws:
            draw_data(job)
        fit(job)
        group.gather(None)  # now everybody may read what the leading process wrote
        best, last = (job.weights / f"{name}.safetensors" for name in ("best", "last"))
        if draws:
            draw_results(job, best)
        progress = job.progress
        if progress.best_epoch >= 0:
            job.log.line(f"best: mAP50-95 {progress.best:.4f} in epoch {progress.best_epoch + 1}, {best}")
        else:
            job.log.line(f"weights: {last}")
    finally:
        job.log.close()
    return TrainResult(folder, best, last, tuple(progress.rows), progress.best_epoch + 1, progress.best)


def _job(
    settings: Settings,
    group: Group,
    network: LeYOLONet,
    data: tuple[Dataset, Dataset | None],
    metadata: dict[str, str],
    saved: state.State | None,
    quiet: bool,
) -> Job:
    folder = settings.folder
    batches = math.ceil(len(data[0]) / (settings.batch * group.world))
    steps = settings.epochs * math.ceil(batches / settings.accumulate)
    freeze(network, settings.freeze)
    fit_statistics(network, steps)
    network.to(group.device).fuse_training_ops(settings.fused_ops)
    wrapped = group.wrap(network, settings.sync_bn)
    parts = state.Parts(
        network,
        averaged(network, settings.ema, steps) if settings.ema else network,
        make_optimizer(network, settings),
        torch.amp.GradScaler(group.device.type, enabled=settings.amp == "fp16"),
    )
    progress = state.Progress()
    if saved is not None:
        state.restore(folder / "weights" / "state.safetensors", saved, parts)
        progress = saved.progress
    batch_loader = loader(
        data[0],
        imgsz=settings.imgsz,
        batch=settings.batch,
        seed=settings.seed,
        epoch=progress.epoch,
        augment=settings.augment,
        workers=settings.workers,
        rank=group.rank,
        world=group.world,
        pin_memory=group.device.type == "cuda",
    )
    log = Log(
        folder if group.leads else None,
        total=settings.epochs * batches,
        done=progress.epoch * batches + progress.batches,
        quiet=quiet,
        board=settings.tensorboard,
    )
    return Job(
        settings=settings,
        assigner=str(settings.assigner),
        group=group,
        network=network,
        wrapped=wrapped,
        parts=parts,
        data=data[0],
        val_data=data[1],
        loader=batch_loader,
        batches=batches,
        steps=steps,
        log=log,
        metadata=metadata,
        progress=progress,
    )


def _introduction(job: Job) -> str:
    settings, head = job.settings, job.network.head_name
    val = "no validation" if job.val_data is None else f"{len(job.val_data)} to validate"
    together = settings.batch * job.group.world * settings.accumulate
    return (
        f"leyolo-{job.network.config.size}, {head} head, {job.assigner}, {len(job.data.names)} classes; "
        f"{len(job.data)} pictures to learn from, {val}; {job.steps} steps of {together} pictures, "
        f"{settings.optimizer}, lr {settings.base_lr:g}; {settings.folder}"
    )


def _check_free(settings: Settings) -> None:
    """Said before the work, where a name is given."""
    if settings.name is not None and settings.folder.exists() and not settings.exist_ok:
        raise _taken(settings)


def _claim(settings: Settings) -> str:
    """Makes the run's folder; its name. Without one, the first of train, train-2, … that this call makes itself: of
    runs that start together, one alone can."""
    number, name = 1, settings.name or "train"
    parent = (Path(settings.project) / name).parent
    try:
        # By itself: where a link to nowhere is in the way, no number would help.
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{parent}: cannot be made ({error.strerror or error})") from error
    while True:
        folder = Path(settings.project) / name
        try:
            folder.mkdir(exist_ok=settings.exist_ok and settings.name is not None)
        except FileExistsError:
            if settings.name is not None:
                raise _taken(settings) from None
            number += 1
            name = f"train-{number}"
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made ({error.strerror or error})") from error
        else:
            return name


def _taken(settings: Settings) -> UsageError:
    hint = "pass --exist-ok to write into it, --resume to go on, or another --name"
    return UsageError(f"{settings.folder} exists; {'it is no folder' if settings.exist_ok else hint}")


def _datasets(settings: Settings, names: Sequence[str] | None) -> tuple[Dataset, Dataset | None]:
    """The list to learn from and, where there is one, the list to validate on, with the same classes."""
    data = read(settings.data, split="train", images=settings.images, names=names)
    if settings.val == 0:
        return data, None
    require_engine()  # before work that would be lost without it
    images = settings.val_images or settings.images
    if settings.val_data is None and settings.val_images is None:
        # A folder that --images names may hold the pictures to learn from alone.
        places = [place for place in (settings.images, None) if "val" in splits(settings.data, place)]
        if not places:
            return data, None  # data that is not split is learnt from as a whole, and to find it again proves nothing
        images = places[0]
    if settings.val_data is None and names_pictures(Path(settings.data)) and "val" not in splits(settings.data, images):
        raise UsageError(f"{settings.data} is not split: say with --val-data which pictures to validate on, or --val 0")
    val_data = read(settings.val_data or settings.data, split="val", images=images, names=data.names)
    # One folder for both lists, unless the second is asked for with pictures that it names itself, as a json does.
    once = images is not None and settings.val_images is None and settings.val_data != settings.data
    named = settings.val_data is not None and names_pictures(Path(settings.val_data))
    if once and not named and val_data.same_pictures_as(data):
        raise UsageError(
            f"{images}: the {len(data)} pictures to learn from are in it, and those to validate on would be the same\n"
            "Say with --val-images where those are, or --val 0"
        )
    return data, val_data


def _absolute(settings: Settings) -> Settings:
    """With absolute paths to the data, so that a run can be resumed from anywhere."""
    paths = {name: getattr(settings, name) for name in ("data", "images", "val_data", "val_images")}
    return settings.changed(**{name: str(Path(path).absolute()) for name, path in paths.items() if path is not None})


def _prepare_folder(settings: Settings, fresh: bool) -> None:
    weights = settings.folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    if fresh:  # another run's state would be what --resume goes on with, if this one ends within its first epoch
        (weights / "state.safetensors").unlink(missing_ok=True)
    for stale in (*weights.glob(".*.tmp"), *settings.folder.glob(".*.tmp")):  # of a process that was killed
        stale.unlink(missing_ok=True)
    settings.write(settings.folder / "args.yaml")
