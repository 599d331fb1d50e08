"""Our own format: a round trip keeps every bit; anything odd is refused, naming the part."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official_files import WriteOfficial, write_official
from safetensors.numpy import load_file, save_file

from leyolo import weights
from leyolo.models.config import CONFIGS, HEADS, SIZES
from leyolo.models.layout import state_shapes
from leyolo.weights import Checkpoint, WeightsError, native

__all__ = ["write_official"]  # a fixture


def _checkpoint(size: str = "n", num_classes: int = 3, head: str = "leyolo", **changes: Any) -> Checkpoint:
    random = np.random.default_rng(0)
    shapes = state_shapes(CONFIGS[size], num_classes, head)
    state = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    fields: dict[str, Any] = {
        "names": {i: f"Ding {i} “ü”" for i in range(num_classes)},
        "state": state,
        "metadata": {"license": "CC0-1.0", "epoch": "7"},
    }
    return Checkpoint(size, num_classes, head=head, **fields | changes)


def _same(a: Checkpoint, b: Checkpoint) -> None:
    assert list(a.state) == list(b.state)
    for name, value in a.state.items():
        assert value.dtype == b.state[name].dtype
        assert value.tobytes() == b.state[name].tobytes(), name
    assert (a.size, a.num_classes, a.head, a.strides) == (b.size, b.num_classes, b.head, b.strides)
    assert (a.names, a.metadata) == (b.names, b.metadata)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", SIZES)
def test_round_trip(tmp_path: Path, size: str, head: str) -> None:
    checkpoint = _checkpoint(size, 3, head)
    checkpoint.state["layers.0.conv.weight"][0, 0, 0] = [np.nan, np.inf, -0.0]
    checkpoint.state["layers.1.conv.weight"] = checkpoint.state["layers.1.conv.weight"].astype(np.float16)
    weights.save(tmp_path / "a.safetensors", checkpoint)
    _same(weights.load(tmp_path / "a.safetensors"), checkpoint)


def test_any_safetensors_reader_reads_it(tmp_path: Path) -> None:
    checkpoint = _checkpoint()
    weights.save(tmp_path / "a.safetensors", checkpoint)
    found = load_file(tmp_path / "a.safetensors")
    assert all(np.array_equal(found[name], value) for name, value in checkpoint.state.items())


def test_same_checkpoint_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        weights.save(tmp_path / name, _checkpoint())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    weights.save(tmp_path / "c", weights.load(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_convert(write_official: WriteOfficial, tmp_path: Path) -> None:
    source = write_official("s", 4)
    written = weights.convert(source, tmp_path / "s.weights")
    _same(weights.load(tmp_path / "s.weights"), written)
    _same(weights.load(source), written)


def test_halved(tmp_path: Path) -> None:
    """Convolution weights alone are rounded, and the file is about half as long."""
    checkpoint = _checkpoint()
    half = weights.halved(checkpoint)
    for name, value in checkpoint.state.items():
        assert half.state[name].dtype == (np.float16 if value.ndim > 1 else np.float32)
        np.testing.assert_allclose(half.state[name], value, rtol=2**-11, atol=2**-25)
    weights.save(tmp_path / "half", half)
    weights.save(tmp_path / "full", checkpoint)
    assert 0.5 < (tmp_path / "half").stat().st_size / (tmp_path / "full").stat().st_size < 0.56
    _same(weights.load(tmp_path / "half"), half)
    checkpoint.state["layers.1.conv.weight"][0] = 7e4
    with pytest.raises(WeightsError, match=r"'layers.1.conv.weight' reaches 70000, float16 only to 65504"):
        weights.halved(checkpoint)


def test_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    weights.save(path, _checkpoint(num_classes=1))
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        weights.save(path, _checkpoint(num_classes=2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for text in (b"new", b"newer"):
        native.write_atomically(tmp_path / "link", text)
        assert (tmp_path / "file").read_bytes() == text
    assert (tmp_path / "link").is_symlink()


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    """Root could do that to /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    native.write_atomically(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    weights.save(tmp_path / "a", _checkpoint(num_classes=1))
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def _changed(checkpoint: Checkpoint, **state: np.ndarray | None) -> dict[str, np.ndarray]:
    merged = checkpoint.state | {name.replace("__", "."): value for name, value in state.items()}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": "x"}, "size should be one of n, s, m, l, got 'x'"),
        ({"head": "yolo"}, "head should be one of leyolo, yolox"),
        ({"num_classes": 0}, "num_classes should be 1 to"),
        ({"strides": (8, 16)}, r"strides should be \(8, 16, 32\)"),
        ({"names": {0: "a", 1: "b", 3: "c"}}, "classes 0 to 2, got 3 names"),
        ({"metadata": {"epoch": 7}}, "'epoch' should be text, got a int"),
        ({"metadata": {"size": "n"}}, "got 'size'"),
        ({"state": {}}, "'head.cls.0.0.conv.weight' is missing"),
    ],
)
def test_save_rejects(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    checkpoint = _checkpoint()
    for key, value in changes.items():
        setattr(checkpoint, key, value)
    with pytest.raises(WeightsError, match=expected):
        weights.save(tmp_path / "a", checkpoint)
    assert not list(tmp_path.iterdir())


_METADATA = {
    "format": "leyolo",
    "format_version": "1",
    "size": "n",
    "num_classes": "3",
    "names": '["a", "b", "c"]',
    "head": "leyolo",
    "strides": "[8, 16, 32]",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": None}, "but there is no format"),
        ({"format": "pt"}, "got 'pt'"),
        ({"format_version": "2"}, "upgrade leyolo"),
        ({"format_version": "one"}, "'format_version' should be a number"),
        ({"size": None}, "'size', but it is missing"),
        ({"size": "huge"}, "one of n, s, m, l, got 'huge'"),
        ({"num_classes": "-3"}, "'num_classes' should be a number from 1"),
        ({"num_classes": "99999999999999999"}, "'num_classes' should be a number"),
        ({"num_classes": "٣"}, "'num_classes' should be a number"),
        ({"num_classes": "4"}, "list of 4 texts"),
        ({"names": "a, b"}, "'names' should be JSON"),
        ({"names": "[" * 5000}, "'names' should be JSON"),
        ({"names": '["a", "b", 3]'}, "list of 3 texts"),
        ({"head": "none"}, "'head' should be one of"),
        ({"head": "yolox"}, "missing"),
        ({"strides": "[8, 16]"}, "'strides' should be"),
        ({"size": "s"}, "should have shape"),
    ],
)
def test_wrong_metadata(tmp_path: Path, changes: dict[str, str | None], expected: str) -> None:
    metadata = {key: value for key, value in (_METADATA | changes).items() if value is not None}
    save_file(_checkpoint().state, tmp_path / "a", metadata)
    with pytest.raises(WeightsError, match=expected):
        weights.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"layers__1__conv__bias": None}, "1 of 556 tensors are missing: 'layers.1.conv.bias'"),
        ({"extra": np.zeros(3, np.float32)}, "1 tensors are not part of this model: 'extra'"),
        (
            {"layers__1__conv__bias": np.zeros(17, np.float32)},
            r"'layers.1.conv.bias' should have shape \[16\], got \[17\]",
        ),
        ({"layers__1__conv__bias": np.zeros(16, np.float64)}, "'layers.1.conv.bias' should be F32 or F16, got F64"),
        ({"head__cls__0__0__conv__weight": np.zeros(3, np.float32)}, r"\[width, channels, 1, 1\], got \[3\]"),
    ],
)
def test_wrong_tensors(tmp_path: Path, state: dict[str, np.ndarray | None], expected: str) -> None:
    save_file(_changed(_checkpoint(), **state), tmp_path / "a", _METADATA)
    with pytest.raises(WeightsError, match=expected):
        weights.load(tmp_path / "a")


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    weights.save(path, _checkpoint(num_classes=1))
    data = path.read_bytes()
    for part in range(20):
        path.write_bytes(data[: len(data) * part // 20])
        with pytest.raises(WeightsError):
            weights.load(path)
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header["layers.1.conv.bias"]["data_offsets"] = [0, 1 << 40]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(WeightsError, match="damaged"):
        weights.load(path)
    random = np.random.default_rng(0)
    for place in random.integers(0, length, 300):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            found = weights.load(path)
        except WeightsError:
            continue
        assert {name: value.shape for name, value in found.state.items()} == state_shapes(CONFIGS["n"], 1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file"),
        (b"\x80\x02}q\x00.", "a bare pickle, which is not read since it could run code"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "an HTML or XML page"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "cut short"),
        (b"\x08\x06\x12\x04onnx...", "11 bytes of something else"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=expected) as error:
        weights.load(path)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        weights.load(tmp_path / "none")


def test_own_keys_are_those_written(tmp_path: Path) -> None:
    weights.save(tmp_path / "a", _checkpoint(num_classes=1, metadata={}))
    data = (tmp_path / "a").read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert tuple(header["__metadata__"]) == native._OWN_KEYS
