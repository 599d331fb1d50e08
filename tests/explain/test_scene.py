"""From a file to what the assigners see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from annotated import write_coco, write_picture, write_voc, write_yolo
from leyolo.data import DataError
from leyolo.explain import truths
from leyolo.explain.scene import Predictor
from leyolo.models.network import build
from leyolo.models.transfer import from_torch
from leyolo.predict.images import read_image
from leyolo.weights import save

CELL = ("cell", (0.0, 0.0, 48.0, 32.0))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "two.safetensors"
    save(path, from_torch(build("n", 2), {0: "cell", 1: "tv"}))
    return path


def test_objects_of_a_picture_in_every_format(tmp_path: Path) -> None:
    voc = write_voc(tmp_path / "voc", {"a": [CELL], "b": [CELL, ("dot", (5, 5, 9, 9))]}, train=["a"], val=["b"])
    found = truths.from_data(voc, voc / "JPEGImages" / "b.jpg", split=None, images=None)
    assert (found.boxes.tolist(), found.labels.tolist()) == ([[0, 0, 48, 32], [5, 5, 9, 9]], [0, 1])
    assert (found.names, found.source) == (("cell", "dot"), "annotations of voc")
    coco = write_coco(tmp_path)
    found = truths.from_data(coco, Path("elsewhere/a.jpg"), split=None, images=None)
    assert found.boxes.tolist() == [[10, 10, 50, 50]], "by its name where the path is another"
    yolo = write_yolo(tmp_path / "yolo", {"train": {"c": "1 0.5 0.5 0.1 0.2"}})
    found = truths.from_data(yolo, yolo / "images/train/c.jpg", split="train", images=None)
    np.testing.assert_allclose(found.boxes, [[90, 60, 110, 90]], atol=1e-4)
    with pytest.raises(DataError, match=r"none of its 1 pictures is d\.jpg"):
        truths.from_data(yolo, Path("d.jpg"), split=None, images=None)


def test_a_name_that_two_pictures_have(tmp_path: Path) -> None:
    yolo = write_yolo(tmp_path, {"train": {"c": "0 .5 .5 .1 .2"}, "val": {"c": "0 .5 .5 .3 .2"}})
    with pytest.raises(DataError, match=r"several pictures are named c\.jpg"):
        truths.from_data(yolo, Path("c.jpg"), split=None, images=None)
    found = truths.from_data(yolo, yolo / "images/val/c.jpg", split=None, images=None)
    np.testing.assert_allclose(found.boxes, [[70, 60, 130, 90]], atol=1e-4)


def test_a_label_file(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "a.jpg")
    labels = tmp_path / "other.txt"
    labels.write_text("7 0.5 0.5 0.1 0.2\n\n0 0.25 0.5 0.5 1\n")
    found = truths.from_labels(labels, picture)
    assert found.labels.tolist() == [7, 0]
    np.testing.assert_allclose(found.boxes, [[90, 60, 110, 90], [0, 0, 100, 150]], atol=1e-4)
    for text, message in (
        ("0 0.5 0.5 nan 1", "finite"),
        ("0 0.5", "expected 'class cx cy w h'"),
        ("0 3 3 .1 .1", "outside"),
    ):
        labels.write_text(text)
        with pytest.raises(DataError, match=message):
            truths.from_labels(labels, picture)
    with pytest.raises(DataError, match="no such file"):
        truths.from_labels(tmp_path / "gone.txt", picture)
    labels.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="expected 'class cx cy w h'"):
        truths.from_labels(labels, picture)


def test_classes_by_name() -> None:
    names = {0: "person", 1: "tv", 2: "dog"}
    assert truths.model_classes(["dog", "tvmonitor"], names) == [2, 1]
    assert truths.model_classes(["dog", "cat"], names) is None
    assert truths.model_classes(["cat"], names) is None
    assert truths.model_classes(["0", "1", "2"], names) == [0, 1, 2]


def test_what_the_network_says_reaches_the_scene(weights: Path, tmp_path: Path) -> None:
    from leyolo import _C, LeYOLO
    from leyolo.ops import detect_decode

    pixels = read_image(write_picture(tmp_path / "a.png"))
    given = truths.Truths(np.array([[20, 30, 120, 90]], np.float32), np.array([0]), ("tvmonitor",), "")
    predictor = Predictor(str(weights), given.names)
    assert (predictor.classes, predictor.source) == ([1], "two.safetensors")
    scene = predictor.scene(pixels, given, 96)
    # 200 x 150 to 96 x 72, 12 rows above.
    assert (scene.image.shape, scene.content, scene.scale) == ((96, 96, 3), (0, 12, 96, 84), pytest.approx(0.48))
    np.testing.assert_allclose(scene.targets.boxes[0], [[9.6, 26.4, 57.6, 55.2]], rtol=1e-6)
    assert (scene.targets.labels.tolist(), scene.names, scene.levels) == ([[1]], ("tvmonitor",), [8, 16, 32])
    x, _, _ = _C.letterbox(pixels, 96)
    logits = torch.from_numpy(LeYOLO(weights).logits(x.transpose(0, 3, 1, 2)))
    decoded = detect_decode(logits, *scene.points, score_threshold=0)
    # The engine takes bytes, the comparison floats.
    torch.testing.assert_close(
        scene.boxes, decoded.boxes if hasattr(decoded, "boxes") else decoded[0], rtol=1e-3, atol=0.05
    )
    torch.testing.assert_close(scene.cls_logits, logits[..., -2:], rtol=1e-3, atol=1e-3)


def test_unknown_classes_get_a_fresh_layer_by_seed(weights: Path, tmp_path: Path) -> None:
    pixels = read_image(write_picture(tmp_path / "a.png"))
    given = truths.Truths(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ("cell", "dot", "ring"), "")
    before = torch.random.get_rng_state()
    scenes = [Predictor(str(weights), given.names, seed=seed).scene(pixels, given, 64) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's numbers go on"
    assert [scene.cls_logits.shape[2] for scene in scenes] == [3, 3, 3]
    assert torch.equal(scenes[0].cls_logits, scenes[1].cls_logits)
    assert not torch.equal(scenes[0].cls_logits, scenes[2].cls_logits)
    assert torch.equal(scenes[0].boxes, scenes[2].boxes), "the box branch keeps its weights"
    assert "untrained class layer" in Predictor(str(weights), given.names).source


def test_without_a_model_the_package_has_one() -> None:
    predictor = Predictor(None, ("star", "circle"))
    assert predictor.source == "the weights of this package"
    assert [predictor.names[index] for index in predictor.classes or ()] == ["star", "circle"]
    assert "untrained class layer" in Predictor(None, ("cell", "dot")).source


def test_the_yolox_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "x.safetensors"
    save(path, from_torch(build("n", 2, "yolox"), {0: "cell", 1: "dot"}))
    predictor = Predictor(str(path), ("dot",))
    given = truths.Truths(np.array([[0, 0, 40, 40]], np.float32), np.array([0]), ("dot",), "")
    scene = predictor.scene(np.zeros((64, 64, 3), np.uint8), given, 64)
    assert scene.obj_logits is not None
    assert (scene.cls_logits.shape, scene.obj_logits.shape, scene.boxes.shape) == ((1, 84, 2), (1, 84), (1, 84, 4))
    assert (scene.boxes[..., 2:] > scene.boxes[..., :2]).all()
    assert json.dumps(scene.targets.labels.tolist()) == "[[1]]"
