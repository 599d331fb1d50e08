"""``leyolo info``: this build, this machine, or a model."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Weights file or model name.", show_default=False)
    ] = None,
    imgsz: Annotated[int, typer.Option("--imgsz", help="Input side for the multiply-accumulates or the plan.")] = 640,
    plan: Annotated[
        bool, typer.Option("--plan", help="Every step of MODEL's forward pass: its time beside the least possible.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", help="For --plan.", show_default="all cores")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Describe this build and machine; with MODEL, its layers, parameters and multiply-accumulates, or its plan."""
    from leyolo.cli import report
    from leyolo.errors import UsageError

    if plan and model is None:
        raise UsageError("--plan needs a MODEL, a weights file or a name such as leyolo-n")
    if threads is not None and not plan:
        raise UsageError("--threads belongs to --plan")
    if plan and model is not None:
        from leyolo.cli.plan_text import text

        data = report.plan(model, imgsz, threads)
        print(json.dumps(data, indent=2) if as_json else text(data))
        return
    if model is None:
        data = report.environment()
        if as_json:
            print(json.dumps(data, indent=2))
        else:
            _print(data)
        return
    data = report.model(model, imgsz)
    if as_json:
        print(json.dumps(data, indent=2))
        return
    from leyolo.cli.console import table

    layers = data.pop("layers")
    _print(data)
    print()
    table(
        "",
        ("layer", "kind", "in", "out", "parameters", "MACs"),
        [[_text(v) for v in layer.values()] for layer in layers],
    )


def _print(data: dict[str, Any]) -> None:
    width = max(len(key) for key in data)
    for key, value in data.items():
        text = ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) if isinstance(value, dict) else _text(value)
        print(f"{key.replace('_', ' ').ljust(width)}  {text}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value in (None, "") else str(value)
