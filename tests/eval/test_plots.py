"""Pictures of an evaluation, and what LeYOLO.val writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leyolo import LeYOLO
from leyolo.errors import MissingDependencyError

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> LeYOLO:
    return LeYOLO(request.getfixturevalue("shared") / "weights" / "LeYOLONano.pt")


@pytest.fixture(scope="module")
def voc(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue("shared")) / "data" / "voc100"


def test_val_writes_detections_and_plots(model: LeYOLO, voc: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    metrics = model.val(
        voc / "instances.json",
        images=voc / "JPEGImages",
        imgsz=320,
        rect=True,
        save_json=tmp_path / "rows.json",
        plots=tmp_path / "plots",
    )
    assert metrics.padding == "rect"
    assert set(metrics.speed) == {"decode", "preprocess", "inference", "postprocess"}
    truth = COCO(str(voc / "instances.json"))  # the saved ids are the user's own
    run = COCOeval(truth, truth.loadRes(str(tmp_path / "rows.json")), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    assert metrics.map == pytest.approx(run.stats[0], abs=1e-6)
    assert len(json.loads((tmp_path / "rows.json").read_text())) == metrics.detections
    for name in ("precision_recall.png", "confusion.png"):
        with Image.open(tmp_path / "plots" / name) as image:
            assert min(image.size) > 400
            assert np.ptp(np.asarray(image.convert("L"))) > 200
    assert len(list((tmp_path / "plots").iterdir())) == 2


def test_every_format_scores_the_same(model: LeYOLO, voc: Path) -> None:
    """The XML and the json hold the same boxes; 320 is quick."""
    coco = model.val(voc / "instances.json", images=voc / "JPEGImages", imgsz=320)
    xml = model.val(voc, imgsz=320)
    for name in ("map", "map50", "map75", "mar_100"):
        assert getattr(xml, name) == pytest.approx(getattr(coco, name), abs=1e-6)
    # The json does not say which objects are difficult: with them left out, more is found of what counts.
    assert xml.voc_ap50 > coco.voc_ap50 + 0.005
    assert coco.voc_ap50 == pytest.approx(coco.map50, abs=0.02)


def test_without_matplotlib_the_error_comes_before_the_work(
    model: LeYOLO, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("leyolo.eval.model.read", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(MissingDependencyError, match=r"pip install 'leyolo\[val\]'"):
        model.val(voc, plots=tmp_path)
