"""What a run needs to go on as if it had never stopped: one safetensors file, no pickle, written atomically.

Tensors: ``model.*``, ``ema.*`` (both state dicts), ``optimizer.<parameter>.<key>``, ``rng.cpu``, ``rng.cuda``. The
metadata holds the rest as JSON: settings, progress, names, and the state of the loss scaler.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from leyolo.errors import InputError
from leyolo.models.config import HEADS, SIZES
from leyolo.weights.native import write_atomically

FORMAT, VERSION = "leyolo-training-state", 1


@dataclass
class Progress:
    """How far a run is.

    epoch           epochs that are finished; the next one has this number
    batches         batches of the next epoch that are already learnt from (the sampler's position)
    steps           optimizer steps taken
    sums            losses of these batches, summed
    best, best_epoch    largest mAP so far and its epoch (-1: none)
    rows            results.csv, a dict a row
    """

    epoch: int = 0
    batches: int = 0
    steps: int = 0
    sums: list[float] = field(default_factory=list)
    best: float = -1.0
    best_epoch: int = -1
    rows: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class State:
    """A state file that was read and checked."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]

    @property
    def progress(self) -> Progress:
        return Progress(**self.header["progress"])


@dataclass(frozen=True)
class Parts:
    """What a state file holds the values of."""

    network: nn.Module
    ema: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler


def write(path: Path, parts: Parts, progress: Progress, extra: Mapping[str, Any]) -> None:
    """``path`` holds either what it held before or all of the new state, whatever happens meanwhile."""
    tensors = {f"model.{name}": value for name, value in parts.network.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in parts.ema.state_dict().items()}
    tensors |= _optimizer_tensors(parts)
    tensors["rng.cpu"] = torch.get_rng_state()
    if _on_gpu(parts):
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    header = {**extra, "progress": asdict(progress), "scaler": parts.scaler.state_dict()}
    metadata = {"format": FORMAT, "version": str(VERSION), "json": json.dumps(header)}
    # Copies, since the averaged model may share memory with the network.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    write_atomically(path, save(plain, metadata))


def _optimizer_tensors(parts: Parts) -> dict[str, Tensor]:
    return {
        f"optimizer.{name}.{key}": value
        for name, parameter in parts.network.named_parameters()
        for key, value in parts.optimizer.state.get(parameter, {}).items()
    }


def read(path: Path) -> State:
    """Raises InputError for a file that :func:`write` did not write, whole."""
    data = path.read_bytes()
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        header = json.loads(metadata.get("json", "null"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected the state of a training run, but it is damaged: {error}") from error
    if metadata.get("format") != FORMAT or metadata.get("version") != str(VERSION) or not isinstance(header, dict):
        found = f"{metadata.get('format')!r}, version {metadata.get('version')!r}"
        raise InputError(f"{path}: expected {FORMAT!r}, version '{VERSION}', got {found}"[:300])
    _check(path, header)
    return State(tensors, header)


def _check(path: Path, header: dict[str, Any]) -> None:
    progress = header.get("progress")
    known = {entry.name for entry in fields(Progress)}
    if not isinstance(progress, dict) or set(progress) != known:
        raise InputError(f"{path}: the progress should hold {', '.join(sorted(known))}")
    for name in ("epoch", "batches", "steps", "best_epoch"):
        if not isinstance(progress[name], int):
            raise InputError(f"{path}: the progress {name!r} should be a whole number, got {progress[name]!r}"[:300])
    if not isinstance(progress["best"], (int, float)) or math.isnan(progress["best"]):
        raise InputError(f"{path}: the progress 'best' should be a number, got {progress['best']!r}"[:300])
    if not isinstance(progress["rows"], list) or not isinstance(progress["sums"], list):
        raise InputError(f"{path}: the progress 'rows' and 'sums' should be lists")
    kinds = {"settings": dict, "names": list, "metadata": dict, "scaler": dict}
    for name, kind in (kinds | dict.fromkeys(("head_width", "world", "pictures"), int)).items():
        if not isinstance(header.get(name), kind):
            raise InputError(f"{path}: the state should hold {name!r}")
    for name, known_values in (("size", SIZES), ("head", HEADS)):
        if header.get(name) not in known_values:
            raise InputError(
                f"{path}: {name!r} should be one of {', '.join(known_values)}, got {header.get(name)!r}"[:300]
            )


@torch.no_grad()
def restore(path: Path, state: State, parts: Parts) -> None:
    """Fills ``parts`` in place, memory formats included, and the random generators. InputError where shapes differ."""
    try:
        _fill(state, parts)
    except (RuntimeError, KeyError) as error:
        raise InputError(f"{path}: the state does not fit the run: {error}"[:2000]) from error


def _fill(state: State, parts: Parts) -> None:
    parts.network.load_state_dict(_below(state.tensors, "model."))
    parts.ema.load_state_dict(_below(state.tensors, "ema."))
    values = _below(state.tensors, "optimizer.")
    for name, parameter in parts.network.named_parameters():
        for key, value in _below(values, f"{name}.").items():
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter).copy_(value)  # the memory format of the parameter
            parts.optimizer.state[parameter][key] = value.to(parameter.device)
    parts.scaler.load_state_dict(state.header["scaler"])
    torch.set_rng_state(state.tensors["rng.cpu"])
    if "rng.cuda" in state.tensors and _on_gpu(parts):
        torch.cuda.set_rng_state(state.tensors["rng.cuda"])


def _on_gpu(parts: Parts) -> bool:
    """To ask torch about a GPU that the run does not use would start it, and take some of its memory."""
    return next(parts.network.parameters()).is_cuda


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
