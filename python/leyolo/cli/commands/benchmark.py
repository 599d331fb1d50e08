"""``leyolo benchmark``: how fast things are here, beside other runtimes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def _benchmark() -> None:
    """Measure speed on this machine."""


@app.command(name="model")
def model(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "--weights", "-m", help="Weights file (.pt, .safetensors) or name.", show_default=False
        ),
    ] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", help="Side of the network input, a multiple of 32.")] = 640,
    batch: Annotated[int, typer.Option("--batch", help="Pictures that run together.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", help="For every runtime.", show_default="all cores")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Samples of every runtime.")] = 15,
    runtimes: Annotated[
        str | None,
        typer.Option("--runtimes", help="Only these, by comma.", show_default="all that are installed"),
    ] = None,
    as_json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all numbers here; - is stdout.", show_default=False),
    ] = None,
) -> None:
    """Time the forward pass, and picture to boxes, beside the other runtimes that are installed."""
    from leyolo.bench.model import benchmark
    from leyolo.cli import numbers
    from leyolo.cli.console import progress, say, table
    from leyolo.model import LeYOLO

    target = numbers.checked(as_json)
    leyolo = LeYOLO(model)
    names = [name.strip() for name in runtimes.split(",")] if runtimes else None
    with progress(None, quiet=False) as view:
        report = benchmark(
            leyolo,
            imgsz=imgsz,
            batch=batch,
            threads=threads,
            rounds=rounds,
            runtimes=names,
            progress=lambda done, total: view.advance(),
        )
    if target is not None:
        numbers.write(report, target)
    if target == "-":
        return
    rows = [
        (
            row["name"],
            row["version"],
            f"{row['median_ms']:.2f}",
            f"{row['p25_ms']:.2f} - {row['p75_ms']:.2f}",
            "" if row["ratio_to_ours"] is None else f"{row['ratio_to_ours']:.2f}",
        )
        for row in sorted(report["rows"], key=lambda row: (row["name"].startswith("predict"), row["median_ms"]))
    ]
    environment = report["environment"]
    title = (
        f"leyolo-{leyolo.checkpoint.size}, {imgsz} x {imgsz}, batch {batch}, {environment['threads']} threads, float32"
    )
    say(f"{title}; {environment['processor']}")
    table("", ("runtime", "version", "ms", "quartiles", "times ours"), rows)
    for skipped in report["skipped"]:
        say(f"left out: {skipped['name']}: {skipped['reason']}")


@app.command(name="ops")
def ops(
    op: Annotated[
        list[str] | None,
        typer.Option("--op", help="Only these operators; repeat it, or by comma.", show_default="all"),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Size whose shapes are taken: n, s, m or l.")] = "n",
    imgsz: Annotated[int, typer.Option("--imgsz", help="Side of the network input, a multiple of 32.")] = 640,
    threads: Annotated[
        int | None, typer.Option("--threads", help="For every contestant.", show_default="all cores")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Samples of every contestant.")] = 9,
    as_json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all numbers here; - is stdout.", show_default=False),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw a roofline picture here.", show_default=False),
    ] = None,
) -> None:
    """Time every operator on the network's own shapes, beside torch and the other libraries that are installed."""
    from leyolo.bench.ops import benchmark
    from leyolo.cli import numbers
    from leyolo.cli.console import progress, say, table

    target, picture = numbers.checked(as_json), numbers.checked(plot, "--plot")
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
    if picture is not None:
        from leyolo.bench.roofline import draw

        draw(report, picture)
    if target == "-":
        return
    environment = report["environment"]
    count = environment["threads"]
    title = f"leyolo-{environment['size']}, {imgsz} x {imgsz}, {count} thread{'s' * (count > 1)}, float32"
    say(f"{title}; {environment['processor']}")
    header = ("operator", "case", "contestant", "us", "quartiles", "times ours", "GB/s", "GFLOP/s")
    table("", header, map(_ops_row, sorted(report["rows"], key=_case_and_time(report["rows"]))))
    if report["totals"]:
        sums = [(t["name"], t["contestant"], f"{t['ms']:.3f}", f"{t['ratio_to_ours']:.2f}") for t in report["totals"]]
        table("", ("sum", "contestant", "ms", "times ours"), sums)
    for skipped in report["skipped"]:
        say(f"left out: {skipped['name']}: {skipped['reason']}")


def _case_and_time(rows: list[dict[str, Any]]) -> Callable[[dict[str, Any]], tuple[int, float]]:
    order = {key: i for i, key in enumerate(dict.fromkeys((row["op"], row["case"]) for row in rows))}
    return lambda row: (order[row["op"], row["case"]], row["median_ms"])


def _ops_row(row: dict[str, Any]) -> tuple[str, ...]:
    low, middle, high = (f"{1e3 * row[key]:.1f}" for key in ("p25_ms", "median_ms", "p75_ms"))
    rate = row["gflop_per_s"]
    return (
        *(row["op"], row["case"], row["name"], middle, f"{low} - {high}", f"{row['ratio_to_ours']:.2f}"),
        *(f"{row['gb_per_s']:.1f}", "" if rate is None else f"{rate:.1f}"),
    )
