"""The checks of ``leyolo doctor``. Each says what it found and, where something is amiss, what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

State = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One finding. "note": something optional is absent; "warning": it works, but not as well as it could; "error":
    prediction does not work."""

    name: str
    state: State
    text: str
    advice: str = ""


def checks() -> list[Check]:
    """All checks in the order a person wants to read them; one that fails unexpectedly is a finding, not a crash."""
    found: list[Check] = []
    for check in (_kernels, _isa, _threads, _weights, _prediction, _torch, _cuda, _decoders, _video, _evaluation):
        try:
            found += check()
        except Exception as error:
            found.append(Check(check.__name__.strip("_"), "error", f"{type(error).__name__}: {error}"))
    return found


def version_of(package: str) -> str | None:
    """Version of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _kernels() -> Iterator[Check]:
    import leyolo

    try:
        from leyolo import _C
    except ImportError as error:
        yield Check(
            "kernels", "error", f"leyolo._C does not load: {error}", "reinstall: pip install --force-reinstall leyolo"
        )
        return
    build = _C.build_info()
    yield Check("kernels", "ok", f"leyolo {leyolo.__version__}, {build['compiler']}, {build['build_type']} build")
    if build["build_type"] not in ("Release", "RelWithDebInfo"):
        yield Check(
            "build", "warning", f"a {build['build_type']} build is slow", "build again with CMAKE_BUILD_TYPE=Release"
        )


def _isa() -> Iterator[Check]:
    from leyolo import _C

    cpu = _C.cpu_features()
    best = "avx512" if cpu.get("avx512f") else "avx2" if cpu.get("avx2") and cpu.get("fma") else "baseline"
    asked = os.environ.get("LEYOLO_ISA")
    if asked and cpu["isa"] != best:
        yield Check(
            "cpu", "warning", f"runs {cpu['isa']} because LEYOLO_ISA={asked}; this CPU has {best}", "unset LEYOLO_ISA"
        )
    elif cpu["isa"] == "baseline":
        yield Check("cpu", "note", "runs the baseline kernels", "a CPU with AVX2 or AVX-512 is several times faster")
    else:
        yield Check("cpu", "ok", f"{cpu['isa']} kernels" + (", bfloat16 dot products" if cpu["bf16_dot"] else ""))


def _threads() -> Iterator[Check]:
    from leyolo import _C

    threads, cores = int(_C.cpu_features()["threads"]), os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    if threads > allowed:
        yield Check(
            "threads",
            "warning",
            f"{threads} threads on {allowed} usable cores",
            f"set LEYOLO_NUM_THREADS={allowed}",
        )
    elif threads < allowed:
        asked = next(
            (f"{k}={os.environ[k]}" for k in ("LEYOLO_NUM_THREADS", "OMP_NUM_THREADS") if k in os.environ), None
        )
        yield Check(
            "threads", "note", f"{threads} of {allowed} usable cores" + (f" because of {asked}" if asked else "")
        )
    else:
        limited = f" (of {cores}: this process is pinned)" if allowed < cores else ""
        yield Check("threads", "ok", f"{threads} on {allowed} usable cores{limited}")


def _weights() -> Iterator[Check]:
    from leyolo.assets import DEFAULT, PACKAGED
    from leyolo.weights import WeightsError, load

    try:
        load(PACKAGED[DEFAULT])
        yield Check("weights", "ok", ", ".join(PACKAGED))
    except (KeyError, OSError, WeightsError) as error:
        yield Check("weights", "error", f"those inside the package cannot be read: {error}", "install leyolo again")


def _prediction() -> Iterator[Check]:
    """The whole path on a blank picture with random weights: what has to work for anything to work."""
    import numpy as np

    from leyolo import _C

    x, scale, _ = _C.letterbox(np.full((30, 40, 3), 127, np.uint8), 64)
    centers, strides = np.full((3, 2), 8, np.float32), np.full(3, 8, np.float32)
    boxes, scores, labels, counts = _C.detect_decode(
        np.zeros((1, 3, 65), np.float32), centers, strides, score_threshold=0.4
    )
    _, kept = _C.nms_padded(boxes, scores, labels, iou_threshold=0.5, max_det=10, counts=counts)
    from leyolo.runtime import Engine  # noqa: F401

    good = x.shape[-3:] == (64, 64, 3) and abs(scale - 1.6) < 1e-6 and int(counts[0]) == 3 and int(kept[0]) == 1
    if good:
        yield Check("prediction", "ok", "letterbox, decoding and NMS give the expected numbers")
    else:
        yield Check(
            "prediction", "error", "the kernels give wrong numbers", "report it with the output of: leyolo info --json"
        )


def _torch() -> Iterator[Check]:
    from leyolo import _C

    version = version_of("torch")
    ops = bool(_C.build_info()["torch_ops"])
    if version is None:
        yield Check(
            "torch",
            "note",
            "not installed",
            "prediction does not need it; operators, training: pip install 'leyolo[torch]'",
        )
    elif _release(version) < (2, 11):
        yield Check("torch", "warning", f"{version} is older than 2.11", "pip install -U torch")
    elif not ops:
        yield Check(
            "torch",
            "warning",
            f"{version}, but this build has no torch operators",
            "reinstall leyolo with torch installed",
        )
    else:
        library = next((p / "libleyolo_torch.so" for p in _folders() if (p / "libleyolo_torch.so").exists()), None)
        if library is None:
            yield Check(
                "torch", "error", "libleyolo_torch.so is missing", "reinstall: pip install --force-reinstall leyolo"
            )
        else:
            yield Check("torch", "ok", f"{version} with leyolo's operators")


def _folders() -> list[Path]:
    import leyolo
    from leyolo import _C

    return [Path(str(_C.__file__)).parent, Path(str(leyolo.__file__)).parent]


def _release(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")[:2]
    return tuple(int("".join(c for c in p if c.isdigit()) or 0) for p in parts)


def _cuda() -> Iterator[Check]:
    from leyolo import _C

    build = _C.build_info()
    if build["cuda"]:
        yield Check("cuda", "ok", f"kernels for {build['cuda_architectures']}, CUDA {build['cuda']}")
    elif Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists():
        yield Check(
            "cuda",
            "warning",
            "there is an NVIDIA GPU, but this build has no CUDA kernels",
            "build leyolo with nvcc on PATH",
        )
    else:
        yield Check("cuda", "note", "no CUDA kernels in this build, and no NVIDIA GPU here")


def _decoders() -> Iterator[Check]:
    pillow = version_of("pillow")
    if pillow is None:
        yield Check("pictures", "error", "Pillow is not installed", "pip install pillow")
        return
    from PIL import features

    lacking = [
        name
        for name, feature in (("WebP", "webp"), ("JPEG 2000", "jpg_2000"), ("AVIF", "avif"))
        if not features.check(feature)
    ]
    more = f" (without {', '.join(lacking)})" if lacking else ""
    if util.find_spec("simplejpeg") is None:
        yield Check(
            "pictures", "note", f"Pillow {pillow}{more}", "JPEG decodes faster with: pip install 'leyolo[fast]'"
        )
    else:
        yield Check("pictures", "ok", f"Pillow {pillow}{more}, simplejpeg {version_of('simplejpeg')}")


def _video() -> Iterator[Check]:
    version = version_of("av")
    if version is None:
        yield Check("video", "note", "PyAV is not installed", "videos and cameras: pip install 'leyolo[video]'")
    else:
        yield Check("video", "ok", f"PyAV {version}")


def _evaluation() -> Iterator[Check]:
    version = version_of("faster-coco-eval")
    if version is None:
        yield Check("evaluation", "note", "faster-coco-eval is not installed", "leyolo val: pip install 'leyolo[val]'")
    else:
        yield Check("evaluation", "ok", f"faster-coco-eval {version}")
