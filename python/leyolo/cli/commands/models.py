"""``leyolo models``: the sizes there are."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def models(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the model sizes: parameters and multiply-accumulates (80 classes, 640 x 640); and the weights inside."""
    from leyolo.assets import PACKAGED
    from leyolo.cli.console import table
    from leyolo.cli.report import model_rows

    rows = model_rows()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table(
        "",
        ("model", "size", "parameters", "GMACs at 640"),
        [(r["name"], r["size"], f"{r['parameters']:,}", f"{r['macs'] / 1e9:.3f}") for r in rows],
    )
    print(f"\ninside the package: {', '.join(PACKAGED)}")
