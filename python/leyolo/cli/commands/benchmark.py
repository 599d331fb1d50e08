"""``leyolo benchmark``: how fast things are here, beside other runtimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

_HELP = "Measure speed on this machine. For the other libraries: pip install 'leyolo\\[bench]'."

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode="rich")

Model = Annotated[
    str | None,
    typer.Option("--model", "--weights", "-m", help="Weights file (.pt, .safetensors) or name.", show_default=False),
]
Random = Annotated[
    bool,
    typer.Option("--random", help="Random weights, of the size that --model names: speed does not depend on them."),
]
Imgsz = Annotated[int, typer.Option("--imgsz", help="Side of the network input, a multiple of 32.")]
Threads = Annotated[int | None, typer.Option("--threads", help="For all that is measured.", show_default="all cores")]
Rounds = Annotated[int, typer.Option("--rounds", help="Samples of each.")]
Runtimes = Annotated[
    str | None,
    typer.Option(
        "--runtimes",
        help="Only these beside ours, by comma; all: also those that take a minute to start.",
        show_default="all that are installed and start fast",
    ),
]
AsJson = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write all numbers here; - is stdout.", show_default=False),
]


@app.command(name="model")
def model(
    model: Model = None,
    random: Random = False,
    imgsz: Imgsz = 640,
    batch: Annotated[int, typer.Option("--batch", help="Pictures that run together.")] = 1,
    threads: Threads = None,
    rounds: Rounds = 15,
    runtimes: Runtimes = None,
    as_json: AsJson = None,
) -> None:
    """Time the forward pass beside the other runtimes that are installed."""
    from leyolo.bench.model import benchmark

    _measure(
        benchmark,
        model,
        random,
        as_json,
        runtimes,
        imgsz=imgsz,
        batch=batch,
        threads=threads,
        rounds=rounds,
        columns=("dtype",),
    )


@app.command(name="pipeline")
def pipeline(
    model: Model = None,
    random: Random = False,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="FILE", help="An encoded picture.", show_default="a drawn 1280 x 720 JPEG"),
    ] = None,
    imgsz: Imgsz = 640,
    threads: Threads = None,
    rounds: Rounds = 15,
    runtimes: Runtimes = None,
    as_json: AsJson = None,
) -> None:
    """Time the way from an encoded picture in memory to boxes, beside the other runtimes that are installed."""
    from leyolo.bench.pipeline import benchmark
    from leyolo.bench.runtimes.pipeline import STAGES

    _measure(
        benchmark,
        model,
        random,
        as_json,
        runtimes,
        source=source,
        imgsz=imgsz,
        threads=threads,
        rounds=rounds,
        columns=STAGES,
    )


@app.command(name="ops")
def ops(
    op: Annotated[
        list[str] | None,
        typer.Option("--op", help="Only these operators; repeat it, or by comma.", show_default="all"),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Size whose shapes are taken: n, s, m or l.")] = "n",
    imgsz: Imgsz = 640,
    threads: Threads = None,
    rounds: Rounds = 9,
    as_json: AsJson = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw a roofline picture here.", show_default=False),
    ] = None,
) -> None:
    """Time every operator on the network's own shapes, beside torch and the other libraries that are installed."""
    from leyolo.bench import roofline
    from leyolo.bench.ops import benchmark
    from leyolo.cli import numbers
    from leyolo.cli.console import progress

    target, picture = numbers.checked(as_json), numbers.checked(plot, "--plot")
    if picture is not None:
        roofline.checked(picture)
    names = [name.strip() for part in op or [] for name in part.split(",")]
    with progress(None, quiet=False) as view:
        report = benchmark(
            names or None,
            size=model,
            imgsz=imgsz,
            threads=threads,
            rounds=rounds,
            progress=lambda done, total: view.advance(),
        )
    if target is not None:
        numbers.write(report, target)
    if target != "-":
        _show_ops(report)
    if picture is not None:
        roofline.draw(report, picture)


