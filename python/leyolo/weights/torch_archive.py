"""The zip container of torch.save: raw storages beside one pickle. Nothing of torch is needed, nothing is executed."""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from leyolo.weights.checkpoint import WeightsError
from leyolo.weights.restricted_pickle import MAX_BYTES, Global, loads, stub

_MAX_MEMBERS = 100_000
_BROKEN = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, OverflowError, KeyError,
    struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Storage:
    """A raw block of the archive: ``count`` values of ``dtype`` in ``<top>/data/<key>``."""

    dtype: np.dtype[Any]
    key: str
    count: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor by reference. It lies inside its storage and has no more values than it; the data is read on demand."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _integers(values: Any, what: str) -> tuple[int, ...]:
    if type(values) is not tuple or len(values) > 8 or any(type(v) is not int or not 0 <= v < 2**40 for v in values):
        raise WeightsError(f"a tensor's {what} should be at most 8 non-negative integers")
    return values


def _tensor(args: tuple[Any, ...]) -> TensorRef:
    if len(args) < 4 or type(args[0]) is not Storage:
        raise WeightsError("a tensor should be built from a storage, an offset, a size and strides")
    storage: Storage = args[0]
    (offset,) = _integers((args[1],), "offset")
    shape, strides = _integers(args[2], "size"), _integers(args[3], "strides")
    if len(shape) != len(strides):
        raise WeightsError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    count = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count > storage.count or (count and last >= storage.count):
        raise WeightsError(
            f"a tensor of size {list(shape)}, strides {list(strides)} and offset {offset} does not fit into its "
            f"storage of {storage.count} values"
        )
    return TensorRef(storage, offset, shape, strides)


def _parameter(args: tuple[Any, ...]) -> TensorRef:
    if not args or type(args[0]) is not TensorRef:
        raise WeightsError("a parameter should be built from a tensor")
    return args[0]


def _set(args: tuple[Any, ...]) -> frozenset[str | int]:
    values = args[0] if len(args) == 1 else None
    if type(values) is not list or any(type(value) not in (str, int) for value in values):
        raise WeightsError("a set should be built from one list of names")
    return frozenset(values)


def _ordered_dict(args: tuple[Any, ...]) -> dict[Any, Any]:
    if args:
        raise WeightsError("an ordered dict should be built empty")
    return {}


_STORAGES = {"torch.HalfStorage": "<f2", "torch.FloatStorage": "<f4", "torch.LongStorage": "<i8"}

_CLASSES = {
    "ultralytics.nn.tasks": ("DetectionModel",),
    "ultralytics.nn.modules.conv": ("mn_conv", "Conv", "Concat"),
    "ultralytics.nn.modules.block": ("MobileNetV3_BLOCK", "SPPF", "DFL"),
    "ultralytics.nn.modules.head": ("Detect",),
    "ultralytics.utils": ("IterableSimpleNamespace",),
    "ultralytics.utils.loss": ("v8DetectionLoss", "BboxLoss"),
    "ultralytics.utils.tal": ("TaskAlignedAssigner",),
    "torch.nn.modules.container": ("Sequential", "ModuleList"),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.activation": ("SiLU",),
    "torch.nn.modules.pooling": ("MaxPool2d",),
    "torch.nn.modules.upsampling": ("Upsample",),
    "torch.nn.modules.loss": ("BCEWithLogitsLoss",),
}

KNOWN: dict[str, Global] = {
    **{f"{module}.{name}": stub(f"{module}.{name}") for module, names in _CLASSES.items() for name in names},
    **{name: Global(name) for name in _STORAGES},
    "torch._utils._rebuild_tensor_v2": Global("torch._utils._rebuild_tensor_v2", _tensor),
    "torch._utils._rebuild_parameter": Global("torch._utils._rebuild_parameter", _parameter),
    "torch.Size": Global("torch.Size", lambda args: _integers(args[0], "size")),
    "torch.device": Global("torch.device", lambda args: args),
    "collections.OrderedDict": Global("collections.OrderedDict", _ordered_dict),
    "__builtin__.set": Global("__builtin__.set", _set),
}
"""The 29 names that an official checkpoint mentions."""


