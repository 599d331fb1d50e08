"""``leyolo benchmark``: how fast things are here, beside other runtimes."""

from __future__ import annotations

from typing import Annotated

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
