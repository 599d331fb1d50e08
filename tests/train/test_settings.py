"""Settings: what is refused, and that they survive being written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from leyolo.errors import UsageError
from leyolo.train.settings import make


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"batch": 2.5}, "batch must be a whole number"),
        ({"imgsz": 100}, "imgsz must be a multiple of 32, got 100. The nearest: 96 or 128"),
        ({"imgsz": 32}, "imgsz must be at least 64 for training, got 32"),
        ({"imgsz": 64, "multi_scale": 0.3}, "multi_scale 0.3 makes inputs of less than 64 pixels"),
        ({"imgsz": [320, 256]}, "imgsz must be one number for training"),
        ({"lr": -1.0}, "lr must be a number, 0 to 100, got -1.0"),
        ({"lr": float("nan")}, "lr must be a number, 0 to 100, got nan"),
        ({"clip": float("inf")}, "clip must be a number, at least 0, got inf"),
        ({"warmup": 3}, "warmup must be a number, 0 to 1, got 3"),
        ({"mosaic": 2.0}, "mosaic must be within 0..1, got 2.0"),
        ({"optimizer": "adam"}, "optimizer must be one of adamw, sgd, got 'adam'. Did you mean 'adamw'?"),
        ({"head": "yolo"}, "head must be one of leyolo, yolox, got 'yolo'"),
        ({"amp": "fp16"}, "amp fp16 needs device='cuda'; on the CPU there is bf16"),
        ({"device": "gpu"}, "device must be cpu, cuda or cuda:N, got 'gpu'"),
        ({"sync_bn": "yes"}, "sync_bn must be True or False, got 'yes'"),
        ({"patience": -1}, "patience must be a whole number of at least 0, got -1"),
        ({"epoch": 3}, "training has no setting 'epoch'. Did you mean 'epochs'?"),
    ],
)
def test_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        make({"data": "data", **values})
    assert text in str(caught.value)


def test_written_as_yaml_and_made_again(tmp_path: Path) -> None:
    settings = make({"data": "a: b", "epochs": 7, "lr": 1e-3, "mosaic": 0.5, "name": 'Übung "1"'})
    settings.write(tmp_path / "args.yaml")
    read = yaml.safe_load((tmp_path / "args.yaml").read_text())
    assert read == settings.to_json()
    assert read["mosaic"] == 0.5
    assert make(read) == settings


@pytest.mark.parametrize(
    ("epochs", "share", "first"), [(10, 0.2, 8), (1, 0.2, 1), (3, 0.2, 2), (10, 0.0, 10), (10, 1.0, 0), (2, 0.9, 1)]
)
def test_mixing_ends_with_a_share_of_the_run(epochs: int, share: float, first: int) -> None:
    """Ten epochs are not all closed, and a short run is closed too where the share rounds to an epoch."""
    assert make({"data": "d", "epochs": epochs, "close_mosaic": share}).closing_epoch == first
