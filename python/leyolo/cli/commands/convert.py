"""``leyolo convert``: any weights file to our safetensors, without executing anything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leyolo.errors import UsageError


def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Weights: official .pt, .safetensors, or a name.")],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[TARGET]", help="Where to write.", show_default="SOURCE with the suffix .safetensors"),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Convolution weights in float16: half the size, computed as before.")
    ] = False,
    license: Annotated[
        str | None,
        typer.Option("--license", help="Licence of the weights, noted in the file.", show_default="that of SOURCE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force/--no-force", "-f", help="Replace TARGET if it exists.")] = False,
) -> None:
    """Convert weights to safetensors. The file is read by a restricted reader: nothing in it is executed."""
    from leyolo import weights
    from leyolo.cli.console import say

    path = target if target is not None else source.with_suffix(".safetensors")
    if path.suffix.lower() != ".safetensors":
        raise UsageError(f"the target must end in .safetensors, got '{path.name}'")
    if path.exists() and source.exists() and path.samefile(source):
        raise UsageError(f"source and target are the same file: {path}")
    if path.exists() and not force:
        raise UsageError(f"{path} exists\nTo replace it: --force")
    if license is not None and not license.strip():
        raise UsageError("--license is empty")
    checkpoint = weights.load(weights.resolve(str(source)))
    if license is not None:
        checkpoint.metadata["license"] = license
    if half:
        checkpoint = weights.halved(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.save(path, checkpoint)
    about = f"{checkpoint.num_classes} classes, head {checkpoint.head}"
    licence = checkpoint.metadata.get("license", "unknown")
    say(f"{path}: leyolo-{checkpoint.size}, {about}, licence: {licence}")