class TorchArchive:
    """``path`` as a torch.save archive. ``root`` is the unpickled top object; :meth:`read` fetches a tensor's data."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._zip, self._top = self._open()
            self.root = loads(self._member("data.pkl"), KNOWN, self._storage)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TorchArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _open(self) -> tuple[zipfile.ZipFile, str]:
        try:
            archive = zipfile.ZipFile(self._file)
            members = archive.infolist()
            length = self._file.seek(0, 2)
        except _BROKEN as error:
            raise WeightsError(f"expected a zip archive as torch.save writes it, but it is damaged: {error}") from error
        if len(members) > _MAX_MEMBERS:
            raise WeightsError(f"the archive has {len(members)} members, expected at most {_MAX_MEMBERS}")
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise WeightsError(f"the archive member {member.filename[:80]!r} is compressed, expected it stored")
            if member.filename in self._members:
                raise WeightsError(f"the archive has two members {member.filename[:80]!r}")
            self._members[member.filename] = member
        total = sum(member.file_size for member in members)
        if total > length:
            raise WeightsError(f"the archive's members claim {total} bytes, but the file has {length}")
        tops = [name[: -len("data.pkl")] for name in self._members if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(tops) != 1:
            raise WeightsError(f"expected one member data.pkl in the archive, found {len(tops)}")
        order = self._members.get(f"{tops[0]}byteorder")
        if order is not None and (order.file_size > 16 or archive.read(order).strip() != b"little"):
            raise WeightsError("the archive's byte order should be little")
        return archive, tops[0]

    def _member(self, name: str) -> bytes:
        member = self._members.get(self._top + name)
        if member is None:
            raise WeightsError(f"the archive has no member {name!r}")
        if name == "data.pkl" and member.file_size > MAX_BYTES:
            raise WeightsError(f"data.pkl has {member.file_size} bytes, expected at most {MAX_BYTES}")
        try:
            return self._zip.read(member)
        except _BROKEN as error:
            raise WeightsError(f"the archive member {name!r} is damaged: {error}") from error

    def _storage(self, value: Any) -> Storage:
        """The storage behind a persistent id ("storage", type, key, location, count)."""
        if type(value) is not tuple or len(value) != 5 or type(value[0]) is not str or value[0] != "storage":
            raise WeightsError("a persistent id should be a storage (kind, type, key, location, count)")
        _, kind, key, _, count = value
        if type(kind) is not Global or kind.name not in _STORAGES:
            raise WeightsError("a storage should hold float16, float32 or int64 values")
        if type(key) is not str or not re.fullmatch(r"[0-9]{1,9}", key, re.ASCII):
            raise WeightsError("a storage's key should be a number")
        dtype = np.dtype(_STORAGES[kind.name])
        member = self._members.get(f"{self._top}data/{key}")
        if member is None:
            raise WeightsError(f"the archive has no member 'data/{key}'")
        if type(count) is not int or count < 0 or count * dtype.itemsize != member.file_size:
            raise WeightsError(
                f"storage {key} should hold {count if type(count) is int else '?'} values of {dtype.name}, "
                f"its member has {member.file_size} bytes"
            )
        return Storage(dtype, key, count)

    def read(self, tensor: TensorRef) -> np.ndarray:
        """The values of ``tensor``, contiguous and owned by the caller."""
        flat = np.frombuffer(self._member(f"data/{tensor.storage.key}"), dtype=tensor.storage.dtype)
        steps = tuple(stride * flat.itemsize for stride in tensor.strides)
        view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, steps, writeable=False)
        return np.array(view, dtype=tensor.storage.dtype.newbyteorder("="), order="C")
