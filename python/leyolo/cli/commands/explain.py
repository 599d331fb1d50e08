"""``leyolo explain``: which anchors learn which object, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from leyolo.explain.scene import Predictor
    from leyolo.explain.truths import Truths

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
        typer.Option("--model", "--weights", "-m", help="Weights file or name.", show_default="leyolo-n-shapes"),
    ] = None,
    assigner: Annotated[
        str | None,
        typer.Option("--assigner", help="Some of fcos, simota, simota-v030, ota, tal.", show_default="all but v030"),
    ] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", help="Side of the network input, a multiple of 32.")] = 640,
    number: Annotated[
        int | None,
        typer.Option("--object", help="Show SimOTA's cost of this object of the table.", min=1, show_default=False),
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
    from leyolo.cli import explain_text, numbers
    from leyolo.cli.console import say
    from leyolo.errors import InputError, UsageError
    from leyolo.explain import assigners, heat, sheet, truths
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
    if number is not None and not heat.RULES.keys() & set(names):
        raise UsageError("--object draws SimOTA's cost: simota must be among the assigners")
    scene = predictor.scene(pixels, known, size)
    found = {name: assigners.run(name, scene) for name in names}
    shares = {name: assigners.shares(name, scene, each) for name, each in found.items()}
    rule = next((name for name in heat.RULES if name in names), "")
    candidates = None
    if number is not None:
        candidates = heat.candidates(scene, number - 1, heat.RULES[rule], shares[rule][number - 1].anchors)
    if target is not None:
        said = explain_text.as_numbers(image, scene, known.source, predictor.source, found, shares, candidates)
        numbers.write(said, target)
    if target != "-":
        explain_text.print_shares(scene, shares, found)
    if target != "-" and number is not None and candidates is not None:
        title = f"{assigners.TITLES[rule]}'s cost of {number} {scene.names[number - 1]}"
        explain_text.print_candidates(title, candidates)
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
    from leyolo.cli import explain_text, numbers
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
        explain_text.print_summary(found.to_dict(), names)
    say(f"{found.pictures} pictures, {found.objects} objects, {found.small} of them below 32 x 32 in the input")
    say(f"predictions: {predictor.source}, {imgsz} x {imgsz}")
