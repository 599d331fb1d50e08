"""``leyolo explain``: which anchors learn which object, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from leyolo.explain.assigners import Share
    from leyolo.explain.scene import Predictor, Scene
    from leyolo.explain.truths import Truths
    from leyolo.ops import Assignment

app = typer.Typer(
    help="Show how training decides.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _explain() -> None:
    """Show how training decides."""


@app.command()
def assign(
    image: Annotated[
        Path | None, typer.Argument(metavar="[IMAGE]", help="A picture; without, --summary.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Annotations that name the picture, of any format.", show_default=False),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="This part alone.", show_default="all parts")] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the pictures.", show_default="the usual one")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", help="YOLO label file of the picture, with the model's classes.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "--weights", "-m", help="Weights file or name; without: random.", show_default=False),
    ] = None,
    assigner: Annotated[
        str | None,
        typer.Option("--assigner", help="Some of fcos, simota, simota-v030, ota, tal.", show_default="all but v030"),
    ] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", help="Side of the network input, a multiple of 32.")] = 640,
    number: Annotated[
        int | None,
        typer.Option("--object", help="Draw SimOTA's cost of this object of the table.", min=1, show_default=False),
    ] = None,
    conf: Annotated[float, typer.Option("--conf", help="Without annotations: what counts as detected.")] = 0.25,
    seed: Annotated[int, typer.Option("--seed", help="Of weights that are untrained.", min=0)] = 0,
    summary: Annotated[bool, typer.Option("--summary", help="Count over all pictures of --data instead.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw a PNG here.", show_default=False)
    ] = None,
    as_json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write it all here; - is stdout.", show_default=False)
    ] = None,
) -> None:
    """Show which anchors each object gets under each assigner: on one picture, or counted over a dataset."""
    from leyolo.cli import numbers
    from leyolo.errors import UsageError
    from leyolo.predict.backends import need_torch

    target = numbers.checked(as_json)
    numbers.checked(None if out is None else str(out), "--out")
    need_torch("explaining an assignment")
    if summary:
        if data is None or image is not None or out is not None or number is not None or boxes is not None:
            raise UsageError("--summary takes --data and no IMAGE, --boxes, --object or --out")
        _summary(data, split, images, model, assigner, imgsz, seed, target)
        return
    if image is None:
        raise UsageError("expected a picture, or --summary with --data")
    if data is not None and boxes is not None:
        raise UsageError("--data and --boxes both say what is in the picture: give one of them")
    _picture(image, data, split, images, boxes, model, assigner, imgsz, number, conf, seed, out, target)


def _picture(
    image: Path,
    data: Path | None,
    split: str | None,
    images: Path | None,
    boxes: Path | None,
    model: str | None,
    assigner: str | None,
    imgsz: int,
    number: int | None,
    conf: float,
    seed: int,
    out: Path | None,
    target: str | None,
) -> None:
    from leyolo.cli import numbers
    from leyolo.cli.console import say
    from leyolo.errors import InputError, UsageError
    from leyolo.explain import assigners, sheet, truths
    from leyolo.explain.scene import Predictor
    from leyolo.predict.images import read_image
    from leyolo.predict.pipeline import Settings, image_size

    try:
        pixels = read_image(image)
    except InputError as error:
        raise InputError(f"{image}: {error}") from None
    known: Truths | None = None
    if data is not None:
        known = truths.from_data(data, image, split=split, images=images)
    elif boxes is not None:
        known = truths.from_labels(boxes, image)
    predictor = Predictor(model, None if known is None or boxes is not None else known.names, seed=seed)
    names = assigners.chosen(assigner, predictor.head)
    size = image_size(imgsz, max(predictor.strides))
    if known is None:
        known = truths.from_model(predictor.pipeline, pixels, Settings(imgsz=size, conf=conf))
    if boxes is not None:
        known = _with_model_names(known, predictor, boxes)
    if not len(known.labels):
        raise InputError(f"{image}: there is no object in it ({known.source})")
    if number is not None and number > len(known.labels):
        raise UsageError(f"--object must be at most {len(known.labels)}, the objects of the picture, got {number}")
    if number is not None and not {"simota", "simota-v030"} & set(names):
        raise UsageError("--object draws SimOTA's cost: simota must be among the assigners")
    scene = predictor.scene(pixels, known, size)
    found = {name: assigners.run(name, scene) for name in names}
    shares = {name: assigners.shares(name, scene, each) for name, each in found.items()}
    if target is not None:
        numbers.write(_numbers(image, scene, known.source, predictor.source, found, shares), target)
    if target != "-":
        _print(scene, shares, found)
    say(f"objects: {known.source}")
    say(f"predictions: {predictor.source}, {scene.image.shape[1]} x {scene.image.shape[0]}")
    if out is not None:
        notes = (f"Objects: {known.source}. Predictions: {predictor.source}, input {imgsz} x {imgsz}.",)
        sheet.save(sheet.sheet(scene, shares, notes=notes, number=None if number is None else number - 1), out)
        say(f"{out}")


def _with_model_names(known: Truths, predictor: Predictor, boxes: Path) -> Truths:
    """Class numbers of a label file are the model's."""
    from dataclasses import replace

    from leyolo.data import DataError

    unknown = [label for label in known.labels.tolist() if label not in predictor.names]
    if unknown:
        raise DataError(f"{boxes}: the model has the classes 0..{len(predictor.names) - 1}, got {unknown[0]}")
    return replace(known, names=None)


