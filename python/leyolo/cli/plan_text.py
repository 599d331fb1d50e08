"""The plan of a forward pass as a table that fits 120 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from leyolo.bench.environment import threads_text

_HEADER = ("step", "kernel", "shape", "tile", "KiB in", "out", "wts", "MFLOP", "floor us", "at", "time us", "%")
_LEFT = (0, 1, 2, 3, 9)


def text(plan: dict[str, Any]) -> str:
    """The report of :func:`leyolo.bench.plan.plan`: what it belongs to, a line a step, sums, and what they mean."""
    limits, total = plan["limits"], plan["total"]
    levels = ", ".join(f"{name} {rate:.0f}" for name, rate in limits["read_gb_per_s"].items())
    threads = threads_text(plan["threads"])
    lines = _aligned([_HEADER, *(_cells(step) for step in plan["steps"]), ("total", "", "", "", *_sums(total))])
    rate = total["flops"] / plan["forward_us"] * 1e-3
    whole, floor = plan["forward_us"] * 1e-3, total["floor_us"] * 1e-3
    return "\n".join(
        [
            f"{plan['model']}, {plan['imgsz']} x {plan['imgsz']}, float32, {threads}, {plan['isa']}",
            f"this machine: {limits['gflop_per_s']:.0f} GFLOP/s; GB/s read: {levels}",
            "",
            *lines,
            "",
            f"whole pass {whole:.2f} ms ({rate:.0f} GFLOP/s), floor {floor:.2f} ms; medians of {plan['runs']} runs",
            "floor: the longer of MFLOP at the machine's peak (activations not counted) and bytes from the memory `at`",
            "which they fit; %: floor of time; tile: pixels x vectors; steps of a chain share their chain's time",
        ]
    )


def _cells(step: dict[str, Any]) -> tuple[str, ...]:
    height, width, channels = step["in"]
    out = step["out"][2] if step["out"][:2] == [height, width] else "x".join(map(str, step["out"]))
    return (
        step["name"] if step["chain"] is None else f"  {step['name']}",
        step["kernel"],
        f"{height}x{width}x{channels} > {out}",
        "+".join(dict.fromkeys(f"{pixels}x{vectors}" for pixels, vectors in step["tile"])),
        *_sums(step),
    )


def _sums(row: dict[str, Any]) -> tuple[str, ...]:
    floor, time = row["floor_us"], row["time_us"]
    return (
        *(f"{row[key] / 1024:.0f}" for key in ("bytes_in", "bytes_out", "bytes_weights")),
        f"{row['flops'] / 1e6:.1f}" if row["flops"] else "",
        *(
            ("", "", "", "")
            if time is None
            else (_us(floor), row.get("level", ""), _us(time), f"{floor / time:.0%}"[:-1])
        ),
    )


def _us(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Numbers to the right, the rest to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        " ".join(
            cell.ljust(width) if i in _LEFT else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
