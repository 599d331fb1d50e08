"""Parameters and compute against the figures of the official model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leyolo.models.config import CONFIGS, SIZES, find_size, lookup
from leyolo.models.cost import cost

PARAMETERS = {"n": 1_120_480, "s": 1_917_440, "m": 2_402_744, "l": 2_402_744}

# (size, side): conv MACs, GFLOP by the official count before and after its fusion
COMPUTE = {
    ("n", 320): (307_977_600, 0.6677, 0.6603),
    ("n", 480): (692_949_600, 1.5022, 1.4856),
    ("n", 640): (1_231_910_400, 2.6706, 2.6411),
    ("n", 768): (1_773_950_976, 3.8457, 3.8032),
    ("s", 320): (532_547_200, 1.1338, 1.1264),
    ("s", 480): (1_198_231_200, 2.5510, 2.5343),
    ("s", 640): (2_130_188_800, 4.5351, 4.5055),
    ("s", 768): (3_067_471_872, 6.5306, 6.4879),
    ("m", 320): (688_609_600, 1.4618, 1.4544),
    ("m", 480): (1_549_371_600, 3.2892, 3.2725),
    ("m", 640): (2_754_438_400, 5.8474, 5.8177),
    ("m", 768): (3_966_391_296, 8.4202, 8.3775),
}
COMPUTE |= {("l", side): figures for (size, side), figures in COMPUTE.items() if size == "m"}


@pytest.mark.parametrize(("size", "side"), COMPUTE)
def test_values(size: str, side: int) -> None:
    found = cost(size, side)
    macs, official, fused = COMPUTE[size, side]
    assert found.parameters == PARAMETERS[size]
    assert found.trainable_parameters == PARAMETERS[size] - 16
    assert found.macs == macs
    assert sum(layer.macs for layer in found.layers) == macs
    assert sum(layer.parameters for layer in found.layers) == found.trainable_parameters
    assert round(found.official_gflops(fused=False), 4) == official
    assert round(found.official_gflops(), 4) == fused


@pytest.mark.parametrize(
    ("size", "kinds"),
    [
        ("n", {"depthwise": 143_500_800, "pointwise": 992_563_200, "regular": 95_846_400}),
        ("s", {"depthwise": 186_739_200, "pointwise": 1_775_718_400, "regular": 167_731_200}),
        ("m", {"depthwise": 256_032_000, "pointwise": 2_279_987_200, "regular": 218_419_200}),
    ],
)
def test_kinds(size: str, kinds: dict[str, int]) -> None:
    assert cost(size, 640).macs_by_kind() == kinds


def test_nano_bytes_and_folding() -> None:
    found = cost("n", 640)
    assert found.bytes_by_kind() == {"depthwise": 37_017_600, "pointwise": 63_001_600, "regular": 7_116_800}
    assert found.folded_parameters == 1_096_000
    assert found.weight_bytes == 4 * (1_096_000 - 16)
    assert len(found.convolutions) == 100
    assert sum(c.convolution.norm for c in found.convolutions) == 94


def test_layers_that_nothing_needs() -> None:
    found = cost("l", 640)
    idle = [layer for layer in found.layers if not layer.used]
    assert [layer.index for layer in idle] == [38, 39, 40, 41]
    assert sum(layer.parameters for layer in idle) == 298_072
    assert found.macs - found.computed_macs == 116_396_800
    assert cost("n", 640).computed_macs == cost("n", 640).macs


def _table(path: Path, title: str) -> Iterator[list[str]]:
    rows = path.read_text().split(title, 1)[1].split("\n\n", 2)[1].splitlines()
    return ([cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:])


def test_nano_layer_by_layer(shared: Path) -> None:
    rows = list(_table(shared / "design/leyolo-cost.md", "## 3. nano at 640"))
    found = cost("n", 640).layers
    assert len(rows) >= 35
    for row, layer in zip(rows, found, strict=False):
        assert int(row[0]) == layer.index
        if layer.kind == "head":  # its row counts the official head's own kernel
            continue
        assert list(map(int, row[2].strip("[]").split(","))) == list(layer.output)
        macs, parameters, output_bytes = (int(row[i].replace(",", "")) for i in (3, 5, 6))
        assert (macs, parameters, output_bytes) == (layer.macs, layer.parameters, layer.output_bytes)


@pytest.mark.parametrize(("size", "section"), [("n", "### 3.1"), ("s", "### 3.2"), ("m", "### 3.3"), ("l", "### 3.3")])
def test_layer_tables_of_the_specification(shared: Path, size: str, section: str) -> None:
    rows = list(_table(shared / "design/leyolo-spec.md", section))
    kinds = {"CBS": "conv", "IB": "bottleneck", "SPPF": "sppf", "UP x2 nearest": "upsample", "CAT": "concat"}
    config, costs = CONFIGS[size], cost(size, 640).layers
    assert len(rows) == len(config.layers) + 2
    for row, layer, layer_cost in zip(rows, config.layers, costs, strict=False):
        inputs = () if row[1] == "image" else tuple(map(int, row[1].split(", ")))
        assert (inputs or (-1,)) == layer.inputs
        assert kinds[row[2]] == layer.kind
        assert sum(map(int, row[3].split(" + "))) == layer.in_channels
        if layer.kind in ("bottleneck", "sppf"):
            assert int(row[4].split()[0]) == layer.expand
        assert int(row[5]) == layer.out_channels
        if layer.kind in ("conv", "bottleneck"):
            assert (int(row[6]), int(row[7])) == (layer.kernel, layer.stride)
        if layer.kind == "bottleneck":
            assert (row[8], row[9]) == tuple("yes" if x else "no" for x in (layer.has_expansion, layer.residual))
        assert row[10] == f"{layer_cost.output[1]}x{layer_cost.output[2]}"
        assert int(row[11].replace(",", "")) == layer_cost.parameters
    head = rows[len(config.layers)]
    assert tuple(map(int, head[1].split(", "))) == config.head_inputs
    assert tuple(map(int, head[3].split(", "))) == config.head_channels
    assert int(head[11].replace(",", "")) == costs[-1].parameters + 16


def test_rectangles_scale() -> None:
    assert 2 * cost("s", (320, 640)).macs == cost("s", 640).macs


@pytest.mark.parametrize("imgsz", [0, -32, 100, (320, 330)])
def test_rejects_sizes(imgsz: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 32, got"):
        cost("n", imgsz)


@pytest.mark.parametrize(
    ("size", "names"),
    [
        ("n", ["n", "nano", "leyolo-n", "leyolo_nano", "LeYOLONano", "LeYOLO nano"]),
        ("l", ["l", "Large", "leyolol", "LEYOLO-L", "leyolo-large"]),
    ],
)
def test_names(size: str, names: list[str]) -> None:
    assert [lookup(name).size for name in names] == [size] * len(names)


def test_unknown_names() -> None:
    assert find_size("yolo-n") is None
    with pytest.raises(ValueError, match=r"'leyolo-medum'.*did you mean 'leyolo-medium'"):
        lookup("leyolo-medum")
    with pytest.raises(ValueError, match="known: leyolo-n, leyolo-s, leyolo-m, leyolo-l"):
        lookup("")


def test_sizes() -> None:
    assert SIZES == ("n", "s", "m", "l")
    assert CONFIGS["m"].layers == CONFIGS["l"].layers


def test_torch_is_not_imported() -> None:
    import subprocess

    program = "import sys, leyolo.models.cost, leyolo.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
