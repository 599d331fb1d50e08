#!/usr/bin/env python3
"""Our CUDA kernels beside eager torch, torch.compile and torchvision on this machine's GPU.

    python benchmarks/gpu/run.py --json results.json --markdown results.md [--quick] [--device cpu] [box_iou ...]

``case_<name>.py`` beside this file lists cases (see case.py); every file runs in a process of its own, so that one that
crashes takes no other with it. ``--device cpu`` rehearses. Results are written after every case: whoever ends this
command early loses the case that is being measured, and no other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FAILED = {"model_compiled": "torch.compile"}
"""Files that come last, and whose failure is somebody else's: a search over kernels may take longer than we have."""


def environment(device: str) -> dict[str, Any]:
    import torch

    from leyolo import __version__

    found: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "leyolo": __version__,
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "multiprocessors": properties.multi_processor_count}
        found["memory_gib"] = properties.total_memory / 2**30
    found["bandwidth_gb_per_s"] = bandwidth(device) / 1e9
    return found


def bandwidth(device: str) -> float:
    """Bytes read and written per second by a copy that no cache holds."""
    import torch

    from case import median_us

    count = 1 << (28 if device == "cuda" else 22)
    source = torch.zeros(count, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 8 * count / median_us(lambda: target.copy_(source), device, rounds=5, target=0.02) * 1e6


def run_one(name: str, device: str, quick: bool) -> None:
    """Prints the rows of a case as a line of JSON as soon as they are there: what is cut off keeps them."""
    import torch

    from case import measure

    torch.backends.cudnn.benchmark = True
    speed = bandwidth(device)
    for case in import_module(f"case_{name}").cases(device, quick):
        if case.headline or not quick:
            print(json.dumps(measure(case, device, speed, quick=quick)), flush=True)


def in_a_process(name: str, device: str, quick: bool, limit: float) -> Iterator[list[dict[str, Any]]]:
    """The rows of every case of a file, as they come."""
    if limit <= 0:
        yield [{"case": name, "name": FAILED.get(name, "all"), "error": "no time left"}]
        return
    command = [sys.executable, __file__, name, "--device", device, "--child", *(["--quick"] if quick else [])]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        # With its children: torch's compiler has some, and they would hold the pipe open.
        late = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        assert process.stdout
        for line in process.stdout:
            if line.startswith(b"[") and line.endswith(b"]\n"):
                yield json.loads(line)
        code = process.wait()
        ended = late.is_alive()
        late.cancel()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if code:
        print(said, file=sys.stderr)
        last = (said.strip().splitlines() or [""])[-1]
        error = f"exit {code}: {last}" if ended else f"not done within {limit:.0f} s"
        yield [{"case": name, "name": FAILED.get(name, "all"), "error": error}]


def markdown(report: dict[str, Any]) -> str:
    head = report["environment"]
    lines = [
        f"{head['device']}, torch {head['torch']}, CUDA {head['cuda']}, leyolo {head['leyolo']}, "
        f"copy {head['bandwidth_gb_per_s']:.0f} GB/s",
        "",
        "| case | who | µs | in a graph, µs | ratio to ours | in a graph | goal, µs | floor, µs |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def number(row: dict[str, Any], key: str, form: str) -> str:
        return format(row[key], form) if row.get(key) is not None else ""

    for row in report["rows"]:
        if row.get("error"):
            lines.append(f"| {row['case']} | {row['name']} | {row['error']} | | | | | |")
            continue
        cells = [row["case"], row["name"], *(number(row, key, ".1f") for key in ("median_us", "graph_us"))]
        cells += [number(row, key, ".2f") for key in ("median_ratio", "graph_ratio")]
        cells += [number(row, key, ".1f") for key in ("goal_us", "floor_us")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    found = (path.stem.removeprefix("case_") for path in HERE.glob("case_*.py"))
    known = sorted(found, key=lambda name: (name in FAILED, name))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; none: all")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="headline cases only, with fewer rounds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--limit", type=float, default=120, help="seconds for each file of cases")
    parser.add_argument("--budget", type=float, default=540, help="seconds for all files together")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.names or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no cases are called {', '.join(unknown)} (known: {', '.join(known)})")
    if arguments.child:
        run_one(names[0], arguments.device, arguments.quick)
        return 0
    report: dict[str, Any] = {"environment": environment(arguments.device), "rows": []}
    end = time.perf_counter() + arguments.budget
    for name in names:
        start = time.perf_counter()
        for rows in in_a_process(name, arguments.device, arguments.quick, min(arguments.limit, end - start)):
            report["rows"] += rows
            if arguments.json:
                arguments.json.write_text(json.dumps(report, indent=1))
            if arguments.markdown:
                arguments.markdown.write_text(markdown(report))
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)
    print(markdown(report))
    return 1 if any(row.get("error") and row["name"] in ("leyolo", "all") for row in report["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
