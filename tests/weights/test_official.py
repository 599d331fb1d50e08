"""Official checkpoints: every value as stored, for every size; nothing executed; anything odd refused in words."""

from __future__ import annotations

import builtins
import hashlib
import importlib
import io
import os
import pickle
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_files import WriteOfficial, with_members, write_official
from torch import nn

from leyolo import weights
from leyolo.models.config import SIZES
from leyolo.models.layout import state_shapes
from leyolo.weights import WeightsError, official
from leyolo.weights.restricted_pickle import loads
from leyolo.weights.torch_archive import KNOWN

__all__ = ["write_official"]  # a fixture

CHECK_VALUE = "fc6cf819110f6ecc9e60cfb456fad0966e3f9b3d6d9ed5184e5319d728016cef"


@pytest.fixture(scope="module")
def nano(shared: Path) -> Path:
    return shared / "weights/LeYOLONano.pt"


@pytest.fixture(scope="module")
def nano_pickle(nano: Path) -> bytes:
    with zipfile.ZipFile(nano) as archive:
        return archive.read("best/data.pkl")


def test_every_value_as_stored(shared: Path, nano: Path) -> None:
    found = official.read(nano)
    digest = hashlib.sha256()
    for key, value in found.state.items():
        digest.update(key.encode())
        digest.update(value.tobytes())
    assert len(found.state) == 651
    assert digest.hexdigest() == CHECK_VALUE
    rows = [r.split("\t") for r in (shared / "design/leyolo-nano-keys.tsv").read_text().splitlines() if r[0] != "#"]
    shapes = ["x".join(map(str, value.shape)) or "scalar" for value in found.state.values()]
    assert [[row[0], row[2], row[3]] for row in rows] == [
        [key, str(value.dtype), shape] for (key, value), shape in zip(found.state.items(), shapes, strict=True)
    ]


def test_checkpoint(nano: Path) -> None:
    found = weights.load(nano)
    assert (found.size, found.num_classes, found.head, found.strides) == ("n", 80, "leyolo", (8, 16, 32))
    assert (found.names[0], found.names[79]) == ("person", "toothbrush")
    assert {name: value.shape for name, value in found.state.items()} == state_shapes(found.config)
    assert list(found.state) == list(state_shapes(found.config))
    assert {str(value.dtype) for value in found.state.values()} == {"float16"}
    assert found.metadata["source"] == "LeYOLONano.pt"
    assert found.metadata["source_sha256"] == hashlib.sha256(nano.read_bytes()).hexdigest()
    assert "AGPL-3.0" in found.metadata["license"]
    # The stem's scale is the check that parts did not change places: conv weights and batch norms of one layer.
    raw = official.read(nano).state
    for ours, theirs in {
        "layers.0.bn.running_var": "model.0.bn.running_var",
        "layers.2.depthwise.conv.weight": "model.2.layers.0.c.weight",
        "layers.2.project.conv.bias": "model.2.layers.1.bias",
        "layers.2.project.bn.bias": "model.2.layers.2.bias",
        "layers.3.expand.bn.weight": "model.3.layers.0.bn.weight",
        "layers.3.depthwise.conv.bias": "model.3.layers.1.c.bias",
        "layers.3.project.bn.running_mean": "model.3.layers.3.running_mean",
        "layers.14.merge.bn.weight": "model.14.cv2.bn.weight",
        "head.box.1.2.conv.weight": "model.35.cv2.1.2.conv.weight",
        "head.cls.2.3.conv.bias": "model.35.cv3.2.3.bias",
    }.items():
        assert np.array_equal(found.state[ours], raw[theirs]), ours


