"""The public class with the official weights: the official detections, from every kind of source, from many threads."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leyolo
import leyolo._C as C
from leyolo.errors import InputError, MissingDependencyError, UsageError
from leyolo.model import LeYOLO

# Folded weights move boxes by up to 4.5e-3 pixels of the network input (the reference's own figure), scores by 1e-5.
BOX_TOLERANCE, SCORE_TOLERANCE = 1e-2, 2e-5


@pytest.fixture(scope="module")
def model(shared: Path) -> LeYOLO:
    return LeYOLO(shared / "weights" / "LeYOLONano.pt")


@pytest.fixture(scope="module")
def bus(shared: Path) -> Path:
    return shared / "data" / "images" / "bus.jpg"


def same_rows(found: np.ndarray, expected: np.ndarray) -> None:
    """The same detections in the same order."""
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[:, 5], expected[:, 5])
    np.testing.assert_allclose(found[:, :4], expected[:, :4], rtol=0, atol=BOX_TOLERANCE)
    np.testing.assert_allclose(found[:, 4], expected[:, 4], rtol=0, atol=SCORE_TOLERANCE)


@pytest.mark.parametrize("size", [320, 640])
def test_official_detections_in_a_square(model: LeYOLO, bus: Path, shared: Path, size: int) -> None:
    golden = np.load(shared / "golden" / "leyolo" / f"bus_{size}.npz")
    (result,) = model(bus, imgsz=size)
    same_rows(result.boxes.data, golden["det_c25_i70_orig"])
    (result,) = model(bus, imgsz=size, iou=0.45)
    same_rows(result.boxes.data, golden["det_c25_i45_orig"])


@pytest.mark.parametrize("size", [320, 640])
def test_official_detections_with_rect(model: LeYOLO, bus: Path, shared: Path, size: int) -> None:
    golden = np.load(shared / "golden" / "leyolo" / "official_predict_auto.npz")
    (result,) = model(bus, imgsz=size, rect=True)
    same_rows(result.boxes.data, golden[f"bus_{size}"])


@pytest.mark.parametrize("size", [320, 640])
def test_official_validation_settings(model: LeYOLO, bus: Path, shared: Path, size: int) -> None:
    """Three hundred boxes down to scores near nothing: rows of nearly equal score may change places."""
    golden = np.load(shared / "golden" / "leyolo" / f"bus_{size}.npz")["det_val_orig"]
    (result,) = model(bus, imgsz=size, conf=0.001, multi_label=True)
    found = np.asarray(result.boxes.data)
    assert len(found) == len(golden)
    np.testing.assert_allclose(found[:, 4], golden[:, 4], rtol=0, atol=SCORE_TOLERANCE)
    near = np.abs(found[:, None, :4] - golden[None, :, :4]).max(-1) <= BOX_TOLERANCE
    near &= found[:, None, 5] == golden[None, :, 5]
    assert (near.any(1).mean(), near.any(0).mean()) >= (0.99, 0.99)


def test_every_way_to_give_the_picture_gives_the_same_boxes(model: LeYOLO, bus: Path) -> None:
    rgb = np.asarray(Image.open(bus))
    (expected,) = model(bus, imgsz=320)
    tensor = torch.from_numpy(rgb.copy())
    sources: list[Any] = [
        *(str(bus), rgb, rgb.astype(np.float64) / 255, Image.open(bus), bus.read_bytes(), [bus], iter([bus])),
        *(tensor, tensor.permute(2, 0, 1), tensor.permute(2, 0, 1)[None].float() / 255),
    ]
    for source in sources:
        (found,) = model(source, imgsz=320)
        np.testing.assert_array_equal(found.boxes.data, expected.boxes.data)
    (found,) = model(np.ascontiguousarray(rgb[..., ::-1]), imgsz=320, bgr=True)
    np.testing.assert_array_equal(found.boxes.data, expected.boxes.data)


def test_batches_and_streams(model: LeYOLO, bus: Path) -> None:
    rgb = np.asarray(Image.open(bus))
    pictures = [rgb, rgb[:, ::-1].copy(), rgb[200:800].copy(), rgb]
    alone = [model(p, imgsz=320)[0].boxes.data for p in pictures]
    for options in ({"batch": 3}, {"batch": 8, "stream": True}, {"batch": 4}):
        found = [r.boxes.data for r in model(pictures, imgsz=320, **options)]
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-3)
    stream = model(iter(pictures), imgsz=320, stream=True)
    assert next(stream).path == "image0"


def test_threads_share_a_model(model: LeYOLO, shared: Path) -> None:
    paths = sorted((shared / "data" / "voc100").rglob("*.jpg"))[:6]
    fresh = LeYOLO(shared / "weights" / "LeYOLONano.pt")  # its engine is made while the threads already run
    alone = [model(p, imgsz=320, conf=0.1)[0].boxes.data for p in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: fresh(paths[n % 6], imgsz=320, conf=0.1)[0].boxes.data, range(24)))
    for n, data in enumerate(together):
        np.testing.assert_array_equal(data, alone[n % 6])


def test_filters(model: LeYOLO, bus: Path) -> None:
    assert {int(c) for c in model(bus, classes="bus")[0].boxes.cls} == {5}
    assert {int(c) for c in model(bus, classes=[0, "bus"])[0].boxes.cls} == {0, 5}
    assert len(model(bus, max_det=2)[0]) == 2
    assert all(c > 0.8 for c in model(bus, conf=0.8)[0].boxes.conf)
    with pytest.raises(UsageError, match=r"no class 'buss'\. Did you mean 'bus'"):
        model(bus, classes=["buss"])


def test_errors(model: LeYOLO, bus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nope\.jpg: no such file"):
        model(tmp_path / "nope.jpg")
    with pytest.warns(UserWarning, match=r"nope\.jpg: no such file"):
        found = model([tmp_path / "nope.jpg", bus], imgsz=320, on_error="warn")
    assert [r.path for r in found] == [str(bus)]
    with pytest.raises(UsageError, match="on_error"):
        model(bus, on_error="ignore")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="multiple of 32"):
        model(bus, imgsz=333)
    with pytest.raises(TypeError, match="cnof"):
        model(bus, cnof=0.3)  # type: ignore[call-overload]


def test_logits(model: LeYOLO, shared: Path) -> None:
    golden = np.load(shared / "golden" / "leyolo" / "random_2x3x256x320.npz")
    pixels = np.random.RandomState(20240620).randint(0, 256, size=(2, 3, 256, 320), dtype=np.uint8)
    x = pixels.astype(np.float32) / 255
    expected = golden["logits_at_idx"]
    rows = np.arange(2)[:, None]
    ours = model.logits(x)
    assert ours.shape == (2, 1680, 144)
    np.testing.assert_allclose(ours[rows, golden["idx"]], expected, rtol=0, atol=2e-4)
    with torch.inference_mode():
        from_torch = LeYOLO(shared / "weights" / "LeYOLONano.pt").fuse().logits(torch.from_numpy(x))
    np.testing.assert_allclose(from_torch.numpy()[rows, golden["idx"]], expected, rtol=0, atol=2e-4)
    with pytest.raises(UsageError, match=r"expected \[B, 3, H, W\]"):
        model.logits(x[0])


def test_a_torch_batch_gives_the_gradient_of_its_input(shared: Path) -> None:
    model = LeYOLO(shared / "weights" / "LeYOLONano.pt")
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    model.logits(x).square().mean().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_fast_decode_finds_the_same_objects(model: LeYOLO, bus: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    Image.open(bus).resize((2430, 3240), Image.Resampling.BICUBIC).save(large, quality=90)
    whole, fast = (model(large, fast_decode=flag)[0] for flag in (False, True))
    assert fast.orig_shape == whole.orig_shape == (3240, 2430)
    assert not np.array_equal(fast.boxes.data, whole.boxes.data)
    for one, other in ((whole, fast), (fast, whole)):
        for box in one.boxes[one.boxes.conf > 0.5]:
            same_class = other.boxes.xyxy[other.boxes.cls == box.cls]
            iou = C.box_iou(np.ascontiguousarray(box.xyxy), np.ascontiguousarray(same_class))
            assert iou.max() > 0.85


def test_save_and_load(model: LeYOLO, bus: Path, tmp_path: Path) -> None:
    model.save(tmp_path / "copy.safetensors")
    copy = LeYOLO(tmp_path / "copy.safetensors")
    assert copy.names == model.names
    np.testing.assert_array_equal(copy(bus, imgsz=320)[0].boxes.data, model(bus, imgsz=320)[0].boxes.data)


def test_info(model: LeYOLO) -> None:
    info = model.info()
    assert info["model"] == "leyolo-n"
    assert info["num_classes"] == 80
    assert info["macs"] == 1_231_910_400
    assert json.dumps(info)
    assert repr(model) == "LeYOLO(leyolo-n, 80 classes, head='leyolo', device='cpu')"
    assert model.names[5] == "bus"


def test_a_new_head(shared: Path) -> None:
    path = shared / "weights" / "LeYOLONano.pt"
    three = LeYOLO(path, num_classes=3)
    assert three.names == {0: "class0", 1: "class1", 2: "class2"}
    assert three.logits(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 84, 67)
    yolox = LeYOLO(path, head="yolox")
    assert yolox.logits(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 84, 85)
    assert yolox.names[5] == "bus"
    (found,) = yolox(np.zeros((64, 64, 3), np.uint8), imgsz=64, conf=0.0, max_det=5)
    assert len(found) <= 5
    assert np.isfinite(found.boxes.data).all()


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'leyolo-nn' is neither a file nor one of leyolo-n, .*; did you mean leyolo-n"
    ):
        LeYOLO("leyolo-nn")
    with pytest.raises(InputError, match="is a folder, expected a weights file"):
        LeYOLO(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a GPU")
def test_a_device_that_is_not_here(shared: Path, bus: Path) -> None:
    with pytest.raises(MissingDependencyError, match="sees no CUDA device"):
        LeYOLO(shared / "weights" / "LeYOLONano.pt", device="cuda")(bus)


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("dtype", "boxes", "scores"), [("float32", 0.5, 2e-3), ("float16", 4.0, 2e-2), ("bfloat16", 16, 0.1)]
)
def test_a_gpu_finds_the_same(model: LeYOLO, bus: Path, shared: Path, dtype: str, boxes: float, scores: float) -> None:
    (found,) = LeYOLO(shared / "weights" / "LeYOLONano.pt", device="cuda", dtype=dtype)(bus, conf=0.5)
    (expected,) = model(bus, conf=0.5)
    assert len(found) == len(expected)
    np.testing.assert_allclose(np.sort(found.boxes.conf), np.sort(expected.boxes.conf), atol=scores)
    distance = np.abs(found.boxes.xyxy[:, None] - expected.boxes.xyxy[None]).max(-1)
    assert distance.min(1).max() <= boxes


def test_the_package_offers_it() -> None:
    assert leyolo.LeYOLO is LeYOLO
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = leyolo.Nothing


def test_no_warning_on_the_way(model: LeYOLO, bus: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call: Callable[..., Any] = model.predict
        call(bus, imgsz=320)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1, got 0"),
        ({"num_classes": 2.5}, "num_classes"),
        ({"num_classes": "3"}, "num_classes"),
        ({"model": 5}, "model must be a weights file or a model name, got 5"),
        ({"head": "yolo"}, "head must be 'leyolo' or 'yolox'"),
    ],
)
def test_wrong_arguments_of_the_class(shared: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LeYOLO(**{"model": shared / "weights" / "LeYOLONano.pt", **arguments})


def test_wrong_arguments_of_predict(model: LeYOLO, bus: Path) -> None:
    for options in ({"stream": "no"}, {"rect": "False"}, {"vid_stride": "2"}, {"imgsz": None}, {"classes": 5.5}):
        with pytest.raises(UsageError, match=next(iter(options))):
            model(bus, **options)
    with pytest.raises(UsageError, match="source is empty"):
        model("")


def test_torch_logits_carry_a_gradient_only_where_it_is_asked_for(shared: Path) -> None:
    model = LeYOLO(shared / "weights" / "LeYOLONano.pt")
    x = torch.rand(1, 3, 64, 64)
    assert not model.logits(x).requires_grad
    model.network.train()
    assert model.logits(x).requires_grad
