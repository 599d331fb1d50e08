"""Training: ``train(Settings(data=…), checkpoint)``, or ``leyolo train``. Needs torch."""

from __future__ import annotations

from leyolo.train.run import TrainResult, resume, train
from leyolo.train.settings import Settings

__all__ = ["Settings", "TrainResult", "resume", "train"]
