"""The results object: coordinates, the tensor-like arrays, and every conversion read back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from leyolo.errors import MissingDependencyError
from leyolo.predict import coco
from leyolo.predict.results import Array, Results, counted

ROWS = [[10, 20, 50, 80, 0.9, 0], [100.5, 30.25, 160, 120, 0.75, 16], [0, 0, 30, 30, 0.5, 0]]
Make = Callable[..., Results]


def test_coordinates(results: Make) -> None:
    boxes = results(ROWS).boxes
    assert len(boxes) == 3
    np.testing.assert_array_equal(boxes.xyxy[0], [10, 20, 50, 80])
    np.testing.assert_array_equal(boxes.xywh[0], [30, 50, 40, 60])
    np.testing.assert_allclose(boxes.xyxyn[0], [10 / 160, 20 / 120, 50 / 160, 80 / 120])
    np.testing.assert_allclose(boxes.xywhn[0], [30 / 160, 50 / 120, 40 / 160, 60 / 120])
    np.testing.assert_allclose(boxes.conf, [0.9, 0.75, 0.5])
    np.testing.assert_array_equal(boxes.cls, [0, 16, 0])
    assert boxes.data.shape == boxes.shape == (3, 6)
    assert boxes.id is None
    assert boxes.data.dtype == np.float32


def test_results_fields(results: Make) -> None:
    r = results(ROWS)
    assert len(r) == 3
    assert r.orig_shape == (120, 160)
    assert r.orig_img.shape == (120, 160, 3)
    assert r.names[16] == "dog"
    assert r.path == "dir/a.jpg"
    assert set(r.speed) == {"preprocess", "inference", "postprocess"}
    assert r.masks is r.obb is r.probs is r.keypoints is None
    assert r.verbose() == "2 persons, 1 dog"
    assert results([]).verbose() == "no detections"
    words = ("bus", "box", "cross", "couch", "toothbrush", "dog")
    assert [counted(2, word)[2:] for word in words] == ["buses", "boxes", "crosses", "couches", "toothbrushes", "dogs"]
    assert counted(1, "bus") == "1 bus"
    assert repr(r) == "Results('dir/a.jpg', 160x120: 2 persons, 1 dog)"


def test_indexing(results: Make) -> None:
    r = results(ROWS)
    assert len(r[0]) == 1
    assert [int(one.boxes.cls[0]) for one in r] == [0, 16, 0]
    assert len(r[r.boxes.conf > 0.6]) == 2
    assert len(r[1:]) == 2
    assert [float(b.conf[0]) for b in r.boxes] == pytest.approx([0.9, 0.75, 0.5])


def test_code_written_for_tensors_works(results: Make) -> None:
    r = results(ROWS)
    assert r.cpu() is r.numpy() is r.to("cpu") is r.cuda() is r
    assert isinstance(r.boxes.xyxy, Array)
    plain = r.boxes.cls.cpu().numpy()
    assert type(plain) is np.ndarray
    assert r.boxes.cls.int().tolist() == [0, 16, 0]
    assert r.boxes.cls.cpu().detach().long().dtype == np.int64
    assert r.boxes.xyxy.to("cpu").clone().float().device == "cpu"
    assert [r.names[int(c)] for c in r.boxes.cls] == ["person", "dog", "person"]
    x1, _y1, _x2, _y2 = r.boxes.xyxy[0]
    assert int(x1) == 10
    assert r.boxes.cpu().numpy().data.shape == (3, 6)
    assert torch.as_tensor(r.boxes.data).shape == (3, 6)


def test_json_and_csv(results: Make) -> None:
    r = results(ROWS)
    assert json.loads(r.to_json()) == r.summary()
    assert r.summary()[1] == {
        "name": "dog",
        "class": 16,
        "confidence": 0.75,
        "box": {"x1": 100.5, "y1": 30.25, "x2": 160.0, "y2": 120.0},
    }
    assert r.summary(normalize=True)[0]["box"]["x1"] == pytest.approx(10 / 160)
    rows = list(csv.DictReader(io.StringIO(r.to_csv())))
    assert [row["name"] for row in rows] == ["person", "dog", "person"]
    assert float(rows[1]["y2"]) == 120
    assert json.loads(results([]).to_json()) == []


def test_coco_rows(results: Make) -> None:
    rows = results(ROWS, path="val/000000000139.jpg").to_coco()
    assert rows[1] == {"image_id": 139, "category_id": 18, "bbox": [100.5, 30.25, 59.5, 89.75], "score": 0.75}
    assert results(ROWS).to_coco()[0]["image_id"] == "a"
    assert results(ROWS).to_coco(image_id=7)[0]["image_id"] == 7


def test_coco_ids() -> None:
    assert len(coco.CATEGORY_IDS) == len(coco.NAMES) == 80
    assert coco.CATEGORY_IDS[0] == 1
    assert coco.CATEGORY_IDS[-1] == 90
    by_name = dict(zip(coco.NAMES, coco.CATEGORY_IDS, strict=True))
    assert (by_name["stop sign"], by_name["backpack"], by_name["bed"], by_name["book"]) == (13, 27, 65, 84)
    assert coco.categories({0: "rbc", 1: "wbc"}) == {0: 1, 1: 2}


def test_coco_rows_pass_through_pycocotools(results: Make, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    truth = {
        "images": [{"id": 139, "width": 160, "height": 120, "file_name": "000000000139.jpg"}],
        "annotations": [],
        "categories": [{"id": i, "name": n} for n, i in zip(coco.NAMES, coco.CATEGORY_IDS, strict=True)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    r = results(ROWS, path="000000000139.jpg")
    (tmp_path / "found.json").write_text(json.dumps(r.to_coco()))
    loaded = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "found.json"))
    assert [loaded.cats[a["category_id"]]["name"] for a in loaded.anns.values()] == ["person", "dog", "person"]
    boxes = np.array([a["bbox"] for a in loaded.anns.values()])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(boxes, r.boxes.xyxy, atol=1e-3)


@pytest.mark.parametrize("save_conf", [False, True])
def test_yolo_text_round_trip(results: Make, tmp_path: Path, save_conf: bool) -> None:
    r = results(ROWS)
    path = r.save_txt(tmp_path / "labels" / "a.txt", save_conf=save_conf)
    rows = np.loadtxt(path, ndmin=2)
    assert rows.shape == (3, 6 if save_conf else 5)
    np.testing.assert_array_equal(rows[:, 0], r.boxes.cls)
    centre, size = rows[:, 1:3] * [160, 120], rows[:, 3:5] * [160, 120]
    np.testing.assert_allclose(np.hstack([centre - size / 2, centre + size / 2]), r.boxes.xyxy, atol=2e-3)
    if save_conf:
        np.testing.assert_allclose(rows[:, 5], r.boxes.conf, atol=1e-6)
    assert Path(results([]).save_txt(tmp_path / "none.txt")).read_text() == ""


def test_crops(results: Make, tmp_path: Path) -> None:
    r = results([*ROWS, [5, 5, 5, 5, 0.4, 2]])
    paths = [Path(p) for p in r.save_crop(tmp_path)]
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        *("person/a-0.jpg", "dog/a-1.jpg", "person/a-2.jpg", "car/a-3.jpg")
    ]
    sizes = [Image.open(p).size for p in paths]
    assert sizes == [(40, 60), (60, 90), (30, 30), (1, 1)]


def test_save(results: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Image.open(results(ROWS).save(tmp_path / "new" / "out.png")).size == (160, 120)
    monkeypatch.chdir(tmp_path)
    assert results(ROWS).save() == "a_leyolo.jpg"
    assert (tmp_path / "a_leyolo.jpg").exists()


def test_supervision_reads_it(results: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for supervision.Detections.from_ultralytics, with the accesses that it makes."""

    class Detections:
        @staticmethod
        def from_ultralytics(r: Any) -> dict[str, Any]:
            assert getattr(r, "obb", None) is None
            assert r.masks is None
            ids = r.boxes.cls.cpu().numpy().astype(int)
            return {
                "xyxy": r.boxes.xyxy.cpu().numpy(),
                "confidence": r.boxes.conf.cpu().numpy(),
                "class_id": ids,
                "tracker": r.boxes.id.int().cpu().numpy() if r.boxes.id is not None else None,
                "names": np.array([r.names[i] for i in ids]),
            }

    monkeypatch.setitem(__import__("sys").modules, "supervision", SimpleNamespace(Detections=Detections))
    found = results(ROWS).to_supervision()
    assert type(found["xyxy"]) is np.ndarray
    assert found["names"].tolist() == ["person", "dog", "person"]
    assert found["tracker"] is None


def test_torchvision_form(results: Make) -> None:
    found = results(ROWS).to_torchvision()
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert found["labels"].tolist() == [0, 16, 0]
    assert found["labels"].dtype == torch.int64
    assert found["boxes"].shape == (3, 4)


@pytest.mark.parametrize(
    ("module", "call"), [("supervision", "to_supervision"), ("torch", "to_torchvision"), ("pandas", "to_df")]
)
def test_a_missing_package_is_named(results: Make, monkeypatch: pytest.MonkeyPatch, module: str, call: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingDependencyError, match=f"needs {module}"):
        getattr(results(ROWS), call)()


def test_show_without_a_display(results: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(MissingDependencyError, match="needs a display"):
        results(ROWS).show()


def test_crops_stay_inside_their_folder(results: Make, tmp_path: Path) -> None:
    for name in ("../../out", "/abs/x", "a\\b", ".."):
        paths = results(ROWS[:1]).save_crop(tmp_path / "crops", name)
        assert len(paths) == 1
        assert Path(paths[0]).resolve().parent == (tmp_path / "crops" / "person").resolve()
        assert Path(paths[0]).is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["crops"]
