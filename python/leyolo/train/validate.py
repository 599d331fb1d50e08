"""mAP of weights in the middle of a run, shared among the run's processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leyolo.data.dataset import Dataset
from leyolo.eval import Metrics, coco_rows, score
from leyolo.predict.backends import engine
from leyolo.predict.pipeline import Pipeline, Settings as PredictSettings
from leyolo.predict.run import run
from leyolo.predict.sources import Options
from leyolo.train.distributed import Group
from leyolo.train.settings import Settings
from leyolo.weights import Checkpoint
