"""Reading dirty annotations, and the numbers against pycocotools called directly."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from leyolo.eval import DataError, class_map, read_coco, score, validate


def dataset(folder: Path, **changes: Any) -> Path:
    (folder / "a.jpg").write_bytes(b"x")
    (folder / "b.jpg").write_bytes(b"x")
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [{"id": 3, "name": "tvmonitor"}, {"id": 5, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40]},
            {"id": 2, "image_id": 9, "category_id": 5, "bbox": [0, 0, 100, 120], "iscrowd": 0, "area": 12000},
        ],
    } | changes
    path = folder / "data.json"
    path.write_text(json.dumps(content))
    return path


def result(*rows: tuple[float, ...]) -> SimpleNamespace:
    array = np.array(rows, np.float32).reshape(-1, 6)
    return SimpleNamespace(boxes=SimpleNamespace(xyxy=array[:, :4], conf=array[:, 4], cls=array[:, 5]))


NAMES = {0: "person", 1: "tv", 2: "zebra"}


def test_perfect_detections_score_one(tmp_path: Path) -> None:
    results = [result((10, 10, 50, 50, 0.9, 1), (0, 0, 5, 5, 0.8, 2)), result((0, 0, 100, 120, 0.7, 0))]
    metrics, rows = validate(lambda paths: results, NAMES, dataset(tmp_path))
    assert metrics.map == pytest.approx(1.0)
    assert metrics.per_class == {"tvmonitor": pytest.approx(1.0), "person": pytest.approx(1.0)}
    assert [row["image_id"] for row in rows] == [7, 9]
    assert rows[0] == {"image_id": 7, "category_id": 3, "bbox": [10.0, 10.0, 40.0, 40.0], "score": 0.9}
    assert np.isnan(metrics.map_small)
    assert metrics.to_dict()["map_small"] is None
    assert json.dumps(metrics.to_dict(), allow_nan=False)


def test_no_detection_scores_zero(tmp_path: Path) -> None:
    metrics, rows = validate(lambda paths: [result(), result()], NAMES, dataset(tmp_path))
    assert rows == []
    assert metrics.map == 0
    assert "AP  at IoU 0.50:0.95" in str(metrics)


def test_numbers_are_pycocotools(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    annotations, rows = [], []
    for k in range(300):
        x, y, w, h = rng.uniform(0, 300, 2).tolist() + rng.uniform(4, 200, 2).tolist()
        place = {"image_id": [7, 9][k % 2], "category_id": [3, 5][k % 3 % 2]}
        annotations.append({**place, "id": k + 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": int(k % 17 == 0)})
        jitter = rng.normal(0, 4, 4)
        box = [x + jitter[0], y + jitter[1], max(1, w + jitter[2]), max(1, h + jitter[3])]
        rows.append({**place, "bbox": box, "score": float(rng.random())})
    path = dataset(tmp_path, annotations=annotations)
    ours = score(read_coco(path), rows)
    truth = COCO(str(path))
    run = COCOeval(truth, truth.loadRes(rows), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    numbers = [ours.map, ours.map50, ours.map75, ours.map_small, ours.map_medium, ours.map_large,
               ours.mar_1, ours.mar_10, ours.mar_100, ours.mar_small, ours.mar_medium, ours.mar_large]  # fmt: skip
    assert np.allclose(numbers, run.stats, atol=1e-9)


def test_dirty_annotations_cost_themselves(tmp_path: Path) -> None:
    good = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40]}
    bad: list[Any] = [
        {**good, "bbox": [1, 2, float("nan"), 4]},
        {**good, "bbox": [1, 2, 3]},
        {**good, "bbox": [1, 2, -3, 4]},
        {**good, "bbox": "here"},
        {**good, "category_id": 99},
        {"id": 5},
        "not a dict",
        {**good, "image_id": None},
    ]
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "gone.jpg"}, {"name": "no id"}]
    data = read_coco(dataset(tmp_path, annotations=[good, *bad], images=images))
    assert len(data.content["annotations"]) == 1
    assert len(data.images) == 1
    assert len(data.problems) == len(bad) + 2
    assert any("gone.jpg: no such file" in line for line in data.problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "not a COCO json"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "none of its 0 images"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_dataset_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_coco(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_coco(tmp_path / "gone.json")


def test_class_map_knows_the_spellings_of_voc() -> None:
    categories = [{"id": 1, "name": "Sofa"}, {"id": 2, "name": "pottedplant"}, {"id": 3, "name": "person"}]
    assert class_map({0: "couch", 1: "potted plant", 2: "person", 3: "kite"}, categories) == {0: 1, 1: 2, 2: 3}
    with pytest.raises(DataError, match="share no class: kite against sofa, pottedplant, person"):
        class_map({0: "kite"}, categories)