@pytest.mark.parametrize(
    ("size", "filename", "tensors"),
    [("n", "a.pt", 651), ("s", "b.pt", 651), ("m", "LeYOLOMedium.pt", 798), ("l", "LeYOLOLarge.pt", 798)],
)
@pytest.mark.parametrize("num_classes", [1, 20, 80])
def test_every_size(write_official: WriteOfficial, size: str, filename: str, tensors: int, num_classes: int) -> None:
    path = write_official(size, num_classes, filename=filename)
    found = weights.load(path)
    assert (found.size, found.num_classes) == (size, num_classes)
    assert found.names[num_classes - 1] == f"thing {num_classes - 1}"
    raw = official.read(path).state
    assert len(raw) == tensors
    stored = torch.load(path, weights_only=False)["model"].state_dict()
    assert list(raw) == list(stored)
    assert all(np.array_equal(raw[key], value.numpy()) for key, value in stored.items())


def test_class_branch_of_another_width(write_official: WriteOfficial) -> None:
    found = weights.load(write_official("n", 20, class_width=80))
    assert (found.num_classes, found.head_width) == (20, 80)


def test_averaged_weights_win(write_official: WriteOfficial) -> None:
    def scaled(model: nn.Module) -> nn.Module:
        for parameter in model.parameters():
            parameter.mul_(0)
        return model

    averaged = torch.load(write_official("n", 2), weights_only=False)["model"]
    found = weights.load(write_official("n", 2, model=scaled, ema=averaged))
    assert np.abs(found.state["layers.0.conv.weight"]).max() > 0


def test_float32_and_missing_names(write_official: WriteOfficial) -> None:
    def changed(model: Any) -> Any:
        del model.names
        return model.float()

    found = weights.load(write_official("n", 3, model=changed))
    assert found.names == {0: "class0", 1: "class1", 2: "class2"}
    assert {str(value.dtype) for value in found.state.values()} == {"float32"}


def test_views_are_read_right(write_official: WriteOfficial) -> None:
    def changed(model: Any) -> Any:
        module = model._modules["model"]._modules["1"]._modules["c"]
        module.weight = nn.Parameter(torch.randn(1, 1, 16, 16).half().permute(3, 2, 1, 0), requires_grad=False)
        return model

    path = write_official("n", 2, model=changed)
    stored = torch.load(path, weights_only=False)["model"].state_dict()["model.1.c.weight"]
    assert not stored.is_contiguous()
    assert np.array_equal(weights.load(path).state["layers.1.conv.weight"], stored.numpy())


