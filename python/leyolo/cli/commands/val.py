"""``leyolo val``: COCO's twelve numbers on annotated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def val(
    data: Annotated[Path, typer.Option("--data", help="COCO json with the ground truth.", show_default=False)],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the pictures.", show_default="beside the json")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "--weights", "-m", help="Weights file (.pt, .safetensors) or name.", show_default=False
        ),
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 or bf16.", show_default="float32")] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", help="Side of the network input, a multiple of 32.")] = 640,
    conf: Annotated[float, typer.Option("--conf", help="Keep boxes above this confidence.")] = 0.001,
    iou: Annotated[float, typer.Option("--iou", help="NMS: suppress boxes that overlap a better one by more.")] = 0.7,
    max_det: Annotated[int, typer.Option("--max-det", help="At most this many boxes a picture.")] = 300,
    batch: Annotated[int, typer.Option("--batch", help="Pictures that run together.")] = 1,
    as_json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all numbers here; - is stdout.", show_default=False),
    ] = None,
) -> None:
    """Measure COCO average precision and recall on annotated pictures (square letterbox)."""
    from leyolo.cli import numbers
    from leyolo.cli.console import progress, say, warnings_said
    from leyolo.model import LeYOLO

    target = numbers.checked(as_json)
    with warnings_said():
        leyolo = LeYOLO(model, dtype=dtype)
    with progress(None, quiet=False) as view:
        metrics = leyolo.val(
            data,
            images=images,
            imgsz=imgsz,
            conf=conf,
            iou=iou,
            max_det=max_det,
            batch=batch,
            progress=lambda done, total: view.advance(),
        )
    for problem in metrics.problems:
        say(f"note: {problem}")
    if target is not None:
        numbers.write(metrics.to_dict(), target)
    if target != "-":
        print(metrics)
    say(f"{metrics.images} pictures, {metrics.detections} detections, {imgsz} x {imgsz} square letterbox")
