"""``--json``: where a command's numbers go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from leyolo.errors import UsageError
from leyolo.weights.native import write_atomically


def checked(target: str | None, option: str = "--json") -> str | None:
    """``target`` itself, or UsageError where no file could be written there: asked before the work is done."""
    if option == "--json" and target == "/dev/stdout":  # opened anew, it would be written over by what else is printed
        return "-"
    if target in (None, "-"):
        return target
    if Path(str(target)).is_dir():
        raise UsageError(f"{option} {target}: is a folder, a file was expected")
    if not Path(str(target)).parent.is_dir():
        raise UsageError(f"{option} {target}: there is no folder {Path(str(target)).parent}")
    return target


def write(numbers: dict[str, Any], target: str) -> None:
    """JSON to a file, as a whole or not at all, or to stdout for "-"."""
    text = json.dumps(numbers, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        write_atomically(Path(target), text.encode())
