"""``leyolo val``: COCO's twelve numbers on a data set."""

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
        str | None, typer.Option("--model", "--weights", "-m", help="Weights file or name.", show_default=False)
    ] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", help="Side of the network input.")] = 640,
    conf: Annotated[float, typer.Option("--conf", help="Confidence threshold.")] = 0.001,
    iou: Annotated[float, typer.Option("--iou", help="NMS threshold.")] = 0.7,
    max_det: Annotated[int, typer.Option("--max-det", help="Boxes a picture.")] = 300,
    batch: Annotated[int, typer.Option("--batch", help="Pictures that run together.")] = 1,
    as_json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all numbers here; - is stdout.", show_default=False),
    ] = None,
) -> None:
    """Measure COCO average precision and recall on a data set."""