def _print(scene: Scene, shares: Mapping[str, Sequence[Share]], found: Mapping[str, Assignment]) -> None:
    from leyolo.cli.console import table
    from leyolo.explain.assigners import TITLES

    levels = "/".join(map(str, scene.levels))
    rows = []
    for at, name in enumerate(scene.names):
        x1, y1, x2, y2 = scene.targets.boxes[0, at].tolist()
        for assigner, each in shares.items():
            share = each[at]
            rows.append(
                (
                    *(
                        (at + 1, name, f"{x2 - x1:.0f} x {y2 - y1:.0f}")
                        if assigner == next(iter(shares))
                        else ("", "", "")
                    ),
                    TITLES[assigner],
                    "" if share.asked is None else share.asked,
                    len(share.anchors),
                    "/".join(str(count) for count in share.levels.values()),
                    "none" if share.iou is None else f"{share.iou:.3f}",
                )
            )
    table("", ("", "object", "pixels", "assigner", "k", "anchors", f"at {levels}", "mean IoU"), rows)
    if len(shares) > 1:
        print()
        _print_agreement(tuple(shares), _agreements(found))


def _agreements(found: Mapping[str, Assignment]) -> dict[tuple[str, str], float]:
    from leyolo.explain.assigners import agreement
    from leyolo.explain.summary import pairs, share

    return {(a, b): share(*agreement(found[a], found[b])) for a, b in pairs(tuple(found))}


def _print_agreement(names: Sequence[str], values: Mapping[tuple[str, str], float]) -> None:
    """Of the anchors that either gives, the share that both give to the same object."""
    from leyolo.cli.console import table
    from leyolo.explain.assigners import TITLES

    rows = [(TITLES[a], *(f"{values[a, b]:.3f}" if (a, b) in values else "" for b in names[1:])) for a in names[:-1]]
    table("", ("agreement", *(TITLES[b] for b in names[1:])), rows)


def _numbers(
    image: Path,
    scene: Scene,
    objects: str,
    predictions: str,
    found: Mapping[str, Assignment],
    shares: Mapping[str, Sequence[Share]],
) -> dict[str, Any]:
    """Everything, with positions in pixels of the network input."""
    boxes = scene.targets.boxes[0].tolist()
    centers, strides = scene.points.centers.tolist(), scene.points.strides.tolist()
    rows = []
    for at, name in enumerate(scene.names):
        by_assigner = {
            assigner: {
                "asked": each[at].asked,
                "anchors": len(each[at].anchors),
                "levels": {str(stride): count for stride, count in each[at].levels.items()},
                "mean_iou": each[at].iou,
                "points": [[*centers[anchor], strides[anchor]] for anchor in each[at].anchors],
            }
            for assigner, each in shares.items()
        }
        rows.append({"number": at + 1, "class": name, "box": boxes[at], "assigners": by_assigner})
    return {
        "image": str(image),
        "input": [scene.image.shape[1], scene.image.shape[0]],
        "scale": scene.scale,
        "padding": list(scene.content[:2]),
        "objects_from": objects,
        "predictions_from": predictions,
        "objects": rows,
        "agreement": {f"{a}/{b}": value for (a, b), value in _agreements(found).items()},
    }


def _summary(
    data: Path,
    split: str | None,
    images: Path | None,
    model: str | None,
    assigner: str | None,
    imgsz: int,
    seed: int,
    target: str | None,
) -> None:
    from leyolo.cli import numbers
    from leyolo.cli.console import progress, say
    from leyolo.data.check import parts
    from leyolo.data.dataset import joined
    from leyolo.explain import assigners
    from leyolo.explain.scene import Predictor
    from leyolo.explain.summary import summarise
    from leyolo.predict.pipeline import image_size

    dataset = joined([each for _, each in parts(data, split=split, images=images)])
    predictor = Predictor(model, dataset.names, seed=seed)
    names = assigners.chosen(assigner, predictor.head)
    size = image_size(imgsz, max(predictor.strides))
    with progress(len(dataset), quiet=False) as view:
        found = summarise(predictor, dataset, names, size, progress=view.advance)
    if target is not None:
        numbers.write({**found.to_dict(), "imgsz": imgsz, "predictions_from": predictor.source}, target)
    if target != "-":
        _print_summary(found.to_dict(), names)
    say(f"{found.pictures} pictures, {found.objects} objects, {found.small} of them below 32 x 32 in the input")
    say(f"predictions: {predictor.source}, {imgsz} x {imgsz}")


def _print_summary(found: dict[str, Any], names: Sequence[str]) -> None:
    from leyolo.cli.console import table
    from leyolo.explain.assigners import TITLES

    rows = [
        (
            TITLES[row["assigner"]],
            "" if row["asked"] is None else f"{row['asked'] / found['objects']:.2f}",
            f"{row['anchors_per_object']:.2f}",
            row["objects_without"],
            row["small_objects_without"],
            row["objects_with_one"],
            "none" if row["mean_iou"] is None else f"{row['mean_iou']:.3f}",
            f"{row['median_ms']:.2f}",
        )
        for row in found["assigners"]
    ]
    header = ("", "k", "anchors", "without", "of them small", "with one", "mean IoU", "ms a picture")
    table("", header, rows)
    if len(names) > 1:
        print()
        values = {(a, b): found["agreement"][f"{a}/{b}"] for at, a in enumerate(names) for b in names[at + 1 :]}
        _print_agreement(names, values)
