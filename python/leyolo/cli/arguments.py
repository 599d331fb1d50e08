"""The command line before typer sees it: ``name=value`` beside ``--name value``, underscores beside hyphens, and what
was probably meant where a name is not known."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from leyolo.errors import UsageError, nearest

_ASSIGNMENT = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.*)", re.DOTALL)
_TRUE = frozenset(("true", "yes", "on", "1"))
_FALSE = frozenset(("false", "no", "off", "0"))


def normalised(arguments: Sequence[str], command: Any) -> list[str]:
    """Arguments in the one form that typer knows, ``--some-name=value``. ``command`` is the typer (sub)command."""
    options: dict[str, tuple[Any, str]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            for flag in (*parameter.opts, *parameter.secondary_opts):
                options[flag.lstrip("-") if flag.startswith("--") else flag] = (parameter, flag)
    options["help"] = (None, "--help")
    positional = next((p.name for p in command.params if p.param_type_name == "argument"), None)
    out: list[str] = []
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        if token == "--":
            return [*out, token, *rest]
        assignment = _ASSIGNMENT.fullmatch(token)
        if token.startswith("--"):
            name, equals, text = token[2:].partition("=")
        elif assignment and not os.path.exists(token):
            name, equals, text = assignment[1], "=", assignment[2]
            if name.lower() in (positional, f"{positional}s", "source" if positional == "sources" else positional):
                out.append(text)
                continue
        elif token.startswith("-") and len(token) > 1 and token in options and not _is_flag(options[token][0]):
            name, equals, text = token, "", ""
        else:
            out.append(token)
            continue
        name = name if name in options else name.lower().replace("_", "-")
        found = options.get(name)
        opposite = found is None and name.startswith("no-") and _is_flag(options.get(name[3:], (None, ""))[0])
        if opposite:
            found = options[name[3:]]
        if found is None:
            raise UsageError(_unknown(token, name, command, options))
        parameter, flag = found
        value = text if equals else None
        if parameter is None:
            out.append(flag)
        elif _is_flag(parameter):
            if value is None and rest and rest[0].lower() in ("true", "false"):
                value = rest.pop(0)
            _switch(out, parameter, f"--{name}" if opposite else flag, value)
        elif value is not None and value.lower() in ("none", "null"):
            continue  # the default, as in name=None
        elif value is None and rest:
            out.append(f"{parameter.opts[0]}={rest.pop(0)}")
        elif value is None:
            raise UsageError(f"{flag} needs a value.\nSee: leyolo {command.name} --help")
        else:
            out.append(f"{parameter.opts[0]}={value}")
    return out


def _is_flag(parameter: Any) -> bool:
    return parameter is not None and bool(getattr(parameter, "is_flag", False))


def _switch(out: list[str], parameter: Any, flag: str, value: str | None) -> None:
    """Turns a flag on or off. The last one wins: for flags with an opposite that is typer's rule, the others go from
    ``out`` when they are off."""
    if value is not None and value.lower() not in _TRUE | _FALSE:
        raise UsageError(f"'{value}' is not a value for {flag}: expected True or False")
    if (value is None or value.lower() in _TRUE) == (flag in parameter.opts):
        out.append(str(parameter.opts[0]))
    elif parameter.secondary_opts:
        out.append(str(parameter.secondary_opts[0]))
    else:
        out[:] = [token for token in out if token not in parameter.opts]


def _unknown(token: str, name: str, command: Any, options: dict[str, Any]) -> str:
    near = nearest(name, [o for o in options if not o.startswith("-")])
    if token.startswith("-"):
        what = f"'--{name}' is not an option of 'leyolo {command.name}'."
        near = near.replace("'", "'--", 1)
    else:
        what = f"'{token}' is neither an option nor a file."
        near = near.replace("-", "_").replace("'?", "=…'?")
    return what + (near or f"\nSee: leyolo {command.name} --help")
