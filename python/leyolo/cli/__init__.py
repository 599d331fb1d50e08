"""The command ``leyolo``. Exit codes: 0 ok, 2 usage, 3 input missing or invalid, 4 check failed, 5 missing optional
dependency or device, 130 interrupted. Data goes to stdout, everything said to a person to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; a traceback only with ``--debug``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        from leyolo.cli.app import invoke

        code = invoke(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        if debug:
            raise
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered must not complain when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _report(error)


def _say(text: str) -> None:
    from leyolo.cli.console import say

    say(text)


def _report(error: Exception) -> int:
    """One line what, one line what to do; the exit code by the kind of error."""
    from leyolo.cli.console import complain
    from leyolo.errors import LeYOLOError

    if isinstance(error, LeYOLOError):
        complain(str(error))
        return error.exit_code
    text = str(error) or type(error).__name__
    if isinstance(error, OSError):
        complain(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else text)
        return 3
    if isinstance(error, ImportError):
        complain(text)
        return 5
    if isinstance(error, ValueError):
        complain(text)
        return 3
    complain(
        f"{type(error).__name__}: {text}\nThis should not happen: run it again with --debug and report the traceback"
    )
    return 1
