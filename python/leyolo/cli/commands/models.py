"""``leyolo models``: the sizes there are."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def models(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the model sizes: parameters, multiply-accumulates, and whether weights are at hand."""
    from leyolo.cli.console import table
    from leyolo.cli.report import model_rows

    rows = model_rows()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table(
        "",
        ("model", "parameters", "GMACs at 640", "weights"),
        [(r["name"], f"{r['parameters']:,}", f"{r['macs'] / 1e9:.3f}", r["weights"]) for r in rows],
    )
