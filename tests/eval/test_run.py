"""Evaluation from predictions to figures, and those against pycocotools called directly."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from annotated import ANNOTATION, write_coco, write_picture, write_voc, write_yolo
from leyolo.data import DataError, Dataset, read
from leyolo.errors import MissingDependencyError
from leyolo.eval import Evaluation, Metrics, class_map, score, validate
from leyolo.eval.coco import NUMBERS
from leyolo.eval.detections import Collector, Detections

NAMES = {0: "person", 1: "tv", 2: "zebra"}
PERFECT = ((10, 10, 50, 50, 0.9, 1), (0, 0, 100, 120, 0.7, 0))


def result(*rows: tuple[float, ...], **rest: Any) -> SimpleNamespace:
    array = np.array(rows, np.float32).reshape(-1, 6)
    return SimpleNamespace(boxes=SimpleNamespace(xyxy=array[:, :4], conf=array[:, 4], cls=array[:, 5]), **rest)


def data(folder: Path, **changes: Any) -> Dataset:
    return read(write_coco(folder, **changes), split="val", keep_unreadable=True)


def evaluate(results: list[Any], dataset: Dataset, **options: Any) -> Evaluation:
    return validate(lambda paths: results, NAMES, dataset, **options)


def test_perfect_detections_score_one(tmp_path: Path) -> None:
    found = [result(PERFECT[0], (0, 0, 5, 5, 0.8, 2), speed={"decode": 2.0}), result(PERFECT[1], speed={"decode": 4.0})]
    done = evaluate(found, data(tmp_path), padding="rect")
    metrics = done.metrics
    assert metrics.map == pytest.approx(1.0)
    assert metrics.per_class == {"tvmonitor": pytest.approx(1.0), "person": pytest.approx(1.0)}
    assert metrics.per_class50 == metrics.per_class
    assert metrics.voc_ap50 == pytest.approx(1.0)
    assert (metrics.images, metrics.objects, metrics.detections) == (2, 2, 2)
    assert (metrics.padding, metrics.speed) == ("rect", {"decode": 3.0})
    assert done.detections.coco_rows(done.dataset) == [
        {"image_id": 7, "category_id": 3, "bbox": [10.0, 10.0, 40.0, 40.0], "score": 0.9},
        {"image_id": 9, "category_id": 5, "bbox": [0.0, 0.0, 100.0, 120.0], "score": 0.7},
    ]
    assert np.isnan(metrics.map_small)
    assert metrics.to_dict()["map_small"] is None
    assert json.dumps(metrics.to_dict(), allow_nan=False)
    assert "Pascal VOC" in str(metrics)


def test_no_detection_scores_zero(tmp_path: Path) -> None:
    done = evaluate([result(), result()], data(tmp_path))
    assert len(done.detections) == 0
    assert (done.metrics.map, done.metrics.voc_ap50) == (0, 0)


def test_data_without_objects_scores_nothing(tmp_path: Path) -> None:
    metrics = evaluate([result(PERFECT[0]), result()], data(tmp_path, annotations=[])).metrics
    assert np.isnan([metrics.map, metrics.voc_ap50, *metrics.per_class.values()]).all()


def crowded(seed: int, images: int, categories: int, objects: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO json with crowds, boxes beyond the picture and equal scores, and detections for it."""
    rng = np.random.default_rng(seed)
    annotations, rows = [], []
    for k in range(objects):
        x, y, w, h = rng.uniform(-10, 190, 2).tolist() + rng.uniform(4, 160, 2).tolist()
        place = {"image_id": int(rng.integers(images)), "category_id": int(rng.integers(categories)) + 1}
        area = w * h * rng.uniform(0.4, 1)  # that of a mask
        annotations.append({**place, "id": k + 1, "bbox": [x, y, w, h], "area": area, "iscrowd": int(k % 17 == 0)})
        for _ in range(int(rng.integers(0, 4))):
            jitter = rng.normal(0, 4, 4)
            box = np.round([x + jitter[0], y + jitter[1], max(1, w + jitter[2]), max(1, h + jitter[3])], 3).tolist()
            rows.append({**place, "bbox": box, "score": float(np.round(rng.random(), 2))})
    names = [{"id": n + 1, "name": f"class {n}"} for n in range(categories)]
    listed = [{"id": n, "file_name": f"{n}.jpg"} for n in range(images)]
    return {"images": listed, "annotations": annotations, "categories": names}, rows


