"""``leyolo info --plan``: every step of the planned forward pass beside the least time that it could take here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leyolo import _C
from leyolo.bench.limits import Limits, measure
from leyolo.errors import UsageError
from leyolo.runtime import Engine, Program
from leyolo.runtime.engine import scratch
from leyolo.runtime.program import CHAIN, CONV2D, DEPTHWISE, MAX_POOL, SILU, UNIT, UPSAMPLE2X

if TYPE_CHECKING:
    from leyolo.weights import Checkpoint

Row = dict[str, Any]
Seconds = NDArray[np.float64]
_WARM_UP = 3


def plan(
    checkpoint: Checkpoint,
    *,
    imgsz: int = 640,
    threads: int | None = None,
    runs: int = 30,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Plans the forward pass of one uint8 image of ``imgsz`` x ``imgsz`` and times its steps.

    Args:
        imgsz: a multiple of 32.
        threads: that share the image; None: as many as ``leyolo._C`` uses now.
        runs: the times are medians of so many.
        limits: of this machine with these threads; None: measured here, in about half a second.

    Returns:
        ready for JSON: model, imgsz, threads, isa, runs, limits (:meth:`Limits.to_dict`), steps, total, forward_us.

        A step has name, kernel, activation ("none" or "silu"), residual, addend (whether it reads a map of half its
        size too: what that contributes to a convolution's sums, or a depthwise convolution's first channels), chain
        (the row of the chain that it belongs to, or None), in and out ([H, W, C]), tile ([[pixels, vectors], …], the
        register tiles; empty where there are none), bytes_in (with residual and addend), bytes_out, bytes_weights,
        flops (two for a multiply-add; activations are not counted), level (the nearest memory that holds these bytes),
        floor_us (the longer of the arithmetic at its peak and the bytes at that level's bandwidth) and time_us. The
        steps of a chain run together, row by row: its own row counts what goes in at one end and comes out at the other
        and has the time, the rows of its steps, which follow, have None for level, floor_us and time_us. ``total`` has
        the sums over the rows with a time, and ``forward_us`` is a whole call, timed apart.

    Raises:
        UsageError: a wrong argument.
    """
    if imgsz < 32 or imgsz % 32:
        raise UsageError(f"imgsz must be a multiple of 32, got {imgsz}")
    if runs < 1:
        raise UsageError(f"runs should be at least 1, got {runs}")
    limits = limits or measure(threads)
    threads = threads or limits.threads
    before = _C.num_threads()
    _C.set_num_threads(threads)
    try:
        engine = Engine(checkpoint)
        program = engine.program(imgsz, imgsz, from_bytes=True)
        rows = _rows(program, [weight.nbytes for weight in engine.network.weights])
        times, forward = _times(engine, program, imgsz, runs)
    finally:
        _C.set_num_threads(before)
    for row, seconds in zip(rows, times, strict=True):
        moved = row["bytes_in"] + row["bytes_out"] + row["bytes_weights"]
        timed = row["chain"] is None
        row["level"] = limits.level(moved).name if timed else None
        row["floor_us"] = limits.floor(row["flops"], moved) * 1e6 if timed else None
        row["time_us"] = float(seconds) * 1e6 if timed else None
    sums = ("bytes_in", "bytes_out", "bytes_weights", "flops", "floor_us", "time_us")
    return {
        "model": f"leyolo-{checkpoint.size}",
        "imgsz": imgsz,
        "threads": threads,
        "isa": limits.isa,
        "runs": runs,
        "limits": limits.to_dict(),
        "steps": rows,
        "total": {key: sum(row[key] for row in rows if row["chain"] is None) for key in sums},
        "forward_us": forward * 1e6,
    }