class _Call:
    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.parts


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _attacks(mark: Path) -> dict[str, tuple[bytes, str]]:
    command = f"touch {mark}"
    nested = {"model": {"a": [1, {"b": (_Call(os.system, command),)}]}}
    stub = _global("ultralytics.nn.modules.conv", "Conv") + b")\x81"
    system = _global("os", "system")
    text = b"X" + struct.pack("<I", len(command)) + command.encode()
    state = b"}(X\x03\x00\x00\x00act"
    return {
        "system": (pickle.dumps(_Call(os.system, command), 2), "'posix.system'"),
        "eval": (pickle.dumps(_Call(builtins.eval, f"open({str(mark)!r}, 'w')"), 2), r"'__builtin__\.eval'"),
        "import": (pickle.dumps(_Call(importlib.import_module, "antigravity"), 2), r"'importlib.import_module'"),
        "nested": (pickle.dumps(nested, 2), "'posix.system'"),
        "newer protocol": (pickle.dumps(_Call(os.system, command), 4), "protocol 4"),
        "text opcodes": (b"c" + b"os\nsystem\n(S'" + command.encode() + b"'\ntR.", "'os.system'"),
        "in a state": (b"\x80\x02" + stub + state + system + text + b"\x85Rub.", "'os.system'"),
        "called class": (b"\x80\x02" + _global("torch", "HalfStorage") + text + b"\x85R.", "cannot be called"),
        "called value": (b"\x80\x02" + stub + text + b"\x85R.", "cannot be called"),
        "tensor of text": (
            b"\x80\x02" + _global("torch._utils", "_rebuild_tensor_v2") + text + b"K\x00))t\x87R.",
            "broken|storage",
        ),
        "dotted name": (
            b"\x80\x02" + _global("torch.nn.modules.conv", "Conv2d.__init__.__globals__") + b".",
            "refused",
        ),
        "state of a name": (b"\x80\x02" + _global("torch.nn.modules.conv", "Conv2d") + b"}b.", "setting a state"),
        "state not a dict": (b"\x80\x02" + stub + b"]b.", "a state that is a list"),
        "slots state": (b"\x80\x02" + stub + b"N}\x86b.", "a state that is a tuple"),
        "extension registry": (b"\x80\x02\x82\x01.", "EXT1"),
        "extension registry 4": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
        "inst": (b"\x80\x02(ios\nsystem\n.", "INST"),
        "obj": (b"\x80\x02(" + system + text + b"o.", "'os.system'"),
        "stack global": (b"\x80\x02\x8c\x02os\x8c\x06system\x93.", "SHORT_BINUNICODE"),
        "newobj_ex": (b"\x80\x02" + _global("torch", "device") + b")}\x92.", "NEWOBJ_EX"),
        "text persistent id": (b"\x80\x02Pevil\n.", "PERSID"),
        "persistent id of text": (b"\x80\x02" + text + b"Q.", "persistent id"),
        "persistent id elsewhere": (
            b"\x80\x02(X\x07\x00\x00\x00storage" + _global("torch", "HalfStorage") + b"X\x0c\x00\x00\x00../../passwd"
            b"X\x03\x00\x00\x00cpuK\x01tQ.",
            "key should be a number",
        ),
        "huge memo index": (b"\x80\x02Nr\xff\xff\xff\xff.", "expected a dict"),
        "huge text": (b"\x80\x02X\xff\xff\xff\xff.", "ends inside a value of 4294967295 bytes"),
        "nested key": (b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns.", "a tuple as a key"),
        "nested set": (
            b"\x80\x02" + _global("__builtin__", "set") + b"])" + b"\x85" * 200_000 + b"a\x85R.",
            "a set should be built",
        ),
        "deep nesting": (b"\x80\x02" + b")" + b"\x85" * 200_000 + b".", "expected a dict"),
        "no stop": (b"\x80\x02}", "without its stop"),
        "empty": (b"", "without its stop"),
        "lone stop": (b".", "broken"),
        "too long": (b"\x80\x02" + b"N0" * (5 << 20), "at most"),
    }


@pytest.mark.parametrize("name", list(_attacks(Path("x"))))
def test_attacks(nano: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "executed"
    data, expected = _attacks(mark)[name]
    path = with_members(nano, tmp_path / "evil.pt", data_pkl=data)
    start = time.thread_time()  # a busy machine takes longer
    with pytest.raises(WeightsError, match=expected):
        weights.load(path)
    assert time.thread_time() - start < 5
    assert not mark.exists()


def test_tricks_with_names_stay_data() -> None:
    """Attributes with special names are entries of a dict, never set on anything."""
    stub = b"cultralytics.nn.modules.conv\nConv\n)\x81"
    tricks = b"}(X\x09\x00\x00\x00__class__K\x01X\x0c\x00\x00\x00__setstate__K\x02ub."
    value = loads(b"\x80\x02" + stub + tricks, KNOWN, lambda _: None)
    assert type(value).__name__ == "Stub"
    assert value.state == {"__class__": 1, "__setstate__": 2}


def test_exactly_the_known_names() -> None:
    assert len(KNOWN) == 29


def test_a_module_that_holds_itself(write_official: WriteOfficial) -> None:
    def looped(model: Any) -> Any:
        model._modules["model"]._modules["0"]._modules["again"] = model
        return model

    with pytest.raises(WeightsError, match="holds itself"):
        weights.load(write_official("n", 1, model=looped))


def test_a_module_held_a_million_times(write_official: WriteOfficial) -> None:
    def doubled(model: Any) -> Any:
        kind = type(model._modules["model"])
        module = kind()
        for _ in range(40):
            parent = kind()
            parent._modules["a"] = parent._modules["b"] = module
            module = parent
        model._modules["more"] = module
        return model

    with pytest.raises(WeightsError, match="more than 20000"):
        weights.load(write_official("n", 1, model=doubled))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c.pop("weight"), r"1 of 651 tensors are missing: 'model\.1\.c\.weight'"),
        (lambda c: c.update(more=c["weight"]), r"not part of this model: 'model\.1\.c\.more'"),
        (
            lambda c: c.update(weight=nn.Parameter(torch.zeros(16, 8, 1, 1).half(), requires_grad=False)),
            r"'model\.1\.c\.weight' should have shape \[16, 16, 1, 1\], got \[16, 8, 1, 1\]",
        ),
        (
            lambda c: c.update(weight=nn.Parameter(torch.zeros(16, 16, 1, 1).long(), requires_grad=False)),
            r"'model\.1\.c\.weight' has the dtype int64",
        ),
        (
            lambda c: c.update(weight=nn.Parameter(torch.zeros(1).half().expand(16, 16, 1, 1), requires_grad=False)),
            r"does not fit into its storage of 1 values",
        ),
        (lambda c: c.update(weight="text"), r"model\.1\.c\.weight should be a tensor, got a str"),
    ],
)
def test_wrong_tensors(write_official: WriteOfficial, change: Any, expected: str) -> None:
    def changed(model: Any) -> Any:
        change(model._modules["model"]._modules["1"]._modules["c"]._parameters)
        return model

    with pytest.raises(WeightsError, match=expected):
        weights.load(write_official("n", 2, model=changed))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"stride": torch.tensor([8.0, 16.0, 64.0])}, r"should be \[8, 16, 32\], got \[8.0, 16.0, 64.0\]"),
        ({"stride": "8"}, "strides should be a tensor of 3"),
        ({"names": {0: "a"}}, "classes 0 to 1"),
        ({"names": {0: "a", "b": "b"}}, "classes 0 to 1"),
        ({"names": {0: "a", 1: 2}}, "should be text"),
        ({"_modules": None}, r"model\.0\.c\.weight' is missing"),
        ({"_parameters": []}, "should hold dicts"),
    ],
)
def test_wrong_attributes(write_official: WriteOfficial, attributes: dict[str, Any], expected: str) -> None:
    def changed(model: Any) -> Any:
        model.__dict__.update(attributes)
        return model

    with pytest.raises(WeightsError, match=expected):
        weights.load(write_official("n", 2, model=changed))


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ({"model": None}, "no model"),
        ({"state_dict": {}}, "no model"),
        ([1], "expected a dict"),
        ({"model": nn.SiLU()}, r"should be a ultralytics\.nn\.tasks\.DetectionModel, got a torch\.nn\.modules"),
    ],
)
def test_other_torch_files(tmp_path: Path, root: Any, expected: str) -> None:
    torch.save(root, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=expected):
        weights.load(tmp_path / "other.pt")


