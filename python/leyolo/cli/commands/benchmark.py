"""``leyolo benchmark``: how fast things are here."""

from __future__ import annotations

import typer

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True, rich_markup_mode=None)


@app.command(name="model")
def model() -> None:
    """x"""
