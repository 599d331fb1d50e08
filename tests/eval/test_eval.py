"""Reading dirty annotations, and the numbers against pycocotools called directly."""

from __future__ import annotations

import json
import re
import sys
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


GOOD = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"area": None}, "annotation 1: area None, that of the box is taken"),
        ({"area": "large"}, "annotation 1: area large, that of the box is taken"),
        ({"area": -4}, "annotation 1: area -4, that of the box is taken"),
        ({"area": float("nan")}, "annotation 1: area nan, that of the box is taken"),
        ({"iscrowd": "no"}, "annotation 1: iscrowd no, 0 is taken"),
        ({"iscrowd": None}, "annotation 1: iscrowd None, 0 is taken"),
    ],
)
def test_a_bad_field_does_not_change_the_numbers(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = dataset(tmp_path, annotations=[GOOD | change])
    metrics, _ = validate(lambda paths: [result((10, 10, 50, 50, 0.9, 1)), result()], NAMES, path)
    assert metrics.map == metrics.map_medium == pytest.approx(1.0)
    assert metrics.problems == (problem,)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"annotations": [GOOD, GOOD | {"image_id": 12}]}, "annotation 1: unknown image_id 12"),
        ({"annotations": [GOOD, GOOD | {"image_id": "7"}]}, "annotation 1: unknown image_id '7'"),
        ({"annotations": [GOOD, GOOD | {"image_id": [7]}]}, r"annotation 1: unknown image_id \[7\]"),
        ({"annotations": [GOOD, GOOD | {"bbox": [0, 0, 1e300, 1e300]}]}, "bbox must be four finite numbers"),
        ({"annotations": [GOOD, GOOD | {"bbox": [0, 0, 10**400, 1]}]}, "bbox must be four finite numbers"),
        ({"annotations": [GOOD, GOOD | {"bbox": [True] * 4}]}, "bbox must be four finite numbers"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]}, "id 7 is that of a.jpg"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": True, "file_name": "b.jpg"}]}, "needs an id and a file_"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": 5}]}, "needs an id and a file_name"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b" * 5000}]}, "b: no such file"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b\0.jpg"}]}, "no such file"),
        ({"categories": [{"id": 3, "name": "tv"}, {"id": 3, "name": "person"}]}, "id 3 is that of tv"),
        ({"categories": [{"id": 3, "name": "tv"}, {"id": 5, "name": 5}]}, "needs an id and a name"),
    ],
)
def test_what_is_left_out_is_named(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    data = read_coco(dataset(tmp_path, **{"annotations": [GOOD], **changes}))
    assert len(data.problems) == 1
    assert re.search(problem, data.problems[0])
    assert [row["bbox"] for row in data.content["annotations"]] == [GOOD["bbox"]]
    assert score(
        data, [{"image_id": 7, "category_id": 3, "bbox": [10, 10, 40, 40], "score": 1.0}]
    ).map == pytest.approx(1.0)


def test_ids_may_be_text_or_mixed(tmp_path: Path) -> None:
    path = dataset(
        tmp_path,
        images=[{"id": "seven", "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        categories=[{"id": "t", "name": "tv"}, {"id": 5, "name": "person"}],
        annotations=[{"image_id": "seven", "category_id": "t", "bbox": [10, 10, 40, 40]}],
    )
    metrics, rows = validate(lambda paths: [result((10, 10, 50, 50, 0.9, 1)), result()], NAMES, path)
    assert metrics.map == pytest.approx(1.0)
    assert metrics.per_class["tv"] == pytest.approx(1.0)
    assert (rows[0]["image_id"], rows[0]["category_id"]) == ("seven", "t")


def test_detections_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    first = result((nan, 0, 9, 9, 0.99, 1), (0, 0, 9, 9, nan, 1), (0, 0, inf, 9, 0.99, 0), (10, 10, 50, 50, 0.9, 1))
    metrics, rows = validate(lambda paths: [first, result((0, 0, 100, 120, 0.7, 0))], NAMES, dataset(tmp_path))
    assert len(rows) == 2
    assert metrics.map == pytest.approx(1.0)
    assert metrics.problems == ("image a.jpg: detections that are no numbers",)


def test_a_crowd_takes_detections_without_counting_them(tmp_path: Path) -> None:
    crowd = {"image_id": 9, "category_id": 5, "bbox": [0, 0, 100, 120], "iscrowd": 1}
    single = {"image_id": 7, "category_id": 5, "bbox": [10, 10, 40, 40], "iscrowd": 0}
    path = dataset(tmp_path, annotations=[crowd, single])
    inside = [(0, 0, 40, 40, 0.95, 0), (20, 20, 60, 60, 0.94, 0)]
    results = [result((10, 10, 50, 50, 0.9, 0)), result(*inside)]
    assert validate(lambda paths: results, NAMES, path)[0].map == pytest.approx(1.0)
    path = dataset(tmp_path, annotations=[crowd | {"iscrowd": 0}, single])
    assert validate(lambda paths: results, NAMES, path)[0].map < 0.5


def test_without_pycocotools_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ImportError, match=r"pip install 'leyolo\[val\]'"):
        score(read_coco(dataset(tmp_path)), [])


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


def test_a_picture_that_cannot_be_read_costs_its_objects(tmp_path: Path) -> None:
    perfect = result((0, 0, 100, 120, 0.7, 0))
    metrics, rows = validate(lambda paths: [None, perfect], NAMES, dataset(tmp_path))
    assert [row["image_id"] for row in rows] == [9]
    assert metrics.per_class == {"tvmonitor": 0, "person": pytest.approx(1.0)}
    assert metrics.problems == ("image a.jpg: cannot be read, its objects count as missed",)
