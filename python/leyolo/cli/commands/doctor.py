"""``leyolo doctor``: what is missing or wrong on this machine, and what to do about it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

_MARKS = {"ok": "ok  ", "note": "note", "warning": "warn", "error": "FAIL"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check this installation. Exit code 4 if something essential is broken."""
    from leyolo.cli.checks import checks

    found = checks()
    broken = any(check.state == "error" for check in found)
    if as_json:
        print(json.dumps({"ok": not broken, "checks": [check.__dict__ for check in found]}, indent=2))
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            print(f"{_MARKS[check.state]}  {check.name.ljust(width)}  {check.text}")
            if check.advice:
                print(f"      {' ' * width}  -> {check.advice}")
    raise typer.Exit(4 if broken else 0)