def pycocotools_numbers(truth: Path, rows: list[dict[str, Any]]) -> tuple[Any, Any]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    loaded = COCO(str(truth))
    run = COCOeval(loaded, loaded.loadRes(rows), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats, run.eval["precision"][:, :, :, 0, -1]


def as_detections(rows: list[dict[str, Any]], dataset: Dataset) -> Detections:
    places = {image.id: at for at, image in enumerate(dataset.images)}
    rows = sorted(rows, key=lambda row: places[row["image_id"]])
    return Detections(
        np.array([places[row["image_id"]] for row in rows]),
        np.array([row["bbox"] for row in rows], np.float64),
        np.array([row["score"] for row in rows], np.float64),
        np.array([dataset.categories.index(row["category_id"]) for row in rows]),
    )


@pytest.mark.parametrize(
    ("seed", "images", "categories", "objects"), [(0, 2, 2, 300), (1, 40, 7, 900), (2, 30, 40, 400)]
)
def test_numbers_are_pycocotools(seed: int, images: int, categories: int, objects: int, tmp_path: Path) -> None:
    content, rows = crowded(seed, images, categories, objects)
    for n in range(images):
        write_picture(tmp_path / f"{n}.jpg")
    path = tmp_path / "data.json"
    path.write_text(json.dumps(content))
    dataset = read(path, split="val")
    # A box wholly outside its picture is left out with a report; pycocotools would count it as missed.
    outside = {p.where for p in dataset.problems if p.costs == "box"}
    content["annotations"] = [a for a in content["annotations"] if f"annotation {a['id']}" not in outside]
    path.write_text(json.dumps(content))
    metrics, precision = score(dataset, as_detections(rows, dataset))
    expected, curves = pycocotools_numbers(path, rows)
    ours = [getattr(metrics, name) for name, _ in NUMBERS]
    assert np.allclose(ours, np.where(expected < 0, np.nan, expected), rtol=0, atol=1e-6, equal_nan=True)
    assert np.allclose(np.nan_to_num(precision, nan=-1), curves, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bad", [{"bbox": [1, 2, float("nan"), 4]}, {"category_id": 99}, {"area": "large"}])
def test_dirt_does_not_change_the_numbers(bad: dict[str, Any], tmp_path: Path) -> None:
    second = {**ANNOTATION, "id": 2, "image_id": 9, "bbox": [0, 0, 30, 30], **bad}
    annotations = [ANNOTATION | bad] if "area" in bad else [ANNOTATION, second]
    metrics = evaluate([result(PERFECT[0]), result()], data(tmp_path, annotations=annotations)).metrics
    assert metrics.map == pytest.approx(1.0)
    assert len(metrics.problems) == 1


def test_ids_may_be_text_or_mixed(tmp_path: Path) -> None:
    dataset = data(
        tmp_path,
        images=[{"id": "seven", "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        categories=[{"id": "t", "name": "tv"}, {"id": 5, "name": "person"}],
        annotations=[{"image_id": "seven", "category_id": "t", "bbox": [10, 10, 40, 40]}],
    )
    done = evaluate([result(PERFECT[0]), result()], dataset)
    assert done.metrics.per_class["tv"] == pytest.approx(1.0)
    row = done.detections.coco_rows(dataset)[0]
    assert (row["image_id"], row["category_id"]) == ("seven", "t")


def test_ids_of_other_formats(tmp_path: Path) -> None:
    voc = read(write_voc(tmp_path / "v", {"b1": [("zebra", (1, 2, 30, 40)), ("tv", (0, 0, 9, 9))]}), split="val")
    done = evaluate([result((1, 2, 30, 40, 0.5, 2))], voc)
    assert done.detections.coco_rows(voc) == [
        {"image_id": "b1", "category_id": 2, "bbox": [1.0, 2.0, 29.0, 38.0], "score": 0.5}
    ]
    yolo = read(write_yolo(tmp_path / "y", {"val": {"b2": "1 0.5 0.5 1 1"}}), split="val")
    done = evaluate([result((0, 0, 200, 150, 0.5, 1))], yolo)  # numbers for names are the model's
    assert done.metrics.map == pytest.approx(1.0)
    assert done.detections.coco_rows(yolo)[0]["category_id"] == 1


def test_detections_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    bad = [(nan, 0, 9, 9, 0.99, 1), (0, 0, 9, 9, nan, 1), (0, 0, inf, 9, 0.99, 0), (0, 0, 9, 9, 0.9, nan)]
    done = evaluate([result(*bad, PERFECT[0]), result(PERFECT[1])], data(tmp_path))
    assert len(done.detections) == 2
    assert done.metrics.map == pytest.approx(1.0)
    assert done.metrics.problems == ("a.jpg: detections that are no numbers",)


def test_a_class_number_beyond_the_models_is_left_out() -> None:
    collector = Collector({0: 1})
    assert collector.add(0, result((0, 0, 1, 1, 0.5, 7), (0, 0, 1, 1, 0.5, -3), (0, 0, 1, 1, 0.5, 0)))
    assert collector.detections().labels.tolist() == [1]


def test_a_crowd_takes_detections_without_counting_them(tmp_path: Path) -> None:
    crowd = {"image_id": 9, "category_id": 5, "bbox": [0, 0, 100, 120], "iscrowd": 1}
    single = {"image_id": 7, "category_id": 5, "bbox": [10, 10, 40, 40], "iscrowd": 0}
    inside = [(0, 0, 40, 40, 0.95, 0), (20, 20, 60, 60, 0.94, 0)]
    results = [result((10, 10, 50, 50, 0.9, 0)), result(*inside)]
    assert evaluate(results, data(tmp_path, annotations=[crowd, single])).metrics.map == pytest.approx(1.0)
    no_crowd = data(tmp_path, annotations=[crowd | {"iscrowd": 0}, single])
    assert evaluate(results, no_crowd).metrics.map < 0.5


def test_without_the_engine_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = data(tmp_path)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'leyolo\[val\]'"):
        evaluate([], dataset)


def test_class_map_knows_the_spellings_of_voc() -> None:
    known = ["Sofa", "pottedplant", "person"]
    assert class_map({0: "couch", 1: "potted plant", 2: "person", 3: "kite"}, known) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(DataError, match="share no class: kite against sofa, pottedplant, person"):
        class_map({0: "kite"}, known)
    assert class_map({0: "kite", 1: "dog", 2: "cat"}, ["0", "2"]) == {0: 0, 2: 1}
    assert class_map({0: "a", 1: "A", 2: "B"}, ["A", "a", "b"]) == {0: 1, 1: 0, 2: 2}


def test_classes_that_the_model_does_not_know_are_said(tmp_path: Path) -> None:
    names = {0: "person"}
    truth = data(tmp_path)
    metrics = validate(lambda paths: [result(), result(PERFECT[1])], names, truth).metrics
    assert metrics.map == pytest.approx(0.5)
    assert metrics.problems == ("classes that the model does not know, whose AP counts as 0: tvmonitor",)
    only = data(tmp_path, annotations=[ANNOTATION | {"image_id": 9, "category_id": 5, "bbox": [0, 0, 100, 120]}])
    assert validate(lambda paths: [result(), result(PERFECT[1])], names, only).metrics.problems == ()


def test_a_picture_that_cannot_be_read_costs_its_objects(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"broken")
    dataset = read(path, split="val", keep_unreadable=True)
    metrics = evaluate([None, result(PERFECT[1])], dataset).metrics
    assert metrics.per_class == {"tvmonitor": 0, "person": pytest.approx(1.0)}
    assert metrics.problems[-1] == "a.jpg: cannot be read, its 1 objects count as missed"


def test_metrics_have_the_twelve() -> None:
    assert len(NUMBERS) == 12
    assert {name for name, _ in NUMBERS} <= set(Metrics.__dataclass_fields__)