def _show_ops(report: dict[str, Any]) -> None:
    from leyolo.bench.environment import threads_text
    from leyolo.cli.console import say, table

    environment = report["environment"]
    side = environment["imgsz"]
    title = f"leyolo-{environment['size']}, {side} x {side}, {threads_text(environment['threads'])}, float32"
    say(f"{title}; {environment['processor']}")
    limits = environment["limits"]
    levels = ", ".join(f"{name} {rate:.0f}" for name, rate in limits["read_gb_per_s"].items())
    say(f"this machine: {limits['gflop_per_s']:.0f} GFLOP/s; GB/s read: {levels}")
    header = ("operator", "case", "contestant", "us", "quartiles", "times ours", "GB/s", "GFLOP/s", "of limit")
    table("", header, map(_ops_row, sorted(report["rows"], key=_case_and_time(report["rows"]))))
    if report["totals"]:
        sums = [(t["name"], t["contestant"], f"{t['ms']:.3f}", f"{t['ratio_to_ours']:.2f}") for t in report["totals"]]
        table("", ("sum", "contestant", "ms", "times ours"), sums)
    for skipped in report["skipped"]:
        say(f"left out: {skipped['name']}: {skipped['reason']}")


def _measure(
    benchmark: Any,
    model: str | None,
    random: bool,
    as_json: str | None,
    runtimes: str | None,
    *,
    columns: Sequence[str],
    **options: Any,
) -> None:
    """Runs a benchmark under a progress bar, then writes its numbers and shows its table. ``columns`` are fields of the
    rows to show beside the usual ones; of stages, the name without ``_ms``."""
    from leyolo.bench.random_weights import random_checkpoint
    from leyolo.cli import numbers
    from leyolo.cli.console import progress, say
    from leyolo.model import LeYOLO

    target = numbers.checked(as_json)
    measured = random_checkpoint(model or "leyolo-n") if random else LeYOLO(model)
    names = [name.strip() for name in runtimes.split(",")] if runtimes else None
    with progress(None, quiet=False) as view:
        report = benchmark(
            measured,
            runtimes=names,
            progress=lambda done, total: view.advance(),
            loading=lambda name: view.line(f"loading {name}"),
            **options,
        )
    if target is not None:
        numbers.write(report, target)
    if target != "-":
        say(_title(report))
        _show(report["rows"], columns)
    for skipped in report["skipped"]:
        advice = f" ({skipped['install']})" if skipped["install"] else ""
        say(f"left out: {skipped['name']}: {skipped['reason']}{advice}")


def _title(report: dict[str, Any]) -> str:
    from leyolo.bench.environment import threads_text

    environment, row = report["environment"], report["rows"][0]
    parts = [f"{row['model']} at {row['size']}", f"batch {row['batch']}", threads_text(row["threads"])]
    if source := report.get("source"):
        parts.append(
            f"{source['name']} picture of {source['width']} x {source['height']}, {source['bytes'] // 1000} kB"
        )
    return f"{', '.join(parts)}; {environment['processor']}"


def _show(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """The table of a report, fastest first. Ours in a reduced precision has a column of its own ratios."""
    from leyolo.cli.console import table

    reduced = any(row["dtype"] != "float32" and row["ratio_to_ours_same_dtype"] is not None for row in rows)
    ratios = {
        "times ours": "ratio_to_ours",
        **({"times ours in its dtype": "ratio_to_ours_same_dtype"} if reduced else {}),
    }
    cells = [
        (
            row["name"],
            row["version"],
            f"{row['median_ms']:.2f}",
            f"{row['p25_ms']:.2f} - {row['p75_ms']:.2f}",
            *("" if row[key] is None else f"{row[key]:.2f}" for key in ratios.values()),
            *(row[name] if name in row else f"{row[f'{name}_ms']:.2f}" for name in columns),
        )
        for row in sorted(rows, key=lambda row: row["median_ms"])
    ]
    table("", ("runtime", "version", "ms", "quartiles", *ratios, *columns), cells)


def _case_and_time(rows: list[dict[str, Any]]) -> Callable[[dict[str, Any]], tuple[int, float]]:
    order = {key: i for i, key in enumerate(dict.fromkeys((row["op"], row["case"]) for row in rows))}
    return lambda row: (order[row["op"], row["case"]], row["median_ms"])


def _ops_row(row: dict[str, Any]) -> tuple[str, ...]:
    low, middle, high = (f"{1e3 * row[key]:.1f}" for key in ("p25_ms", "median_ms", "p75_ms"))
    rate = row["gflop_per_s"]
    return (
        *(row["op"], row["case"], row["name"], middle, f"{low} - {high}", f"{row['ratio_to_ours']:.2f}"),
        *(f"{row['gb_per_s']:.1f}", "" if rate is None else f"{rate:.1f}", f"{row['of_limit']:.0%}"),
    )
