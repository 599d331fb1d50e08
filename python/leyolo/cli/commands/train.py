"""``leyolo train``: a network from annotated pictures."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

_OPTIONS: tuple[tuple[str, type, str, str], ...] = (
    ("data", str, "COCO json, VOC or YOLO folder, or a yaml that names any of them.", ""),
    ("images", str, "Folder of the pictures.", "the usual one"),
    ("val_data", str, "Pictures to validate on.", "the val list of --data"),
    ("val_images", str, "Folder of their files.", "--images, or the usual one"),
    ("epochs", int, "Passes over the training list.", "100"),
    ("imgsz", int, "Side of the network input, a multiple of 32.", "640"),
    ("batch", int, "Pictures a step, in each process.", "16"),
    ("head", str, "leyolo or yolox.", "that of the weights"),
    ("assigner", str, "tal, simota or ota; simota or ota with the yolox head.", "tal; yolox: simota"),
    ("seed", int, "All that is random follows from it.", "0"),
    ("device", str, "cpu, cuda or cuda:N; several: start with torchrun.", "cpu"),
    ("project", str, "Folder of the run's folder.", "runs"),
    ("name", str, "The run's folder in it.", "train, train-2, …"),
    ("exist_ok", bool, "Write into a folder that exists.", ""),
    ("optimizer", str, "adamw or sgd.", "adamw"),
    ("lr", float, "Learning rate, used as given.", "0.002 adamw, 0.01 sgd"),
    ("lr_final", float, "Share of it that is left at the end.", "0.01"),
    ("schedule", str, "cosine or linear.", "cosine"),
    ("warmup", float, "Share of all steps over which the learning rate rises.", "0.05"),
    ("momentum", float, "Of sgd; the first beta of adamw.", "0.9"),
    ("weight_decay", float, "Of convolution weights.", "0.0005"),
    ("clip", float, "Largest norm of the gradient; 0: none.", "10"),
    ("accumulate", int, "Batches whose gradients make one step.", "1"),
    ("ema", float, "Largest decay of the averaged weights; 0: no average.", "0.9999"),
    ("freeze", int, "So many of the first layers stay as they are.", "0"),
    ("amp", str, "Mixed precision: off, bf16, fp16.", "off"),
    ("fused_ops", bool, "Leyolo's own training operators, or plain torch.", "on"),
    ("sync_bn", bool, "Batch norm over the batches of all processes.", "off"),
    ("patience", int, "Stop after so many epochs without a better mAP; 0: never.", "50"),
    ("mosaic", float, "Share of pictures made of four.", "1"),
    ("mixup", float, "Share blended with another.", "0"),
    ("cutmix", float, "Share with a part of another.", "0"),
    ("close_mosaic", float, "Share of the epochs, the last, without these three.", "0.2"),
    ("multi_scale", float, "Largest relative change of the input's side.", "0"),
    ("hsv_h", float, "Largest change of hue.", "0.015"),
    ("hsv_s", float, "Largest change of saturation.", "0.7"),
    ("hsv_v", float, "Largest change of value.", "0.4"),
    ("scale", float, "Largest relative change of size.", "0.5"),
    ("translate", float, "Largest shift, as share of the side.", "0.1"),
    ("degrees", float, "Largest turn.", "0"),
    ("shear", float, "Largest slant in degrees.", "0"),
    ("fliplr", float, "Chance of mirroring left to right.", "0.5"),
    ("flipud", float, "Chance of mirroring top to bottom.", "0"),
    ("workers", int, "Processes that read pictures; 0: this one.", "0"),
    ("val", int, "Validate after every so many epochs; 0: never.", "1"),
    ("rect", bool, "Validate padded to a multiple of 32, not to a square.", "off"),
    ("save_steps", int, "Save the state after so many steps too; 0: after epochs.", "0"),
    ("plots", bool, "Draw curves, labels and pictures.", "on"),
    ("tensorboard", bool, "Write for TensorBoard too.", "off"),
    ("timeout", int, "Seconds that a process waits for the others.", "600"),
)
"""Name, type, help and default of ``leyolo.train.Settings``, which checks the values. An option that is not given stays
out of the settings, so a resumed run can tell what was changed."""


def train(**given: Any) -> None:
    """Train on annotated pictures; several processes: torchrun --nproc-per-node N -m leyolo train …"""
    from leyolo.errors import UsageError
    from leyolo.predict.backends import load_weights, need_torch

    weights, model, goes_on = (given.pop(name) for name in ("weights", "model", "resume"))
    values = {name: value for name, value in given.items() if value is not None}
    need_torch("training")
    from leyolo.train import resume
    from leyolo.train import train as run
    from leyolo.train.settings import make

    if goes_on:
        resume(Path(values.pop("project", "runs")) / values.pop("name", "train"), values)
    else:
        if "data" not in values:
            raise UsageError(
                "--data is missing: a COCO json, a VOC or YOLO folder, or a yaml\nSee: leyolo train --help"
            )
        if bool(weights) == bool(model):
            raise UsageError("give either --weights FILE to fine-tune, or --model leyolo-n to start from scratch")
        settings = make(values)
        run(settings, load_weights(weights) if weights else model)


def _parameter(name: str, kind: Any, text: str, default: str, flags: tuple[str, ...] = ()) -> inspect.Parameter:
    option = name.replace("_", "-")
    flags = flags or ((f"--{option}/--no-{option}",) if kind is bool else (f"--{option}",))
    info = typer.Option(*flags, help=text, show_default=default or False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _signature() -> inspect.Signature:
    own = [
        _parameter("weights", str, "Weights to fine-tune: a file or a name.", "", ("--weights", "-w")),
        _parameter("model", str, "Size to train from scratch: leyolo-n, -s, -m, -l.", ""),
        _parameter(
            "resume",
            bool,
            "Go on with the run in --project/--name and its weights; the same command again may have the rest.",
            "",
            ("--resume",),
        ),
    ]
    options = [_parameter(*row) for row in _OPTIONS]
    return inspect.Signature([options[0], *own, *options[1:]])


# Typer reads options from a signature; this one comes from the table, so that a setting is described in one place.
train.__signature__ = _signature()  # type: ignore[attr-defined]
train.__annotations__ = {p.name: p.annotation for p in _signature().parameters.values()} | {"return": None}
