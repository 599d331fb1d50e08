"""Mistakes planted into kernels: whoever looks for them must find them.

Needs what ``tools/cuda_shim.sh plain``, ``asan`` and ``tsan`` have built (``make cuda-check`` does it)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIM = ROOT / "build" / "shim"
CHECK = ROOT / "tests" / "cpp" / "cuda" / "test_shim.cu"
OPS = ROOT / "csrc" / "ops"

FLAGS: dict[str, list[str]] = {
    "plain": [],
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
    "tsan": ["-fsanitize=thread"],
}
WRONG = r"failed: |expected .* within"
OVERFLOW = "AddressSanitizer: heap-buffer-overflow"
RACE = r"data race"
STUCK = "CUDA shim: .*threads wait in __syncthreads of"


class Plant(NamedTuple):
    file: Path  # a .cu, or a header of the .cu files in `units`
    right: str
    wrong: str
    tests: str  # beginning of the names of the tests that must notice it
    found: dict[str, str]  # mode -> what is said then
    units: tuple[Path, ...] = ()


BLOCK_NORM = OPS / "inverted_bottleneck_norm"
CONV2D_UNITS = (OPS / "conv2d" / "conv2d.cu", OPS / "conv2d" / "conv2d_tf32.cu")

PLANTS = {
    "no barrier after a tile is filled": Plant(
        CHECK,
        "tile[threadIdx.x] = x[i];\n  __syncthreads();",
        "tile[threadIdx.x] = x[i];",
        "shim_gives_dynamic",
        {"plain": WRONG, "tsan": RACE},
    ),
    "no barrier before partial sums are read": Plant(
        CHECK,
        "= sum;\n  __syncthreads();",
        "= sum;",
        "shim_sums",
        {"plain": WRONG, "tsan": RACE},
    ),
    "a barrier in each of two branches": Plant(
        CHECK,
        "tile[threadIdx.x] = x[i];\n  __syncthreads();",
        "tile[threadIdx.x] = x[i];\n  if (i % 2)\n    __syncthreads();\n  else\n    __syncthreads();",
        "shim_gives_dynamic",
        {"plain": STUCK},
    ),
    "a lane that does not come to a shuffle": Plant(
        CHECK,
        "to->half[t] = __ballot_sync(0xffffu, 1);",
        "to->half[t] = __ballot_sync(0xffffffffu, 1);",
        "shim_shuffles",
        {"plain": "CUDA shim: .*(the block is stuck|lanes of a warp wait in)"},
    ),
    "a bound that is one too large": Plant(
        CHECK, "i < n ? float(x[i])", "i <= n ? float(x[i])", "shim_sums", {"asan": OVERFLOW}
    ),
    "too little shared memory asked for": Plant(
        CHECK, "100 * sizeof(int)", "99 * sizeof(int)", "shim_gives_dynamic", {"asan": OVERFLOW}
    ),
    "no fence before a block says that it is done": Plant(
        CHECK, "__threadfence();\n    last[0]", "last[0]", "shim_lets", {"tsan": RACE}
    ),
    "two blocks write one word": Plant(
        CHECK, "  sums[blockIdx.x] = sum;", "  sums[0] = sum;", "shim_sums", {"plain": WRONG, "tsan": RACE}
    ),
    "box_iou, a bound that is one too large": Plant(
        OPS / "box_iou" / "box_iou.exact.cu",
        "(column[k] < tiles.m) to[",
        "(column[k] <= tiles.m) to[",
        "box_iou_of_unaligned",
        {"asan": OVERFLOW},
    ),
    "box_iou, no barrier after a tile is filled": Plant(
        OPS / "box_iou" / "box_iou.exact.cu",
        "  __syncthreads();\n",
        "",
        "box_iou_of_unaligned",
        {"tsan": RACE},
    ),
    "box_iou gradient, no barrier before the sums of the warps are added": Plant(
        OPS / "box_iou" / "box_iou_backward.exact.cu",
        "= field(total, p);\n  __syncthreads();",
        "= field(total, p);",
        "box_iou_gradient",
        {"tsan": RACE},
    ),
    "nms, no barrier between the decision and its use": Plant(
        OPS / "nms" / "nms.cuh",
        "*keeps = kept;\n    }\n    __syncthreads();",
        "*keeps = kept;\n    }",
        "nms",
        {"tsan": RACE},
        units=(OPS / "nms" / "nms.exact.cu", OPS / "nms" / "nms_rounds.exact.cu"),
    ),
    "depthwise_conv2d, a strip that is not the last one": Plant(
        OPS / "depthwise_conv2d" / "depthwise_conv2d.cu",
        "if (id >= threads) return;",
        "",
        "depthwise",
        {"asan": OVERFLOW},
    ),
    "conv2d, no wait for the last copies": Plant(
        OPS / "conv2d" / "conv2d_mma.cuh",
        "    } else {\n      copy_async_wait<0>();\n    }",
        "    }",
        "conv2d_cuda_windows",
        {"plain": WRONG},
        units=CONV2D_UNITS,
    ),
    "conv2d, a wait that leaves a group too many under way": Plant(
        OPS / "conv2d" / "conv2d_mma.cuh",
        "copy_async_wait<1>();",
        "copy_async_wait<2>();",
        "conv2d_cuda_w",
        {"plain": WRONG},
        units=CONV2D_UNITS,
    ),
    "conv2d, a column beside the image": Plant(
        OPS / "conv2d" / "conv2d_mma.cuh",
        "unsigned(p.left + dx) < unsigned(s.width);",
        "unsigned(p.left + dx) <= unsigned(s.width);",
        "conv2d_cuda_windows",
        {"plain": WRONG},
        units=CONV2D_UNITS,
    ),
    "conv2d, pixels that do not exist": Plant(
        OPS / "conv2d" / "conv2d_mma.cuh",
        "if (p >= s.pixels) continue;",
        "",
        "conv2d_cuda_pointwise",
        {"asan": OVERFLOW},
        units=CONV2D_UNITS,
    ),
    "conv2d, values that were not rounded to TF32": Plant(
        OPS / "conv2d" / "conv2d_mma.cuh",
        "bits = tf32_of(bits);",
        "bits += 0;",
        "conv2d_cuda_tf32",
        {"plain": WRONG},
        units=CONV2D_UNITS,
    ),
    "inverted_bottleneck, no wait for the first weights": Plant(
        OPS / "inverted_bottleneck" / "inverted_bottleneck.cuh",
        "  load_weights(0, m.weights);\n  copy_async_commit();\n  copy_async_wait<0>();",
        "  load_weights(0, m.weights);\n  copy_async_commit();",
        "inverted_bottleneck",
        {"plain": WRONG},
        units=(OPS / "inverted_bottleneck" / "inverted_bottleneck.cu",),
    ),
    "detect_head, no barrier between its two filters": Plant(
        OPS / "forward" / "forward_head.cu",
        "    __syncthreads();\n    filter<T, 3, 1, kRows, kRow>",
        "    filter<T, 3, 1, kRows, kRow>",
        "blocks_head",
        {"plain": WRONG, "tsan": RACE},
    ),
    "detect_head, a border that is not zero outside the image": Plant(
        OPS / "forward" / "forward_head.cu",
        "b.activation}, in_image);",
        "b.activation}, everywhere);",
        "blocks_head",
        {"plain": WRONG},
    ),
    "detect_head, taps of the other branch": Plant(
        OPS / "forward" / "forward_head.cu",
        "values(a.second, depthwise_cuda_bias(a.all_channels)) + a.first_channel",
        "values(a.second, depthwise_cuda_bias(a.all_channels))",
        "blocks_head",
        {"plain": WRONG},
    ),
    "max_pool_chain, no barrier before a pool reads the one before it": Plant(
        OPS / "max_pool2d" / "max_pool_chain.cu",
        "side = kSide - 2 * begin;\n    __syncthreads();",
        "side = kSide - 2 * begin;",
        "blocks_pools",
        {"plain": WRONG, "tsan": RACE},
    ),
    "stem, no barrier before its weights are overwritten": Plant(
        OPS / "inverted_bottleneck" / "inverted_bottleneck.cuh",
        "s.x_row, s.activation);\n    __syncthreads();",
        "s.x_row, s.activation);",
        "blocks_stem",
        {"tsan": RACE},
        units=(OPS / "inverted_bottleneck" / "inverted_bottleneck_stem.cu",),
    ),
    "upsampling in a block, the row beside": Plant(
        OPS / "inverted_bottleneck" / "bottleneck_tile.cuh",
        "int64_t(r / 2) * (width / 2) + c / 2",
        "int64_t(r / 2) * (width / 2) + (c + 1) / 2",
        "blocks_upsampling",
        {"plain": WRONG},
        units=(OPS / "inverted_bottleneck" / "inverted_bottleneck.cu",),
    ),
    "batch_norm_act, no barrier before the sums of threads are added": Plant(
        OPS / "batch_norm_act" / "batch_norm_act_backward.cu",
        "= product[v].value();\n  }\n  __syncthreads();",
        "= product[v].value();\n  }",
        "batch_norm",
        {"tsan": RACE},
    ),
    "inverted_bottleneck_norm, operands overwritten while they are read": Plant(
        BLOCK_NORM / "pointwise_norm.cu",
        "product.add(a, b);\n      __syncthreads();",
        "product.add(a, b);",
        "inverted_bottleneck_norm_is",
        {"tsan": RACE},
    ),
    "inverted_bottleneck_norm, results of a tile under operands of the next": Plant(
        BLOCK_NORM / "pointwise_norm.cu",
        "    }\n    __syncthreads();\n  }\n  constexpr int kValues",
        "    }\n  }\n  constexpr int kValues",
        "inverted_bottleneck_norm_is",
        {"tsan": RACE},
    ),
    "inverted_bottleneck_norm, pixels behind the last one": Plant(
        BLOCK_NORM / "pointwise_norm.cu",
        "if (first + row >= s.pixels) break;",
        "",
        "inverted_bottleneck_norm_is",
        {"asan": OVERFLOW},
    ),
    "inverted_bottleneck_norm, a product before its maps have arrived": Plant(
        BLOCK_NORM / "pointwise_weight.cu",
        "__syncthreads();\n    product.add",
        "product.add",
        "inverted_bottleneck_norm_is",
        {"tsan": RACE},
    ),
    "inverted_bottleneck_norm, sums before all threads have left theirs": Plant(
        BLOCK_NORM / "depthwise_norm.cu",
        "__syncthreads();\n  return beside",
        "return beside",
        "inverted_bottleneck_norm_is",
        {"tsan": RACE},
    ),
    "depthwise_conv2d, a column beside the image": Plant(
        OPS / "depthwise_conv2d" / "depthwise_images.cu",
        "left + j < s.width ?",
        "left + j <= s.width ?",
        "depthwise_images",
        {"plain": WRONG},
    ),
    "conv2d, no barrier before a stage is overwritten": Plant(
        OPS / "conv2d" / "conv2d_mma.cuh",
        "      }\n    }\n    __syncthreads();",
        "      }\n    }",
        "conv2d_cuda_windows",
        {"tsan": RACE},
        units=CONV2D_UNITS,
    ),
    "simota, two warps that count into one place": Plant(
        OPS / "simota" / "simota.exact.cu", "in_warp[warp] = __popc", "in_warp[0] = __popc", "simota", {"tsan": RACE}
    ),
    "box_iou, a row that belongs to another image": Plant(
        OPS / "box_iou" / "box_iou.exact.cu",
        "out + (image * tiles.n + first_row + i)",
        "out + (image * tiles.n + i)",
        "box_iou_is",
        {"plain": WRONG},
    ),
    "nms, boxes that no later round drops": Plant(
        OPS / "nms" / "nms_rounds.exact.cu", "s.dropped[i] = 1;", "s.dropped[i] = 0;", "nms_by_rounds", {"plain": WRONG}
    ),
    "detect_decode, a sum without an atomic": Plant(
        OPS / "detect_decode" / "detect_decode.exact.cu",
        "atomicAdd(total, count)",
        "*total += count",
        "detect_decode_of_any",
        {"tsan": RACE},
    ),
    "letterbox, one line of shared memory instead of two": Plant(
        OPS / "letterbox" / "letterbox.exact.cu",
        "+ r % 2 * kPixels * 3",
        "",
        "letterbox_is",
        {"tsan": RACE},
    ),
}
PLANTS |= {
    "simota, candidates listed before all are counted": Plant(
        OPS / "simota" / "simota.exact.cu",
        "if (lane == 0) in_warp[warp] = __popc(votes);\n    __syncthreads();",
        "if (lane == 0) in_warp[warp] = __popc(votes);",
        "simota_is",
        {"plain": WRONG, "tsan": RACE},
    ),
    "simota, an anchor past the last": Plant(
        OPS / "simota" / "simota.exact.cu",
        "bool const valid = j < p.A;",
        "bool const valid = j <= p.A;",
        "simota_is",
        {"asan": OVERFLOW},
    ),
    "simota, costs off the centre left out": Plant(
        OPS / "simota" / "simota.exact.cu", "      all = true;\n", "      all = false;\n", "simota_is", {"plain": WRONG}
    ),
    "tal, zeros counted without the positive ones": Plant(
        OPS / "tal" / "tal.exact.cu", "j - before < zeros", "j < zeros", "tal_", {"plain": WRONG}
    ),
    "ota, a row read while it is written": Plant(
        OPS / "ota" / "ota.exact.cu",
        "const old = p.u[at], log_mu",
        "const& old = p.u[at]; double const log_mu",
        "ota_options",
        {"tsan": RACE},
    ),
    "ota, a tile of the chunk left out": Plant(
        OPS / "ota" / "ota.exact.cu",
        "if (t + s >= tiles) break;",
        "if (t + s >= tiles - 1) break;",
        "ota_options",
        {"plain": WRONG},
    ),
}

CASES = [pytest.param(plant, mode, id=f"{name}, {mode}") for name, plant in PLANTS.items() for mode in plant.found]


def cuda_headers() -> str:
    cache = (SHIM / "plain" / "CMakeCache.txt").read_text()
    found = re.search(r"LEYOLO_CUDA_INCLUDE:PATH=(.*)", cache)
    assert found
    return found[1]


@pytest.fixture(scope="session")
def built() -> None:
    for mode in FLAGS:
        if not (SHIM / mode / "tests" / "cpp" / "leyolo_cuda_tests").exists():
            pytest.skip(f"tools/cuda_shim.sh {mode} has not been run")


def compile_unit(folder: Path, unit: Path, mode: str) -> str:
    """Headers and sources below ``folder`` stand in for those of the repository."""
    planted = folder / unit.relative_to(ROOT)
    source, target = planted if planted.exists() else unit, folder / f"{unit.name}.o"
    places = [folder / "csrc", ROOT / "csrc", CHECK.parent, CHECK.parents[1]]
    options = ["-std=gnu++20", "-O1", "-g", "-ffp-contract=off", "-DLEYOLO_WITH_CUDA", "-DLEYOLO_CUDA_SHIM"]
    options += [*FLAGS[mode], *(f"-I{place}" for place in places), "-isystem", cuda_headers()]
    subprocess.run(["c++", *options, "-x", "c++", "-c", str(source), "-o", str(target)], check=True)
    return str(target)


def without_random_addresses() -> bool:
    """ThreadSanitizer needs addresses where it expects them."""
    return bool(shutil.which("setarch")) and not subprocess.run(["setarch", "-R", "true"], check=False).returncode


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(("plant", "mode"), CASES)
def test_a_planted_mistake_is_found(plant: Plant, mode: str, tmp_path: Path) -> None:
    text = plant.file.read_text()
    assert text.count(plant.right) == 1, f"{plant.file.name} has changed: {plant.right!r} is there no longer, or twice"
    source = tmp_path / plant.file.relative_to(ROOT)
    source.parent.mkdir(parents=True)
    source.write_text(text.replace(plant.right, plant.wrong))
    objects = [compile_unit(tmp_path, unit, mode) for unit in plant.units or (plant.file,)]
    linked = {unit.name for unit in plant.units} | {plant.file.name}
    tests = (SHIM / mode / "tests" / "cpp" / "CMakeFiles" / "leyolo_cuda_tests.dir").rglob("*.o")
    others = [str(o) for o in tests if o.stem not in linked]
    archive = str(SHIM / mode / "libkernels_cuda.a")  # what the planted objects define is not taken from it
    program = str(tmp_path / "planted")
    subprocess.run(["c++", *FLAGS[mode], *objects, *others, archive, "-pthread", "-ldl", "-o", program], check=True)
    command = [program, plant.tests]
    if mode == "tsan" and without_random_addresses():
        command = ["setarch", "-R", *command]
    seed = os.environ | {"LEYOLO_SHIM_SEED": "0"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=seed)
    said = run.stdout + run.stderr
    assert run.returncode != 0, f"nobody has noticed:\n{said}"
    assert re.search(plant.found[mode], said), said
    if mode != "plain":  # by its line
        assert re.search(re.escape(plant.file.name) + r":\d+", said), said
