"""Reading COCO json: values, and dirt that costs itself alone."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotated import ANNOTATION, write_coco, write_picture
from leyolo.data import DataError, Dataset, read


def load(path: Path, **options: Any) -> Dataset:
    return read(path, split="val", **options)


def test_values(tmp_path: Path) -> None:
    data = load(write_coco(tmp_path))
    assert [(i.id, i.path, i.width, i.height, i.name) for i in data.images] == [
        (7, tmp_path / "a.jpg", 200, 150, "a.jpg"),
        (9, tmp_path / "b.jpg", 200, 150, "b.jpg"),
    ]
    assert (data.names, data.categories, data.problems) == (("tvmonitor", "person"), (3, 5), ())
    assert data.offsets.tolist() == [0, 1, 2]
    assert data.boxes.tolist() == [[10, 10, 50, 50], [0, 0, 100, 120]]
    assert data.annotated.tolist() == [[10, 10, 40, 40], [0, 0, 100, 120]]
    assert (data.labels.tolist(), data.areas.tolist()) == ([0, 1], [1600, 12000])
    assert (data.boxes.dtype, data.labels.dtype, data.offsets.dtype) == (np.float32, np.int64, np.int64)
    assert not (data.crowd | data.difficult | data.duplicate).any()


def test_categories_are_sorted_by_id_and_annotations_by_picture(tmp_path: Path) -> None:
    annotations = [ANNOTATION | {"image_id": 9}, ANNOTATION | {"id": 2}, ANNOTATION | {"id": 3, "category_id": 5}]
    categories = [{"id": 5, "name": "person"}, {"id": 3, "name": "tv"}]
    data = load(write_coco(tmp_path, annotations=annotations, categories=categories))
    assert (data.names, data.categories) == (("tv", "person"), (3, 5))
    assert (data.offsets.tolist(), data.labels.tolist()) == ([0, 2, 3], [0, 1, 0])


def test_names_choose_and_order_the_classes(tmp_path: Path) -> None:
    data = load(write_coco(tmp_path), names=("zebra", "Person"))
    assert (data.names, data.categories, data.labels.tolist()) == (("zebra", "Person"), (None, 5), [1])
    assert [str(p) for p in data.problems] == [
        "data.json: annotation 1: class 'tvmonitor' is not among the names given"
    ]


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "tv"}, {"id": 4, "name": "cat"}, {"id": 5, "name": "tv "}]
    data = load(write_coco(tmp_path, categories=categories))
    assert (data.names, data.categories, data.labels.tolist()) == (("tv", "cat"), (3, 4), [0, 0])
    assert [str(p) for p in data.problems] == [
        "data.json: category 5: has the name of category 3, 'tv ': they are one class"
    ]


def test_names_that_differ_in_case_are_different_classes(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "a"}, {"id": 5, "name": "A"}]
    path = write_coco(tmp_path, categories=categories)
    data = load(path)
    assert (data.names, data.labels.tolist(), data.problems) == (("a", "A"), [0, 1], ())
    assert load(path, names=("A", "a")).labels.tolist() == [1, 0]


def test_what_is_nested_deeply_is_named_shortly(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(sys.getrecursionlimit() // 2):
        deep = [deep]
    rows = [ANNOTATION | {key: deep} for key in ("bbox", "image_id", "iscrowd", "area", "id")]
    data = load(write_coco(tmp_path, annotations=[ANNOTATION, *rows]))
    assert len(data.problems) == 5 + 2  # two are boxes that are there already
    assert max(len(str(problem)) for problem in data.problems) < 400


BAD: list[Any] = [
    ANNOTATION | {"bbox": [1, 2, float("nan"), 4]},
    ANNOTATION | {"bbox": [1, 2, 3]},
    ANNOTATION | {"bbox": [1, 2, -3, 4]},
    ANNOTATION | {"bbox": "here"},
    ANNOTATION | {"category_id": 99},
    ANNOTATION | {"bbox": [300, 10, 40, 40]},
    {"id": 5},
    "not a dict",
    None,
    ANNOTATION | {"image_id": None},
]


def test_a_bad_annotation_costs_itself(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "gone.jpg"}, {"name": "no id"}]
    data = load(write_coco(tmp_path, annotations=[ANNOTATION, *BAD], images=images))
    assert data.boxes.tolist() == [[10, 10, 50, 50]]
    assert len(data) == 1
    assert [p.costs for p in data.problems] == ["picture"] * 2 + ["box"] * len(BAD)
    assert str(data.problems[1]) == "data.json: picture gone.jpg: no such file"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"annotations": [ANNOTATION, ANNOTATION | {"image_id": 12}]}, "annotation 1: unknown image_id 12"),
        ({"annotations": [ANNOTATION, ANNOTATION | {"image_id": "7"}]}, "annotation 1: unknown image_id '7'"),
        ({"annotations": [ANNOTATION, ANNOTATION | {"image_id": [7]}]}, r"annotation 1: unknown image_id \[7\]"),
        ({"annotations": [ANNOTATION, ANNOTATION | {"bbox": [0, 0, 1e300, 9]}]}, "bbox must be four finite numbers"),
        ({"annotations": [ANNOTATION, ANNOTATION | {"bbox": [0, 0, 10**400, 1]}]}, "bbox must be four finite numbers"),
        ({"annotations": [ANNOTATION, ANNOTATION | {"bbox": [True] * 4}]}, "bbox must be four finite numbers"),
        ({"annotations": [ANNOTATION, ANNOTATION | {"bbox": [1, 1, 0, 5]}]}, r"bbox has no area: \[1, 1, 0, 5\]"),
        ({"annotations": [ANNOTATION, ANNOTATION | {"bbox": [200, 1, 9, 9]}]}, "bbox is outside the picture of 200 x"),
        ({"annotations": [ANNOTATION | {"area": None}]}, "annotation 1: area None, that of the box is taken"),
        ({"annotations": [ANNOTATION | {"area": -4}]}, "annotation 1: area -4, that of the box is taken"),
        ({"annotations": [ANNOTATION | {"area": float("nan")}]}, "annotation 1: area nan, that of the box is taken"),
        ({"annotations": [ANNOTATION | {"iscrowd": "no"}]}, "annotation 1: iscrowd 'no', 0 is taken"),
        ({"annotations": [ANNOTATION | {"iscrowd": [1]}]}, r"annotation 1: iscrowd \[1\], 0 is taken"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]}, "id 7 is that of a.jpg"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": True, "file_name": "b.jpg"}]}, "needs an id and a file_"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": 5}]}, "needs an id and a file_name"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b" * 5000}]}, "picture b+: "),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b\0.jpg"}]}, "picture b"),
        ({"images": [{"id": 7, "file_name": "a.jpg", "width": 150, "height": 200}]}, "annotated as 150 x 200; turned"),
        ({"categories": [{"id": 3, "name": "tv"}, {"id": 3, "name": "person"}]}, "id 3 is that of tv"),
        ({"categories": [{"id": 3, "name": "tv"}, {"id": 5, "name": 5}]}, "needs an id and a name"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    data = load(write_coco(tmp_path, **{"annotations": [ANNOTATION], **changes}))
    assert len(data.problems) == 1
    assert re.search(problem, str(data.problems[0]))
    assert (data.annotated.tolist(), data.areas.tolist(), data.crowd.any()) == ([[10, 10, 40, 40]], [1600], False)


def test_boxes_are_clipped_for_training_and_kept_for_evaluation(tmp_path: Path) -> None:
    boxes = [[-0.5, 10, 40, 40], [190, 140, 40, 40]]
    data = load(write_coco(tmp_path, annotations=[ANNOTATION | {"id": n, "bbox": b} for n, b in enumerate(boxes)]))
    assert data.boxes.tolist() == [[0, 10, 39.5, 50], [190, 140, 200, 150]]
    assert data.annotated.tolist() == boxes
    # Half a pixel is rounding; thirty are worth a line.
    assert [(p.where, p.costs) for p in data.problems] == [("annotation 1", "nothing")]


def test_duplicates_are_reported_and_not_learnt(tmp_path: Path) -> None:
    again = [ANNOTATION, ANNOTATION | {"id": 2}, ANNOTATION | {"id": 3, "category_id": 5}, ANNOTATION | {"id": 4}]
    data = load(write_coco(tmp_path, annotations=again))
    assert data.duplicate.tolist() == [False, True, False, True]
    assert [p.where for p in data.problems] == ["annotation 2", "annotation 4"]
    assert data.objects(0)[1].tolist() == [0, 1]


def test_crowds_are_not_learnt(tmp_path: Path) -> None:
    data = load(write_coco(tmp_path, annotations=[ANNOTATION | {"iscrowd": 1}, ANNOTATION | {"id": 2}]))
    assert (data.crowd.tolist(), data.problems) == ([True, False], ())
    boxes, labels = data.objects(0)
    assert (boxes.tolist(), labels.tolist()) == ([[10, 10, 50, 50]], [0])


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_picture_is_left_out_or_kept_for_evaluation(damage: str, tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    picture = tmp_path / "a.jpg"
    whole = picture.read_bytes()
    picture.write_bytes({"cut": whole[: len(whole) * 2 // 3], "text": b"no picture", "empty": b""}[damage])
    data = load(path)
    assert [i.id for i in data.images] == [9]
    assert (data.problems[0].where, data.problems[0].costs) == ("picture a.jpg", "picture")
    kept = load(path, keep_unreadable=True)
    assert [(i.id, i.width) for i in kept.images] == [(7, 0), (9, 200)]
    assert kept.boxes.tolist() == [[10, 10, 50, 50], [0, 0, 100, 120]]


def test_bytes_behind_the_end_are_no_damage(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"trailer" * 1000)
    assert len(load(path)) == 2


@pytest.mark.parametrize("place", ["images", "../images", "../images/val", "../val"])
def test_pictures_are_found_where_they_usually_are(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    folder.mkdir()
    path = write_coco(folder).rename(folder / "instances_val.json")
    target = (folder / place).resolve()
    for name in ("a.jpg", "b.jpg"):
        write_picture(target / name)
        (folder / name).unlink()
    assert len(load(path)) == 2
    assert load(path, images=target).images[0].path == target / "a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("\xff\xfe", "is not JSON"),
        ("[1]", "not a COCO json"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
        ('{"images": [], "annotations": [], "categories": []}', "none of its 0 pictures"),
        ("[" * 100_000, "is not JSON"),
        ('{"images": ' + "9" * 5000 + "}", "is not JSON"),
    ],
)
def test_what_is_no_dataset_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        load(tmp_path / "gone.json")


def test_a_file_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leyolo.data.coco.MAX_BYTES", 10)
    with pytest.raises(DataError, match="more than 10 bytes"):
        load(write_coco(tmp_path))


def test_real_annotations(shared: Path) -> None:
    folder = shared / "data" / "voc100"
    data = load(folder / "instances.json", images=folder / "JPEGImages")
    content = json.loads((folder / "instances.json").read_text())
    assert (len(data), len(data.labels), len(data.names), data.problems) == (100, 273, 20, ())
    assert sorted(data.annotated.tolist()) == sorted([float(v) for v in row["bbox"]] for row in content["annotations"])
