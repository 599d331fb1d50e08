"""Validation in the middle of a run, and its shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leyolo.data import read
from leyolo.errors import InputError
from leyolo.model import LeYOLO
from leyolo.models.network import build
from leyolo.models.transfer import from_torch
from leyolo.train.distributed import Group
from leyolo.train.settings import make
from leyolo.train.validate import validate
from leyolo.weights import Checkpoint, save

NAMES = ("red", "green", "blue")


@pytest.fixture
def talkative() -> Checkpoint:
    """Random weights that find something everywhere."""
    network = build("n", 3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("head.cls.") and name.endswith("3.conv.bias"):
                parameter.zero_()
    return from_torch(network, dict(enumerate(NAMES)))


class _Pair(Group):
    """One of three processes; what they gather is what the test has heard from the others."""

    heard: dict[int, Any]

    def gather(self, value: Any) -> list[Any]:
        if value is not None and not isinstance(value, dict):
            self.heard[self.rank] = value
        return (
            [self.heard[rank] for rank in range(self.world)] if self.leads and not isinstance(value, dict) else [value]
        )


def test_the_shares_of_three_processes_are_the_whole(pictures: Path, talkative: Checkpoint) -> None:
    data = read(pictures, split="val")
    settings = make({"data": str(pictures), "imgsz": 128})
    cpu = torch.device("cpu")
    whole = validate(talkative, data, settings, Group(0, 1, cpu))
    heard: dict[int, Any] = {}
    for rank in (2, 1, 0):
        member = _Pair(rank, 3, cpu)
        object.__setattr__(member, "heard", heard)
        numbers = validate(talkative, data, settings, member)
    assert sorted(heard) == [0, 1, 2]
    assert [np.unique(heard[rank].picture).tolist() for rank in range(3)] == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert numbers == pytest.approx(whole, abs=0, nan_ok=True)
    assert whole["map50"] > 0


def test_it_is_what_val_says(pictures: Path, talkative: Checkpoint, tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", talkative)
    expected = LeYOLO(tmp_path / "a.safetensors").val(pictures, imgsz=128).to_dict()
    settings = make({"data": str(pictures), "imgsz": 128})
    found = validate(talkative, read(pictures, split="val"), settings, Group(0, 1, torch.device("cpu")))
    assert {name: expected[name] for name in ("map", "map50", "map75", "mar_100")} == pytest.approx(
        {name: found[name] for name in ("map", "map50", "map75", "mar_100")}
    )


def test_a_picture_is_read_whatever_its_name(draw: Any, talkative: Checkpoint, tmp_path: Path) -> None:
    path = draw(tmp_path / "some", 2)
    settings, alone = make({"data": str(path), "imgsz": 128}), Group(0, 1, torch.device("cpu"))
    expected = validate(talkative, read(path, split="val"), settings, alone)
    (tmp_path / "some" / "001.png").rename(tmp_path / "some" / "001.txt")
    path.write_text(path.read_text().replace("001.png", "001.txt"))
    assert validate(talkative, read(path, split="val"), settings, alone) == pytest.approx(expected, abs=0, nan_ok=True)


def test_a_picture_that_went_away_is_said(draw: Any, talkative: Checkpoint, tmp_path: Path) -> None:
    path = draw(tmp_path / "some", 2)
    data = read(path, split="val")
    (tmp_path / "some" / "001.png").unlink()
    with pytest.raises(InputError, match=r"001\.png"):
        validate(talkative, data, make({"data": str(path), "imgsz": 128}), Group(0, 1, torch.device("cpu")))
