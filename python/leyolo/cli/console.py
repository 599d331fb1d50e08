"""What the command says to a person: on stderr, in colour only on a terminal and without NO_COLOR."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol


def is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _styled(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if is_terminal() and not os.environ.get("NO_COLOR") else text


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """One line that a terminal shows as text: file names may hold line ends, escape sequences, and bytes that are no
    text."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    _print(printable(text))


@contextmanager
def warnings_said() -> Iterator[None]:
    """Python's warnings inside are said as lines of ours."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        say(f"warning: {warning.message}")


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """An error: the first line says what, further lines what to do."""
    first, *rest = [printable(line) for line in text.rstrip("\n").split("\n")]
    _print("\n".join([f"{_styled('error:', '1;31')} {first}", *(f"       {line}" for line in rest)]))


class Progress(Protocol):
    def line(self, text: str) -> None: ...
    def advance(self, total: int | None = None) -> None: ...


class _Lines:
    """Plain lines, for pipes, logs and single pictures."""

    def line(self, text: str) -> None:
        say(text)

    def advance(self, total: int | None = None) -> None:
        pass


class _Bar:
    """A rich bar; lines appear above it."""

    def __init__(self, progress: Any, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task("predict", total=total)

    def line(self, text: str) -> None:
        self._progress.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def advance(self, total: int | None = None) -> None:
        """One more; ``total`` once it is known."""
        self._progress.update(self._task, advance=1, total=total)


@contextmanager
def progress(total: int | None, *, quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal if there is more than one picture, else plain lines. ``quiet`` leaves the bar away."""
    if quiet or total == 1 or not is_terminal():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, total)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout: with rules on a terminal, aligned columns in a pipe."""
    cells = [[str(c) for c in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
        for line in [list(header), *cells]:
            print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*header, title=title or None)
    for line in cells:
        drawn.add_row(*line)
    Console().print(drawn)
