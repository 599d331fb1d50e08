"""Evaluation on annotated pictures. Torch is not imported here."""

from __future__ import annotations

from leyolo.eval.classes import class_map
from leyolo.eval.coco import require_engine
from leyolo.eval.detections import Detections
from leyolo.eval.metrics import Metrics, score
from leyolo.eval.run import Evaluation, validate

__all__ = ["Detections", "Evaluation", "Metrics", "class_map", "require_engine", "score", "validate"]