def test_damaged_archives(nano: Path, tmp_path: Path) -> None:
    target = tmp_path / "bad.pt"
    with pytest.raises(WeightsError, match="no member 'data/7'"):
        weights.load(with_members(nano, target, **{"data/7": None}))
    with pytest.raises(WeightsError, match=r"storage 7 should hold \d+ values of float16, its member has 5 bytes"):
        weights.load(with_members(nano, target, **{"data/7": b"12345"}))
    with pytest.raises(WeightsError, match=r"one member data\.pkl in the archive, found 0"):
        weights.load(with_members(nano, target, data_pkl=None))
    with pytest.raises(WeightsError, match="byte order should be little"):
        weights.load(with_members(nano, target, byteorder=b"big"))
    with zipfile.ZipFile(nano) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(WeightsError, match="is compressed"):
        weights.load(target)
    with zipfile.ZipFile(target, "w") as new:
        new.writestr("best/data.pkl", b".")
        with pytest.warns(UserWarning, match="Duplicate"):
            new.writestr("best/data.pkl", b".")
    with pytest.raises(WeightsError, match="two members"):
        weights.load(target)


def test_zip_bomb(nano: Path, tmp_path: Path) -> None:
    """A directory whose entries share one block claims more bytes than the file has."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("best/data.pkl", b".")
        archive.writestr("best/data/0", b"0" * 4096)
        first = archive.infolist()[1]
        for index in range(1, 50):
            twin = zipfile.ZipInfo(f"best/data/{index}")
            twin.header_offset, twin.CRC = first.header_offset, first.CRC
            twin.file_size = twin.compress_size = 4096
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    path = tmp_path / "bomb.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match=r"members claim \d+ bytes, but the file has"):
        weights.load(path)


def test_cut_anywhere(nano: Path, tmp_path: Path) -> None:
    data = nano.read_bytes()
    path = tmp_path / "cut.pt"
    for part in range(20):
        path.write_bytes(data[: len(data) * part // 20])
        with pytest.raises(WeightsError, match=r"cut\.pt: expected|cut\.pt: the archive"):
            weights.load(path)
    path.write_bytes(data[:-1])
    with pytest.raises(WeightsError):
        weights.load(path)


def test_flipped_bytes_in_the_file(nano: Path, tmp_path: Path) -> None:
    """The archive's own checksums catch every damaged value; nothing but WeightsError comes out."""
    data = nano.read_bytes()
    whole = weights.load(nano)
    path = tmp_path / "flipped.pt"
    random = np.random.default_rng(1)
    places = [*random.integers(0, len(data), 80), *(len(data) - 1 - random.integers(0, 60_000, 80))]
    refused = 0
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            found = weights.load(path)
        except WeightsError:
            refused += 1
        else:
            assert all(np.array_equal(found.state[name], value) for name, value in whole.state.items())
    assert refused > len(places) // 2


