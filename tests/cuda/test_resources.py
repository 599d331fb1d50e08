"""tools/cuda_resources.py: reading ptxas, and what counts as worse."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANGLED = "_ZN6leyolo49_GLOBAL__N__42ee809b_16_box_iou_exact_cu_e13b615914box_iou_kernelILNS_6BoxIouE3EfEEvPKT0_PS2_"
SAID = f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{MANGLED}' for 'sm_90'
ptxas info    : Function properties for helper
    64 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for {MANGLED}
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 1024 bytes smem
ptxas info    : Compile time = 46.444 ms
ptxas info    : Compiling entry function '{MANGLED}' for 'sm_100'
ptxas info    : Function properties for {MANGLED}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("cuda_resources", ROOT / "tools" / "cuda_resources.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["cuda_resources"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not shutil.which("c++filt"), reason="needs c++filt")
def test_ptxas_is_read(tool: Any) -> None:
    name = "box_iou_kernel<(BoxIou)3, float>"
    assert tool.parse(SAID) == {name: {"90": tool.Use(32, 16, 8, 12, 1024), "100": tool.Use(40, 0, 0, 0, 0)}}


def test_the_table_keeps_what_was_written(tool: Any, tmp_path: Path) -> None:
    uses = {arch: tool.Use(30 + (arch == "120"), 0, 0, 0, 64) for arch in tool.ARCHITECTURES}
    files = {"ops/a/a.cu": {"one<1>": uses, "two": {"90": tool.Use(8, 0, 0, 0, 0)}}}
    tool.write_table(tmp_path / "table.json", "13.0", files)
    assert tool.read_table(tmp_path / "table.json") == ("13.0", files)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ((32, 0, 0, 0, 0), None),
        ((35, 0, 0, 0, 0), None),
        ((20, 0, 0, 0, 0), None),
        ((36, 0, 0, 0, 0), "36 registers, were 32"),
        ((32, 8, 0, 0, 0), "8 bytes stack, were 0"),
        ((32, 0, 4, 0, 0), "4 bytes spill_stores, were 0"),
        ((32, 0, 0, 4, 0), "4 bytes spill_loads, were 0"),
        ((32, 0, 0, 0, 16), "16 bytes shared, were 0"),
    ],
)
def test_what_is_worse(tool: Any, now: tuple[int, ...], words: str | None) -> None:
    before = {"k": {"90": tool.Use(32, 0, 0, 0, 0)}}
    worse = tool.compare("f.cu", {"k": {"90": tool.Use(*now)}}, before)
    assert worse == ([f"f.cu: k, sm_90: {words}"] if words else [])


def test_architectures_that_nobody_has_written_down_are_only_compiled(tool: Any) -> None:
    use = tool.Use(32, 0, 0, 0, 0)
    assert not tool.compare("f.cu", {"k": {"90": use, "120": use._replace(stack=8)}}, {"k": {"90": use}})


def test_new_and_gone_kernels_are_told(tool: Any) -> None:
    kernel = {"90": tool.Use(32, 0, 0, 0, 0)}
    assert "not in the table" in tool.compare("f.cu", {"k": kernel}, {})[0]
    assert "no longer in the code" in tool.compare("f.cu", {}, {"k": kernel})[0]


def test_kernels_that_no_test_ran_are_told(tool: Any) -> None:
    files = {"f.cu": {"first<1, float>": {}, "second": {}}}
    assert tool.not_run(files, {"first"}) == ["f.cu: second was run by no test"]
