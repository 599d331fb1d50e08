#!/usr/bin/env python3
"""All GPU benchmarks of this folder, each in a process of its own: one that crashes takes no other with it.

    python benchmarks/gpu/run.py --json results.json --markdown results.md [--headline] [nms ...]
    python benchmarks/gpu/run.py --device cpu --tiny       # a rehearsal

Both files are written after every benchmark. Exit 1 where a case failed, or disagrees with what it is compared to.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from case import Clock

HERE = Path(__file__).resolve().parent
NAMES = sorted(p.stem for p in HERE.glob("*.py") if "main(cases)" in p.read_text() and p.stem != Path(__file__).stem)


def environment(device: str) -> dict[str, Any]:
    from leyolo import __version__

    found: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "leyolo": __version__,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "multiprocessors": properties.multi_processor_count}
        found["memory_gib"] = properties.total_memory / 2**30
    count = 1 << (28 if device == "cuda" else 20)
    source = torch.zeros(count, device=device)
    target = torch.empty_like(source)
    found["copy_gb_per_s"] = 8 * count / Clock(device, 0.2).median(lambda: target.copy_(source)) / 1e6
    return found


def measure(name: str, options: list[str], limit: float) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(lines), *options]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
            error = f"exit {result.returncode}: {result.stderr[-300:]}" if result.returncode else ""
        except subprocess.TimeoutExpired:
            error = f"not done within {limit:.0f} s"
        rows: list[dict[str, Any]] = (
            [json.loads(row) for row in lines.read_text().splitlines()] if lines.exists() else []
        )
    return [*rows, {"op": name, "case": "all", "error": error}] if error else rows


def table(report: dict[str, Any]) -> str:
    head, rows = report["environment"], report["rows"]
    speed = head["copy_gb_per_s"]
    lines = [
        f"{head['device']}, torch {head['torch']}, CUDA {head['cuda']}, leyolo {head['leyolo']}, copy {speed:.0f} GB/s",
        "",
        "| op | case | ours, µs | in a graph | floor | goal | eager torch | eager / ours | others, µs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def us(row: dict[str, Any], key: str) -> str:
        return f"{1e3 * row[key]:.1f}" if row.get(key) is not None else ""

    known = {"ours_ms", "graph_ms", "goal_ms", "eager_ms"}
    for row in rows:
        if row.get("error"):
            lines.append(f"| {row['op']} | {row['case']} | {' '.join(row['error'].split())} | | | | | | |")
            continue
        floor = f"{row['bytes'] / speed / 1e3:.1f}"
        others = ", ".join(f"{key[:-3]} {us(row, key)}" for key in row if key.endswith("_ms") and key not in known)
        ratio = f"{row['ratio']:.1f}" if "ratio" in row else ""
        if row.get("agrees") is False:
            others += f" DISAGREES by {row['difference']:.2g}"
        cells = [row["op"], row["case"], us(row, "ours_ms"), us(row, "graph_ms"), floor, us(row, "goal_ms")]
        lines.append("| " + " | ".join([*cells, us(row, "eager_ms"), ratio, others]) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--headline", action="store_true", help="only what counts most")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to rehearse")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--limit", type=float, default=120, help="seconds for each benchmark")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(NAMES)):
        parser.error(f"no benchmarks are called {', '.join(unknown)} (known: {', '.join(NAMES)})")
    options = ["--device", arguments.device]
    options += [f"--{flag}" for flag in ("headline", "tiny") if getattr(arguments, flag)]
    report: dict[str, Any] = {"environment": environment(arguments.device), "rows": []}
    for name in arguments.names or NAMES:
        start = time.perf_counter()
        report["rows"] += measure(name, options, arguments.limit)
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1))
        if arguments.markdown:
            arguments.markdown.write_text(table(report))
    print(table(report))
    return 1 if any(row.get("error") or row.get("agrees") is False for row in report["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