def test_flipped_bytes_in_the_pickle(nano: Path, nano_pickle: bytes, tmp_path: Path) -> None:
    """Past the archive's checksums: a clean refusal, or a model that is complete and of the right shapes."""
    path = tmp_path / "flipped.pt"
    archive = nano.read_bytes()
    begin = archive.index(nano_pickle)
    checksum = struct.pack("<I", zlib.crc32(nano_pickle))
    whole = weights.load(nano)
    shapes = {name: value.shape for name, value in whole.state.items()}
    random = np.random.default_rng(2)
    # Half of them in the first part, which has the model; the rest is the training log.
    places = [*random.integers(0, 20_000, 150), *random.integers(0, len(nano_pickle), 150)]
    refused: list[str] = []
    for place in places:
        damaged = bytearray(archive)
        damaged[begin + place] ^= 1 << int(random.integers(8))
        pickled = damaged[begin : begin + len(nano_pickle)]
        path.write_bytes(damaged.replace(checksum, struct.pack("<I", zlib.crc32(pickled))))
        start = time.thread_time()
        try:
            found = weights.load(path)
        except WeightsError as error:
            refused.append(str(error))
        else:
            assert {name: value.shape for name, value in found.state.items()} == shapes
        assert time.thread_time() - start < 5
    assert 50 < len(refused) < len(places) - 50
    assert not [message for message in refused if "Bad CRC" in message]


def test_random_pickles() -> None:
    random = np.random.default_rng(3)
    opcodes = b"hjqrRbcQ(N\x88\x89GKMJ\x8aX)]}t\x85\x86\x87aesu\x80.\x81"
    for _ in range(2000):
        body = bytes(random.choice(list(opcodes), 40)) + b"."
        try:
            loads(b"\x80\x02" + body, KNOWN, lambda value: value)
        except WeightsError:
            continue


@pytest.mark.parametrize("size", SIZES)
def test_sizes_agree_with_the_network(write_official: WriteOfficial, size: str) -> None:
    from leyolo.models.transfer import to_torch

    network = to_torch(weights.load(write_official(size, 5, filename="LeYOLOLarge.pt" if size == "l" else "x.pt")))
    assert network.config.size == size
