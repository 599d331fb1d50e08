"""What can go wrong, by what the user can do about it. Each class carries the exit code of the command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LeYOLOError(Exception):
    """Base class; its text is one or two lines that a user can act on."""

    exit_code = 1


class UsageError(LeYOLOError, ValueError):
    """A wrong argument or value."""

    exit_code = 2


class InputError(LeYOLOError, ValueError):
    """An input that is missing, unreadable or not what it claims to be."""

    exit_code = 3


class CheckError(LeYOLOError):
    """A check that was asked for did not pass."""

    exit_code = 4


class MissingDependencyError(LeYOLOError, ImportError):
    """An optional package or a device that is not here."""

    exit_code = 5


def nearest(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the nearest of ``known``, or nothing when none is near."""
    candidates = {str(k).lower(): str(k) for k in known}
    match = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=0.6)
    return f" Did you mean '{candidates[match[0]]}'?" if match else ""
