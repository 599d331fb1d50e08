"""The machine and the software that figures belong to."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from leyolo import __version__
from leyolo.bench.timing import cores

PACKAGES = (
    "numpy",
    "torch",
    "torchvision",
    "onnxruntime",
    "openvino",
    "ncnn",
    "executorch",
    "opencv-python-headless",
    "opencv-python",
    "simplejpeg",
    "pillow",
)


def environment(threads: int) -> dict[str, Any]:
    """Versions, processor, instruction set, threads, load: ready for JSON."""
    from leyolo import _C

    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "leyolo": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "threads": threads,
        "cpu_features": _C.cpu_features(),
        "build": _C.build_info(),
        "packages": packages,
        "allocator": "glibc keeps freed blocks, for every runtime but those 'as installed'",
        "load_average": list(os.getloadavg()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def threads_text(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def processor() -> str:
    """The processor's name as it gives it itself."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
