"""results.csv, the lines of a run, TensorBoard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from leyolo.train.log import Log, csv_text
from leyolo.train.memory import peak_memory, trim

ROWS = [{"epoch": 1, "train/box": 1.23456789}, {"epoch": 2, "train/box": 1.0, "val/map": 0.5}]


def test_csv() -> None:
    """Columns may come later; a row without one is empty there."""
    assert csv_text(ROWS) == "epoch,train/box,val/map\n1,1.23457,\n2,1,0.5\n"


def test_memory_is_plausible() -> None:
    """Torch alone takes more than 50 MB, and this machine has less than 10 TB."""
    before = peak_memory()
    kept = torch.ones(64 * 2**20 // 4)
    assert 50 < before <= peak_memory() < 10_000_000
    assert peak_memory() >= kept.nbytes / 2**20


def test_training_starts_where_there_is_no_resource_module() -> None:
    """As on Windows: how much memory was held is not known then."""
    code = "import sys; sys.modules['resource'] = None; from leyolo.train import memory; print(memory.peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "nan\n"), done.stderr


def test_trimming_gives_memory_back() -> None:
    """Holes in the heap: every other block is freed, which cannot lower its top."""
    if sys.platform != "linux":
        pytest.skip("glibc alone has malloc_trim")
    held = [torch.ones(2**18) for _ in range(256)]  # blocks of a megabyte
    del held[::2]
    before = _resident()
    trim()
    assert _resident() <= before
    assert all(float(block[0]) == 1 for block in held)


def test_kept_blocks_stay_with_the_process() -> None:
    if sys.platform != "linux":
        pytest.skip("glibc alone has mallopt")
    code = (
        "import torch; from pathlib import Path; from leyolo.train.memory import keep_blocks\n"
        "pages = lambda: int(Path('/proc/self/statm').read_text().split()[1])\n"
        "keep_blocks()\n"
        "held = [torch.ones(2**20) for _ in range(40)]; most = pages(); del held; print(most - pages())"
    )
    given_back = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert given_back < 40 * 2**22 / 4096 / 4  # without, nearly all


def _resident() -> int:
    """Pages of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"epoch": 3, "train/box": 1.5, "images_per_s": 20.0, "val/map": 0.25, "val/map50": 0.5}
    for folder, quiet, talks in ((tmp_path, False, True), (tmp_path, True, False), (None, False, False)):
        log = Log(folder, total=4, quiet=quiet)
        log.batch(2, 0, ["box"], torch.ones(1))
        log.epoch(row, 5, best=True)
        log.rows([row])
        log.close()
        said = "epoch 3/5  box 1.500  20.0 img/s  mAP50-95 0.250  mAP50 0.500  best\n"
        assert capsys.readouterr().err == (said if talks else "")
    assert (tmp_path / "results.csv").read_text().startswith("epoch,train/box,")


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = Log(tmp_path, total=1, quiet=True, board=True)
    log.epoch({"epoch": 1, "train/box": 1.5, "images_per_s": 2.0}, 1, best=False)
    log.close()
    assert [path for path in tmp_path.iterdir() if path.name.startswith("events.")]