def _times(engine: Engine, program: Program, imgsz: int, runs: int) -> tuple[Seconds, float]:
    """Seconds: medians of every row of the program and of the whole."""
    x = np.random.default_rng(0).integers(0, 256, (1, imgsz, imgsz, 3), np.uint8)
    arena, out = scratch(program.arena_size), np.empty((1, *program.shape), np.float32)
    steps = np.zeros((_WARM_UP + runs, len(program.steps)))
    whole = []

    def forward(times: Seconds | None) -> None:
        _C.forward(
            *(x, program.steps, engine.network.weights, arena, program.arena_size, list(program.shape)),
            out=out,
            times=times,
        )

    for times in steps:
        forward(times)
        start = time.perf_counter()
        forward(None)
        whole.append(time.perf_counter() - start)
    return np.median(steps[_WARM_UP:], axis=0), float(np.median(whole[_WARM_UP:]))


def _rows(program: Program, weight_bytes: list[int]) -> list[Row]:
    rows: list[Row] = []
    table = program.steps.tolist()
    chain, end = 0, 0  # the last chain and the row behind it
    for index, (name, fields) in enumerate(zip(program.names, table, strict=True)):
        if fields[0] == CHAIN:
            end, chain = index + 1 + fields[1], index
            rows.append(_chain(name, table[index + 1 : end], band=fields[2], weight_bytes=weight_bytes))
        else:
            rows.append(_step(name, fields, chain if index < end else None, weight_bytes))
    return rows


def _step(name: str, fields: list[int], chain: int | None, weight_bytes: list[int]) -> Row:
    kind, _, _, _, height, width, channels, _, _, _, out_height, out_width, out_channels, k, stride = fields[:15]
    activation, residual, weight, addend = fields[16], fields[17], fields[19], fields[21]
    pixels = out_height * out_width
    kernel, tile, flops = "", [], 0
    if kind == CONV2D:
        kernel, tile = f"conv2d {k}x{k}", [list(t) for t in _C.conv2d_tiles(out_channels)]
        flops = 2 * pixels * out_channels * channels * k * k
    elif kind == DEPTHWISE:
        kernel, tile = f"depthwise k{k}", [[_C.depthwise_strip(out_width), 1]]
        flops = 2 * pixels * out_channels * k * k
    else:
        kernel = {MAX_POOL: f"max_pool {k}x{k}", UPSAMPLE2X: "upsample 2x", UNIT: "bytes to 0..1"}[kind]
    return {
        "name": name,
        "kernel": f"{kernel} s{stride}" if stride > 1 else kernel,
        "activation": "silu" if activation == SILU else "none",
        "residual": residual >= 0,
        "addend": addend >= 0,
        "chain": chain,
        "in": [height, width, channels],
        "out": [out_height, out_width, out_channels],
        "tile": tile,
        "bytes_in": height * width * channels * (1 if kind == UNIT else 4)
        + (4 * pixels * out_channels if residual >= 0 else 0)
        + (_addend_bytes(fields) if addend >= 0 else 0),
        "bytes_out": 4 * pixels * out_channels,
        "bytes_weights": weight_bytes[weight] if weight >= 0 else 0,
        "flops": flops,
    }


def _addend_bytes(fields: list[int]) -> int:
    height, width, channels = fields[10:13]
    return height * width * (channels - fields[6] if fields[0] == DEPTHWISE else channels)  # a quarter of 4 bytes


def _chain(name: str, table: list[list[int]], *, band: int, weight_bytes: list[int]) -> Row:
    """The row of a chain of the steps in ``table``, which writes ``band`` rows of its result at a time."""
    steps = [_step("", fields, None, weight_bytes) for fields in table]
    # What residuals add, unless it is the input, which is read anyway.
    others = [f for f in table if f[17] >= 0 and f[17] != table[0][2]]
    return {
        "name": name,
        "kernel": f"{band} rows at a time" if band > 1 else "row by row",
        "activation": "none",
        "residual": False,
        "addend": False,
        "chain": None,
        "in": steps[0]["in"],
        "out": steps[-1]["out"],
        "tile": [],
        "bytes_in": steps[0]["bytes_in"]
        + sum(4 * f[10] * f[11] * f[12] for f in others)
        + sum(_addend_bytes(f) for f in table[1:] if f[21] >= 0),
        "bytes_out": steps[-1]["bytes_out"],
        "bytes_weights": sum(step["bytes_weights"] for step in steps),
        "flops": sum(step["flops"] for step in steps),
    }
