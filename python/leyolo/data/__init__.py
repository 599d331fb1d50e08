"""Annotated pictures: reading, checking, augmenting, batching. Torch is imported only by what yields batches."""

from __future__ import annotations

from leyolo.data.dataset import DataError, Dataset, ImageRecord, Problem
from leyolo.data.read import read

__all__ = ["DataError", "Dataset", "ImageRecord", "Problem", "read"]
