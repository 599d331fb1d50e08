"""``leyolo val``: COCO's twelve numbers on annotated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leyolo.assets import DEFAULT, NOTE

_SHOWN = 20
"""Problems of the annotations that are said."""


def val(
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="COCO json, VOC or YOLO folder, or a yaml that names any of them.", show_default=False
        ),
    ],
    split: Annotated[str, typer.Option("--split", help="Which part; data without parts is taken whole.")] = "val",
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the pictures.", show_default="the usual one")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "--weights", "-m", help="Weights file (.pt, .safetensors) or name.", show_default=DEFAULT
        ),
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 or bf16.", show_default="float32")] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", help="Side of the network input, a multiple of 32.")] = 640,
    rect: Annotated[
        bool, typer.Option("--rect", help="Pad to a multiple of 32 instead of to a square: quicker, other scores.")
    ] = False,
    conf: Annotated[float, typer.Option("--conf", help="Keep boxes above this confidence.")] = 0.001,
    iou: Annotated[float, typer.Option("--iou", help="NMS: suppress boxes that overlap a better one by more.")] = 0.7,
    max_det: Annotated[int, typer.Option("--max-det", help="At most this many boxes a picture.")] = 300,
    batch: Annotated[int, typer.Option("--batch", help="Pictures that run together.")] = 1,
    as_json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all numbers here; - is stdout.", show_default=False),
    ] = None,
    save_json: Annotated[
        Path | None,
        typer.Option("--save-json", metavar="FILE", help="Write all detections, with your ids.", show_default=False),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Draw curves and confusion matrix there.", show_default=False),
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print every class as well.")] = False,
) -> None:
    """Measure COCO average precision and recall on annotated pictures."""
    from leyolo.cli import numbers
    from leyolo.cli.console import progress, say, table, warnings_said
    from leyolo.model import LeYOLO

    target = numbers.checked(as_json)
    numbers.checked(None if save_json is None else str(save_json), "--save-json")
    if model is None:
        say(NOTE)
    with warnings_said():
        leyolo = LeYOLO(model, dtype=dtype)
    with progress(None, quiet=False) as view:
        metrics = leyolo.val(
            data,
            split=split,
            images=images,
            imgsz=imgsz,
            rect=rect,
            conf=conf,
            iou=iou,
            max_det=max_det,
            batch=batch,
            save_json=save_json,
            plots=plots,
            progress=lambda done, total: view.advance(total),
        )
    for problem in metrics.problems[:_SHOWN]:
        say(f"note: {problem}")
    if len(metrics.problems) > _SHOWN:
        say(f"note: … and {len(metrics.problems) - _SHOWN} more; leyolo data check names them all")
    if target is not None:
        numbers.write(metrics.to_dict(), target)
    if target != "-":
        print(metrics)
        if per_class:
            rows = [
                (name, f"{value:.4f}", f"{metrics.per_class50[name]:.4f}") for name, value in metrics.per_class.items()
            ]
            table("", ("class", "AP", "AP50"), rows)
    stages = ", ".join(f"{stage} {milliseconds:.1f}" for stage, milliseconds in metrics.speed.items())
    say(f"ms a picture: {stages}")
    say(f"{metrics.images} pictures, {metrics.detections} detections, {imgsz} x {imgsz}, {metrics.padding} letterbox")
