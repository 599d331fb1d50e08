"""The rules of the house, checked."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OPS = sorted(p.name for p in (ROOT / "csrc" / "ops").iterdir())
SIMD = sorted((ROOT / "csrc").rglob("*.simd.cpp"))
SOURCES = [p for suffix in ("h", "cpp", "cu", "cuh") for p in (ROOT / "csrc").rglob(f"*.{suffix}")]
INTERNAL = {"max_pool2d"}  # a step of `forward`, not an operator of its own
# Without a CUDA twin so far: in the shim's build (tools/cuda_shim.sh) these run on the CPU. A twin takes its line away.
WITHOUT_TWIN: set[str] = {
    "detect_decode_features.cpp",
    "forward.cpp",
}
FRAMEWORKS = re.compile(r'#include\s*[<"](torch|pybind11|Python\.h|NvInfer|ATen|c10)')


@pytest.mark.parametrize("op", OPS)
def test_an_op_is_predictable_by_its_name(op: str) -> None:
    assert (ROOT / "csrc" / "ops" / op / f"{op}.h").exists()
    assert (ROOT / "csrc" / "ops" / op / f"{op}.cpp").exists()
    if op not in INTERNAL:
        assert (ROOT / "python" / "leyolo" / "ops" / f"{op}.py").exists()
        assert (ROOT / "tests" / "ops" / f"test_{op}.py").exists()
    assert (ROOT / "benchmarks" / "ops" / f"bench_{op}.py").exists()
    assert (ROOT / "python" / "leyolo" / "bench" / "ops" / f"{op}.py").exists()


def test_every_op_is_benchmarked() -> None:
    from leyolo.bench import ops

    assert sorted(ops.OPS) == OPS


@pytest.mark.parametrize("path", [p for p in SOURCES if "bindings" not in p.parts], ids=lambda p: p.name)
def test_kernels_know_no_framework(path: Path) -> None:
    assert not FRAMEWORKS.search(path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_no_openmp_and_no_bare_launch(path: Path) -> None:
    text = path.read_text()
    assert "#pragma omp" not in text
    assert "<<<" not in re.sub(r"//.*", "", text)


def test_who_has_no_cuda_twin() -> None:
    found = {path.name for path in SOURCES if path.name != "dispatch.h" and "cpu_takes(" in path.read_text()}
    assert found == WITHOUT_TWIN


@pytest.mark.parametrize("path", SIMD, ids=lambda p: p.name)
def test_simd_files_leave_no_mergeable_symbol(path: Path, tmp_path: Path) -> None:
    """A weak symbol compiled for AVX-512 could replace the baseline's: the program would crash on older machines."""
    compiler, nm = shutil.which("c++"), shutil.which("nm")
    if not compiler or not nm:
        pytest.skip("needs c++ and nm")
    flag_sets = [["-O0"], ["-O2", "-march=x86-64-v4"]]
    if path.name.endswith(".bf16.simd.cpp"):  # compiled for one set only
        if platform.machine() not in {"x86_64", "AMD64"}:
            pytest.skip("x86 only")
        flag_sets = [[level, "-march=x86-64-v4", "-mavx512bf16"] for level in ("-O0", "-O2")]
    for flags in flag_sets:
        target = tmp_path / "simd.o"
        command = [
            compiler,
            "-std=gnu++20",
            "-I",
            str(ROOT / "csrc"),
            *flags,
            "-Wno-psabi",
            "-c",
            str(path),
            "-o",
            str(target),
        ]
        subprocess.run(command, check=True, capture_output=True)
        listing = subprocess.run([nm, "-C", str(target)], check=True, capture_output=True, text=True).stdout
        weak = [line for line in listing.splitlines() if re.match(r"\S*\s+[WVu]\s(?!DW\.ref\.)", line)]
        assert not weak


def test_no_machine_in_tracked_files() -> None:
    git = shutil.which("git")
    if not git or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    files = subprocess.run([git, "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    pattern = re.compile(r"(^|[\s\"'=(])/(work|root|tmp|opt|home)/\w")
    found = []
    for name in filter(None, files):
        path = ROOT / name
        if path.suffix in {".png", ".jpg", ".npz", ".safetensors"} or not path.is_file():
            continue
        found += [f"{name}: {line.strip()}" for line in path.read_text().splitlines() if pattern.search(line)]
    assert not found
