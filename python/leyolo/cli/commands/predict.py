"""``leyolo predict``: any source to boxes on pictures and in files."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leyolo.assets import DEFAULT, NOTE, PACKAGED, SAMPLE
from leyolo.errors import InputError, LeYOLOError, MissingDependencyError, UsageError, nearest

if TYPE_CHECKING:
    from leyolo.predict.results import Results
    from leyolo.predict.writers import Writer

_FORMATS = ("jsonl", "csv", "coco")
# The panels of the help.
_MODEL, _IN, _BOX = "Model", "Source", "Detection"
_SAVE, _DRAW, _OUT = "Saved to the run folder", "Drawing", "Data and messages"


def predict(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Image, video, directory, glob, list file (.txt, .csv), URL, camera number, RTSP address, or - for a "
            "pipe. Also source=...",
            show_default="for weights inside the package: a picture inside it",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--weights",
            "-m",
            help="Weights file (.pt, .safetensors) or name.",
            rich_help_panel=_MODEL,
            show_default=DEFAULT,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, or cuda[:N].", rich_help_panel=_MODEL, show_default="cpu")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="float32, bf16; on cuda also float16, tf32.", rich_help_panel=_MODEL, show_default="float32"
        ),
    ] = None,
    imgsz: Annotated[
        str,
        typer.Option("--imgsz", help="Network input: side, or height,width; multiples of 32.", rich_help_panel=_BOX),
    ] = "640",
    conf: Annotated[
        float, typer.Option("--conf", help="Keep boxes above this confidence.", rich_help_panel=_BOX)
    ] = 0.25,
    iou: Annotated[
        float,
        typer.Option("--iou", help="NMS: suppress boxes that overlap a better one by more.", rich_help_panel=_BOX),
    ] = 0.7,
    max_det: Annotated[
        int, typer.Option("--max-det", help="At most this many boxes a picture.", rich_help_panel=_BOX)
    ] = 300,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--classes", help="Only these classes: ids or names, by comma.", rich_help_panel=_BOX, show_default=False
        ),
    ] = None,
    agnostic_nms: Annotated[
        bool, typer.Option("--agnostic-nms", help="Boxes suppress boxes of other classes too.", rich_help_panel=_BOX)
    ] = False,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="A box may carry several classes.", rich_help_panel=_BOX)
    ] = False,
    rect: Annotated[
        bool,
        typer.Option(
            "--rect", help="Pad only to a multiple of 32 instead of to a square: faster.", rich_help_panel=_BOX
        ),
    ] = False,
    batch: Annotated[int, typer.Option("--batch", help="Pictures that run together.", rich_help_panel=_BOX)] = 1,
    fast_decode: Annotated[
        bool,
        typer.Option(
            "--fast-decode",
            help="Decode large JPEGs to fewer pixels: faster, boxes differ a little. Pays with --no-save.",
            rich_help_panel=_IN,
        ),
    ] = False,
    vid_stride: Annotated[
        int, typer.Option("--vid-stride", help="Take every n-th frame of a video.", rich_help_panel=_IN)
    ] = 1,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look into the folders below a directory.", rich_help_panel=_IN)
    ] = False,
    as_list: Annotated[
        bool,
        typer.Option("--list", help="The source (a file, or - for a pipe) is a list of paths.", rich_help_panel=_IN),
    ] = False,
    save: Annotated[
        bool | None,
        typer.Option(
            "--save/--no-save",
            help="Save annotated pictures.",
            rich_help_panel=_SAVE,
            show_default="on, without --format",
        ),
    ] = None,
    save_txt: Annotated[bool, typer.Option("--save-txt", help="Save YOLO text files.", rich_help_panel=_SAVE)] = False,
    save_conf: Annotated[
        bool, typer.Option("--save-conf", help="Save YOLO text files with confidences.", rich_help_panel=_SAVE)
    ] = False,
    save_crop: Annotated[
        bool, typer.Option("--save-crop", help="Save every box as a picture.", rich_help_panel=_SAVE)
    ] = False,
    save_json: Annotated[
        bool, typer.Option("--save-json", help="Save COCO predictions.json.", rich_help_panel=_SAVE)
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Open every annotated picture in a viewer.", rich_help_panel=_DRAW)
    ] = False,
    show_labels: Annotated[
        bool, typer.Option("--show-labels/--no-show-labels", help="Draw class names.", rich_help_panel=_DRAW)
    ] = True,
    show_conf: Annotated[
        bool, typer.Option("--show-conf/--no-show-conf", help="Draw confidences.", rich_help_panel=_DRAW)
    ] = True,
    line_width: Annotated[
        int | None,
        typer.Option("--line-width", help="Pixels.", rich_help_panel=_DRAW, show_default="by the picture's size"),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help="Data to stdout: jsonl, csv or coco.", rich_help_panel=_OUT, show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write --format's data to this file.", rich_help_panel=_OUT, show_default=False
        ),
    ] = None,
    project: Annotated[
        Path, typer.Option("--project", help="Folder of the run folders.", rich_help_panel=_SAVE)
    ] = Path("runs/detect"),
    name: Annotated[
        str, typer.Option("--name", help="Run folder; numbered if it exists.", rich_help_panel=_SAVE)
    ] = "predict",
    exist_ok: Annotated[
        bool, typer.Option("--exist-ok", help="Write into an existing run folder.", rich_help_panel=_SAVE)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what went wrong.", rich_help_panel=_OUT)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose/--no-verbose", help="A line for every picture.", rich_help_panel=_OUT)
    ] = True,
) -> None:
    """Detect objects in pictures, folders, lists, URLs, videos, cameras or a pipe."""
    sources = sources or ([str(SAMPLE)] if model in (None, *PACKAGED) else [""])
    if "" in sources:
        raise UsageError("predict: no source given\nFor example: leyolo predict picture.jpg")
    if format is None and output is not None:
        format = {".csv": "csv", ".json": "coco"}.get(output.suffix.lower(), "jsonl")
    if format is not None and format not in _FORMATS:
        raise UsageError(f"--format must be one of {', '.join(_FORMATS)}, got '{format}'.{nearest(format, _FORMATS)}")
    size = _sizes(imgsz)
    save_txt = save_txt or save_conf
    if line_width is not None and line_width < 1:
        raise UsageError(f"--line-width must be at least 1, got {line_width}")

    from leyolo.cli.console import say, warnings_said
    from leyolo.model import LeYOLO
    from leyolo.predict import sources as reading
    from leyolo.predict.run import run

    options = reading.Options(recursive=recursive, as_list=as_list, vid_stride=vid_stride)
    plot = {"line_width": line_width, "labels": show_labels, "conf": show_conf}
    with warnings_said():
        leyolo = LeYOLO(model, device=device, dtype=dtype)
    settings = leyolo.settings(
        imgsz=size,
        conf=conf,
        iou=iou,
        max_det=max_det,
        classes=_class_list(classes),
        agnostic_nms=agnostic_nms,
        multi_label=multi_label,
        rect=rect,
        batch=batch,
        fast_decode=fast_decode,
    )
    if model is None and not quiet:
        say(NOTE)
    source = sources[0] if len(sources) == 1 else sources
    wanted = {
        "picture": format is None if save is None else save,
        "txt": save_txt,
        "crop": save_crop,
        "json": save_json,
    }
    pipeline = leyolo.pipeline  # first, because it may fail
    writers = _data_writer(format, output)
    total = None if quiet or not sys.stderr.isatty() else reading.count(source, options)
    report = Report(quiet=quiet, verbose=verbose and not quiet, total=total)
    folder = _run_folder(project, name, exist_ok) if any(wanted.values()) else None
    try:
        writers += _writers(folder, wanted, save_conf, vid_stride, plot)
        with report:
            results = run(pipeline, leyolo.names, source, settings, options, report.failed)
            _write_all(results, writers, report, plot if show else None)
    finally:
        if folder is not None and _removed_if_empty(folder):
            folder = None
    report.summary(folder)
    raise typer.Exit(report.exit_code)


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _write_all(results: Any, writers: Sequence[Writer], report: Report, show: dict[str, Any] | None) -> None:
    from leyolo.predict.writers import Names

    names = Names()
    with ExitStack() as closing:  # also what an interrupted run has found is kept
        for writer in reversed(writers):
            closing.callback(writer.close)
        closing.callback(results.close)
        for result in results:
            stem = names.stem(result.path, result.frame)
            problem = None
            for writer in writers:
                try:
                    writer.write(result, stem)
                except BrokenPipeError:
                    raise
                except (OSError, LeYOLOError) as error:
                    problem = error
            if show is not None:
                result.show(**show)
            if problem is None:
                report.done(result)
            else:
                report.failed(result.path, _unwritten(problem))


def _unwritten(error: OSError | LeYOLOError) -> LeYOLOError:
    if isinstance(error, LeYOLOError):
        return error
    return InputError(f"its results cannot be written ({error.strerror or error})")


class Report:
    """Lines, bar, totals and the exit code of a run."""

    def __init__(self, *, quiet: bool, verbose: bool, total: int | None) -> None:
        from leyolo.cli.console import progress

        self._quiet, self._verbose, self._total = quiet, verbose, total
        self._progress = progress(total, quiet=quiet)
        self._pictures = self._boxes = 0
        self._errors: list[LeYOLOError] = []
        self._times: dict[str, float] = {}
        self._start = time.perf_counter()

    def __enter__(self) -> Report:
        self._view = self._progress.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._progress.__exit__(*raised)

    def done(self, result: Results) -> None:
        self._pictures += 1
        self._boxes += len(result)
        for stage, ms in result.speed.items():
            self._times[stage] = self._times.get(stage, 0.0) + ms
        if self._verbose:
            frame = "" if result.frame is None else f" frame {result.frame}"
            height, width = result.orig_shape
            took = sum(result.speed.values())
            self._view.line(f"{result.path}{frame}: {width}x{height}, {result.verbose()}, {took:.1f} ms")
        self._view.advance()

    def failed(self, path: str, error: LeYOLOError) -> None:
        self._errors.append(error)
        self._view.line(f"error: {path}: {' '.join(str(error).split())}")
        self._view.advance()

    @property
    def exit_code(self) -> int:
        """5 if all that failed lacks an optional package, else 3 if anything failed."""
        if not self._errors:
            return 0
        return 5 if all(isinstance(e, MissingDependencyError) for e in self._errors) else 3

    def summary(self, folder: Path | None) -> None:
        from leyolo.cli.console import say
        from leyolo.predict.results import counted

        if self._quiet:
            return
        seconds = time.perf_counter() - self._start
        failed = f", {len(self._errors)} failed" if self._errors else ""
        say(f"{counted(self._pictures, 'picture')}, {counted(self._boxes, 'box')}{failed} in {seconds:.2f} s")
        if self._pictures:
            stages = ", ".join(f"{stage} {ms / self._pictures:.1f}" for stage, ms in self._times.items())
            say(f"milliseconds a picture: {stages}")
        if folder is not None:
            say(f"saved to {folder}")


def _sizes(text: str) -> int | tuple[int, int]:
    parts = text.strip("[]() ").replace("x", ",").split(",")
    try:
        sides = [int(p) for p in parts]
    except ValueError:
        raise UsageError(f"--imgsz must be a side or height,width, for example 640 or 480,640; got '{text}'") from None
    if len(sides) > 2:
        raise UsageError(f"--imgsz must be a side or height,width, for example 640 or 480,640; got '{text}'")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _class_list(given: Sequence[str] | None) -> list[str] | None:
    parts = [p.strip(" '\"") for each in given or () for p in each.strip("[]() ").split(",")]
    return [p for p in parts if p] or None


def _run_folder(project: Path, name: str, exist_ok: bool) -> Path:
    """``project/name``, or with a number behind it the first that does not exist. Made at once, so that no other run
    takes it."""
    number = 1
    while True:
        folder = project / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
            return folder
        except FileExistsError:
            if exist_ok:
                raise UsageError(f"{folder} is a file, not a folder") from None
            number += 1
        except NotADirectoryError:
            raise UsageError(f"{project} is a file, not a folder") from None


def _writers(
    folder: Path | None, wanted: dict[str, bool], save_conf: bool, vid_stride: int, plot: dict[str, Any]
) -> list[Writer]:
    from leyolo.predict import writers

    if folder is None:
        return []
    made: list[Writer] = []
    if wanted["picture"]:
        made.append(writers.Pictures(folder, vid_stride=vid_stride, **plot))
    if wanted["txt"]:
        made.append(writers.YoloText(folder / "labels", save_conf))
    if wanted["crop"]:
        made.append(writers.Crops(folder / "crops"))
    if wanted["json"]:
        made.append(writers.ToFile(writers.Coco, folder / "predictions.json"))
    return made


def _data_writer(format: str | None, output: Path | None) -> list[Writer]:
    from leyolo.predict import writers

    if format is None:
        return []
    kinds: dict[str, Any] = {"jsonl": writers.JsonLines, "csv": writers.Csv, "coco": writers.Coco}
    if output is None or str(output) == "-":
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(**writers.TEXT)
        return [kinds[format](sys.stdout)]
    return [writers.ToFile(kinds[format], output)]
