"""The benchmark from picture to boxes: same boxes as the official detections, stages that add up."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from leyolo import _C, weights
from leyolo.bench.picture import HEIGHT, WIDTH, street
from leyolo.bench.pipeline import BenchmarkError, benchmark, compare
from leyolo.bench.runtimes import PIPELINES
from leyolo.bench.runtimes.base import Job
from leyolo.bench.runtimes.pipeline import STAGES
from leyolo.errors import InputError
from leyolo.predict.images import decode_image

PRESENT = [
    name
    for name, runtime in PIPELINES.items()
    if runtime.usual and not any(find_spec(p) is None for p in runtime.packages if p != "opencv-python-headless")
]


def test_rows(checkpoint: weights.Checkpoint, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    source = tmp_path / "picture.png"
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(source)
    result = benchmark(
        checkpoint, source=source, imgsz=64, threads=1, rounds=2, seconds=0.001, runtimes=["torch channels_last"]
    )
    assert json.loads(json.dumps(result)) == result
    assert result["source"] == {"name": "picture.png", "bytes": source.stat().st_size, "width": 50, "height": 30}
    assert [row["name"] for row in result["rows"]] == ["leyolo", "torch channels_last"]
    for row in result["rows"]:
        assert (row["size"], row["batch"], row["threads"], row["dtype"]) == ("64", 1, 1, "float32")
        assert all(row[f"{stage}_ms"] > 0 for stage in STAGES)
        assert sum(row[f"{stage}_ms"] for stage in STAGES) < 1.5 * row["median_ms"] + 1
        assert row["boxes"] == result["rows"][0]["boxes"]


@pytest.mark.parametrize("side", [320, 640])
@pytest.mark.parametrize("name", PRESENT)
def test_every_pipeline_finds_the_official_boxes(shared: Path, side: int, name: str) -> None:
    """What we are compared with is right itself. In this process, as far as the runtimes bear each other."""
    if not name.startswith("leyolo"):
        pytest.importorskip("cv2")
    dtype = PIPELINES[name].dtype
    if name == "leyolo bf16" and not _C.cpu_features()["bf16_dot"]:
        pytest.skip("this CPU has no AVX512-BF16, or LEYOLO_ISA lowers the instruction set")
    data = (shared / "data/images/bus.jpg").read_bytes()
    job = Job(weights.load(shared / "weights/LeYOLONano.pt"), (1, side, side, 3), torch.get_num_threads())
    found, stages = PIPELINES[name].load(job).detect(data)
    expected = np.load(shared / f"golden/leyolo/bus_{side}.npz")["det_c25_i70_orig"]
    assert tuple(stages) == STAGES
    if dtype != "float32":
        compare({"leyolo": expected, name: found})
        return
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found[:, :4], expected[:, :4], rtol=0, atol=0.05)
    np.testing.assert_allclose(found[:, 4:], expected[:, 4:], rtol=0, atol=1e-4)


def test_the_drawn_picture_has_something_to_find(shared: Path) -> None:
    assert decode_image(street()).shape == (HEIGHT, WIDTH, 3)
    bits = 8 * len(street()) / (HEIGHT * WIDTH)
    assert 1 < bits < 2  # a pixel, as in photographs
    job = Job(weights.load(shared / "weights/LeYOLONano.pt"), (1, 640, 640, 3), torch.get_num_threads())
    boxes, _ = PIPELINES["leyolo"].load(job).detect(street())
    assert sorted(boxes[:, 5].astype(int)) == [9, 9, 11, 11, 74, 74]  # traffic lights, stop signs, clocks


def test_other_boxes_are_refused() -> None:
    box = np.array([[10, 10, 50, 50, 0.9, 2.0], [0, 0, 9, 9, 0.26, 1]])
    shifted = box + np.array([5, 0, 5, 0, 0, 0])
    for same in (box + np.array([0.5, 0, 0, 0.5, 0.01, 0]), box[:1]):  # a shade off; a doubtful box less
        assert compare({"leyolo": box, "onnxruntime": same})["onnxruntime"] == {"boxes": len(same)}
    assert compare({"leyolo": box, "openvino bf16": shifted})["openvino bf16"] == {"boxes": 2}
    for other in (box[1:], shifted, box + np.array([0, 0, 0, 0, 0, 1]), np.concatenate([box, box + 100])):
        with pytest.raises(BenchmarkError, match=r"'onnxruntime' and 'leyolo' disagree about [12] boxes"):
            compare({"leyolo": box, "onnxruntime": other})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imgsz": (64, 100)}, "positive multiples of 32, got 64 x 100"),
        ({"runtimes": ["torch channels-last"]}, "Did you mean 'torch channels_last'"),
        ({"threads": 0}, "threads should be between 1 and 256, got 0"),
    ],
)
def test_rejects(checkpoint: weights.Checkpoint, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        benchmark(checkpoint, **options)


def test_a_picture_that_is_none_is_refused_before_anything_is_loaded(
    checkpoint: weights.Checkpoint, tmp_path: Path
) -> None:
    loaded: list[str] = []
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(InputError):
        benchmark(checkpoint, source=tmp_path / "a.jpg", loading=loaded.append)
    with pytest.raises(InputError, match=r"b\.jpg: no such file"):
        benchmark(checkpoint, source=tmp_path / "b.jpg", loading=loaded.append)
    assert loaded == []
