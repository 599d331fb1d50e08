"""``leyolo data``: what is wrong with a dataset, what is in it, and one to try things with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Check a dataset, count what is in it, or draw one.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SHOWN = 50

_Data = Annotated[
    Path,
    typer.Option("--data", help="COCO json, VOC or YOLO folder, or a yaml that names any of them.", show_default=False),
]
_Split = Annotated[str | None, typer.Option("--split", help="This part alone.", show_default="all parts")]
_Images = Annotated[Path | None, typer.Option("--images", help="Folder of the pictures.", show_default="the usual one")]
_Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write it all here; - is stdout.", show_default=False)
]


@app.command()
def check(
    data: _Data,
    split: _Split = None,
    images: _Images = None,
    show: Annotated[int, typer.Option("--show", help="At most this many problems on the screen.", min=0)] = _SHOWN,
    as_json: _Json = None,
) -> None:
    """Read all annotations and decode all pictures; exit code 4 if a box or a picture cannot be used."""
    from leyolo.cli import numbers
    from leyolo.cli.console import progress, say
    from leyolo.data.check import check as checked
    from leyolo.errors import CheckError

    target = numbers.checked(as_json)
    with progress(None, quiet=False) as view:
        parts = checked(data, split=split, images=images, progress=lambda done, total: view.advance(total))
    problems = [(part.split, problem) for part in parts for problem in part.problems]
    if target is not None:
        rows = [{"split": name, **vars(problem)} for name, problem in problems]
        counts = {part.split: {"images": len(part.dataset), "objects": len(part.dataset.labels)} for part in parts}
        numbers.write({"splits": counts, "problems": rows}, target)
    for name, problem in problems[:show]:
        say(f"{name}: {problem}")
    if len(problems) > show:
        say(f"… and {len(problems) - show} more: --show {len(problems)}, or --json FILE")
    for part in parts:
        say(f"{part.split}: {len(part.dataset)} pictures, {len(part.dataset.labels)} objects")
    boxes, pictures = (sum(problem.costs == what for _, problem in problems) for what in ("box", "picture"))
    if boxes or pictures:
        raise CheckError(f"boxes that cannot be used: {boxes}, pictures: {pictures}; all else can")


@app.command()
def stats(
    data: _Data,
    split: _Split = None,
    images: _Images = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw class balance and box sizes here.", show_default=False),
    ] = None,
    as_json: _Json = None,
) -> None:
    """Count pictures, objects, classes and sizes."""
    from leyolo.cli import numbers
    from leyolo.cli.console import say
    from leyolo.data.check import parts, plot_statistics, statistics

    target = numbers.checked(as_json)
    numbers.checked(None if plot is None else str(plot), "--plot")
    datasets = parts(data, split=split, images=images)
    found = {name: statistics(dataset) for name, dataset in datasets}
    if plot is not None:
        plot_statistics(datasets, plot)
    if target is not None:
        numbers.write(found, target)
    if target != "-":
        _print(found)
    for name, dataset in datasets:
        if dataset.problems:
            say(f"note: {name}: {len(dataset.problems)} problems; leyolo data check names them")


def _print(found: dict[str, Any]) -> None:
    from leyolo.cli.console import table

    splits = list(found)
    lines: list[Sequence[object]] = [
        ("pictures", *(found[s]["images"] for s in splits)),
        ("without objects", *(found[s]["images_without_objects"] for s in splits)),
        ("objects", *(found[s]["objects"] for s in splits)),
        ("most in one", *(found[s]["objects_per_image"]["most"] for s in splits)),
        ("small, below 32² px", *(found[s]["sizes"]["small"] for s in splits)),
        ("medium", *(found[s]["sizes"]["medium"] for s in splits)),
        ("large, above 96² px", *(found[s]["sizes"]["large"] for s in splits)),
        ("crowd", *(found[s]["crowd"] for s in splits)),
        ("difficult", *(found[s]["difficult"] for s in splits)),
    ]
    table("", ("", *splits), lines)
    classes = [(name, *(found[s]["classes"][name]["objects"] for s in splits)) for name in found[splits[0]]["classes"]]
    print()
    table("", ("class", *splits), classes)


@app.command()
def shapes(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.", show_default=False)],
    images: Annotated[int, typer.Option("--images", help="How many pictures.")] = 1000,
    imgsz: Annotated[int, typer.Option("--imgsz", help="Their side in pixels.")] = 320,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other pictures.")] = 0,
    val: Annotated[float, typer.Option("--val", help="Share of pictures for validation.")] = 0.2,
) -> None:
    """Draw a dataset of ten classes of shapes, with COCO annotations and a yaml."""
    from leyolo.cli.console import progress, say
    from leyolo.data.shapes import write_shapes

    with progress(images, quiet=False) as view:
        path = write_shapes(
            out, images=images, imgsz=imgsz, seed=seed, val=val, progress=lambda done, total: view.advance()
        )
    say(f"{images} pictures; {path} describes them")
