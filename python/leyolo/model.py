"""The public class: a LeYOLO model with what one does with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from leyolo.errors import InputError, LeYOLOError, UsageError, nearest
from leyolo.predict.arrays import is_tensor
from leyolo.predict.pipeline import Pipeline, Settings, class_ids, image_size
from leyolo.predict.run import collect, run
from leyolo.predict.sources import Options

if TYPE_CHECKING:
    from leyolo.predict.results import Results
    from leyolo.weights import Checkpoint
