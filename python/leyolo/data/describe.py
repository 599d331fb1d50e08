"""A yaml that describes a dataset: ``path``, ``train``, ``val``, ``test``, ``names``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leyolo.data.builder import Builder, read_limited, shown
from leyolo.data.dataset import DataError, Dataset, joined
from leyolo.data.formats import KNOWN, read_one
from leyolo.errors import MissingDependencyError

MAX_BYTES = 1 << 20
_SPLITS = ("train", "val", "test")
_OTHER_KEYS = ("path", "names", "nc", "images")
_NOTHING = ("", "~", "null")


def read_description(
    path: Path,
    builder: Builder,
    *,
    split: str,
    images: Path | None = None,
    names: Sequence[str] | None = None,
) -> Dataset:
    """Reads one split of a yaml.

    Its keys: ``path``, a folder relative to the yaml (its own if absent); ``train``, ``val``, ``test``, each a path, or
    a list of paths, of any format, relative to that folder; ``names``, a list or a mapping from number to name (needed
    for YOLO labels only); ``nc``, their number, which is checked; ``images``, where the pictures of a COCO json are.

    Raises:
        DataError: it is no such yaml, has not this split, or names nothing that can be read.
    """
    builder.sources.append(path)
    content = _content(path)
    root = _root(path, content)
    numbered = _names(path, content)
    entries = None if split in _OTHER_KEYS else content.get(split)
    if entries is None:
        there = ", ".join(_there(content))
        raise DataError(f"{path} has no {split!r}, but {there}" if there else f"{path} has no split")
    named = content.get("images")
    of_json = root / named if images is None and isinstance(named, str) else images
    parts: list[Dataset] = []
    for entry in entries if isinstance(entries, list) and entries else [entries]:
        if not isinstance(entry, str) or not entry:
            raise DataError(f"{path}: {split} must be a path or a list of paths, got {shown(entry)}")
        part = Builder(keep_unreadable=builder.keep_unreadable)
        # Of the other formats it would be one folder of pictures for every split.
        place = of_json if entry.lower().endswith(".json") else images
        parts.append(read_one(_resolved(root, entry), part, split=split, images=place, names=names, numbered=numbered))
        builder.sources += part.sources
        names = names or parts[0].names
    return joined(parts)


def described_splits(path: Path) -> list[str]:
    return _there(_content(path))


def _there(content: dict[str, Any]) -> list[str]:
    """The splits, the usual ones first. Tools also write keys that hold tables, which are none."""
    others = [key for key, value in content.items() if key not in _OTHER_KEYS and not isinstance(value, dict)]
    return [key for key in dict.fromkeys((*_SPLITS, *others)) if content.get(key)]


def _content(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError("reading a yaml needs PyYAML\npip install 'leyolo[val]'") from error
    text = read_limited(path, MAX_BYTES)
    try:
        # Every word as it is written: a class may be called "no" or 1.10, and nothing is computed from the text.
        content = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is not yaml: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected the keys {', '.join(_SPLITS)} and names, got {type(content).__name__}")
    return {key: value for key, value in content.items() if not isinstance(value, str) or value not in _NOTHING}


def _root(path: Path, content: dict[str, Any]) -> Path:
    root = content.get("path", ".")
    if not isinstance(root, str):
        raise DataError(f"{path}: path must be a folder, got {shown(root)}")
    return path.parent / root


def _resolved(root: Path, entry: str) -> Path:
    """Some tools write ``../train/images`` where ``train/images`` is meant."""
    path, meant = root / entry, root / entry.removeprefix("../")
    if not path.exists() and meant.exists():
        return meant
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected {KNOWN}")
    return path


def _names(path: Path, content: dict[str, Any]) -> list[str] | None:
    names, number = content.get("names"), content.get("nc")
    if isinstance(names, dict):
        numbers = [str(at) for at in range(len(names))]
        if set(names) != set(numbers):
            raise DataError(f"{path}: names must number the classes 0 to {len(names) - 1}, got {shown(list(names))}")
        names = [names[at] for at in numbers]
    if names is None:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(f"{path}: names must be a list of class names, got {shown(names)}")
    if number is not None and number != str(len(names)):
        raise DataError(f"{path}: nc is {shown(number)}, but there are {len(names)} names")
    return names
