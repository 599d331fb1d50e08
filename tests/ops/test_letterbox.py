from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import leyolo._C as C
from cases import FLOATS, compiled_equals_eager, opcheck
from leyolo import geometry
from leyolo.ops import letterbox
from leyolo.ops.letterbox import letterbox_reference

DTYPES = (*FLOATS, torch.uint8)

# image height, width, input height, width: down, up, exact halves and doubles, the same size, single pixels and lines.
SIZES = [
    (108, 81, 64, 64),
    (33, 18, 134, 96),
    (128, 64, 64, 32),
    (64, 32, 128, 64),
    (40, 40, 40, 40),
    (1, 1, 64, 64),
    (1, 500, 64, 64),
    (500, 1, 64, 64),
    (2, 3, 96, 32),
    (640, 37, 32, 32),
    (7, 7, 3, 3),
    (97, 101, 1, 1),
    (5, 4, 640, 480),
    (3, 900, 31, 450),
]


def picture(*shape: int) -> np.ndarray:
    return np.random.randint(0, 256, (*shape, 3), np.uint8)


def expected(image: np.ndarray, size: Any, *, value: int = 114, swap_rb: bool = False, **options: Any) -> np.ndarray:
    """uint8 [h, w, 3] with cv2."""
    box = geometry.letterbox(*image.shape[:2], size, **options)
    if image.shape[:2] != (box.resized_height, box.resized_width):
        image = cv2.resize(image, (box.resized_width, box.resized_height), interpolation=cv2.INTER_LINEAR)
    out = np.full((box.height, box.width, 3), value, np.uint8)
    area = out[box.top : box.top + box.resized_height, box.left : box.left + box.resized_width]
    area[:] = image[..., ::-1] if swap_rb else image
    return out


def unit(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rect", [False, True])
@pytest.mark.parametrize("swap_rb", [False, True])
def test_pixels_are_those_of_opencv(size: tuple[int, ...], rect: bool, swap_rb: bool) -> None:
    image = picture(*size[:2])
    x, scale, offset = C.letterbox(image, size[2:], rect=rect, swap_rb=swap_rb)
    box = geometry.letterbox(*size[:2], size[2:], rect=rect)
    assert (scale, offset) == (box.scale, (box.left, box.top))
    pixels = expected(image, size[2:], rect=rect, swap_rb=swap_rb)
    assert np.array_equal(x[0], unit(pixels))
    assert np.array_equal(C.letterbox(image, size[2:], rect=rect, swap_rb=swap_rb, dtype="uint8")[0][0], pixels)


def test_random_sizes() -> None:
    for i in range(400):
        height, width, *size = (int(v) for v in np.exp(np.random.uniform(0, 6, 4)))
        if i % 8 == 0:
            height, width = 2 * size[0], 2 * size[1]
        image = picture(height, width)
        if i % 3 == 0:
            image[:] = np.where(image > 127, 255, 0)
        options = {"rect": i % 2 == 0, "scale_up": i % 5 != 0, "stride": 32 if i % 7 else 10, "value": i % 256}
        x, scale, offset = C.letterbox(image, size, **options)
        reference = expected(image, size, **options)
        assert np.array_equal(x[0], unit(reference)), (image.shape, size, options)
        assert np.array_equal(C.letterbox(image, size, dtype="uint8", **options)[0][0], reference)
        options.pop("value")
        box = geometry.letterbox(height, width, size, **options)
        assert (scale, offset) == (box.scale, (box.left, box.top))


@pytest.mark.parametrize("size", [320, 640])
def test_golden(size: int, shared: Path) -> None:
    golden = np.load(shared / "golden" / "leyolo" / f"bus_{size}.npz")["input_u8"]
    image = np.asarray(Image.open(shared / "data" / "images" / "bus.jpg").convert("RGB"))
    assert np.array_equal(C.letterbox(image, size)[0][0].transpose(2, 0, 1), unit(golden))
    x, _, _ = letterbox(torch.from_numpy(image.copy()), size)
    assert torch.equal(x[0], torch.from_numpy(golden).float() / 255)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_values(size: tuple[int, ...], dtype: torch.dtype) -> None:
    batch = torch.from_numpy(np.stack([picture(*size[:2]) for _ in range(3)]))
    for options in ({}, {"rect": True, "swap_rb": True, "value": 7}, {"scale_up": False}):
        ours, reference = (f(batch, size[2:], dtype=dtype, **options) for f in (letterbox, letterbox_reference))
        assert ours[1:] == reference[1:]
        assert ours[0].dtype == dtype
        assert ours[0].is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(ours[0], reference[0])


def test_every_byte_is_divided_exactly() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3)
    assert np.array_equal(C.letterbox(image, (1, 256))[0][0], unit(image))


def test_exact_halves_of_every_width() -> None:
    for width in (*range(1, 40), 321):
        image = picture(6, 2 * width)
        for swap_rb in (False, True):
            x, _, _ = C.letterbox(image, (3, width), swap_rb=swap_rb)
            assert np.array_equal(x[0], unit(expected(image, (3, width), swap_rb=swap_rb)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_a_slice_of_a_batch_is_all_that_is_written(dtype: str) -> None:
    """Every way of making pixels, at widths that leave every rest of a vector; the slice's neighbours stay."""
    for width in range(1, 20):
        for source in ((5, width + 7), (2 * 4, 2 * width), (4, width)):
            image = picture(*source)
            batch = np.full((3, 4, width, 3), 77, dtype)
            x, _, _ = C.letterbox(image, (4, width), dtype=dtype, out=batch[1:2])
            assert np.shares_memory(x, batch)
            pixels = expected(image, (4, width))
            assert np.array_equal(batch[1], pixels if dtype == "uint8" else unit(pixels).astype(dtype))
            assert (batch[::2] == 77).all()


def test_numpy_and_torch_give_the_same_bits() -> None:
    image = picture(123, 77)
    for name in ("float32", "float16", "uint8"):
        x, scale, offset = C.letterbox(image, (96, 160), rect=True, dtype=name)
        y, *rest = letterbox(torch.from_numpy(image), (96, 160), rect=True, dtype=getattr(torch, name))
        assert x.dtype == np.dtype(name)
        assert np.array_equal(x, y.permute(0, 2, 3, 1).numpy())
        assert [scale, offset] == rest


def test_batches_and_out() -> None:
    batch = picture(5, 40, 30)
    out = np.empty((5, 64, 64, 3), np.float32)
    x, _, _ = C.letterbox(batch, 64, out=out)
    assert x is out
    for image, row in zip(batch, out, strict=True):
        assert np.array_equal(C.letterbox(image, 64)[0][0], row)
    assert C.letterbox(batch[:0], 64)[0].shape == (0, 64, 64, 3)
    assert letterbox(torch.from_numpy(batch[:0]), 64)[0].shape == (0, 3, 64, 64)


PROGRAM = """
import hashlib, numpy as np, leyolo._C as C
rng = np.random.RandomState(3)
digest = hashlib.sha256()
for shape in ((108, 81), (30, 41), (128, 64), (64, 40), (1, 300)):
    image = rng.randint(0, 256, (2, *shape, 3)).astype(np.uint8)
    for dtype in ("float32", "float16", "uint8"):
        for swap_rb in (False, True):
            digest.update(C.letterbox(image, 64, dtype=dtype, swap_rb=swap_rb)[0].tobytes())
print(C.cpu_features()["isa"], digest.hexdigest())
"""


def test_every_instruction_set_gives_the_same_bits() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "LEYOLO_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for isa in C.build_info()["isas"]
    }
    assert len({line.split()[1] for line in outputs}) == 1


def test_any_number_of_threads_gives_the_same_bits() -> None:
    image = picture(3, 301, 203)
    threads = C.num_threads()
    results = []
    try:
        for n in (1, 3):
            C.set_num_threads(n)
            results.append(C.letterbox(image, 128)[0])
    finally:
        C.set_num_threads(threads)
    assert np.array_equal(*results)


def test_registration() -> None:
    image = torch.from_numpy(picture(2, 30, 20))
    for dtype in DTYPES:
        opcheck(torch.ops.leyolo.letterbox, image, [64, 64], [64, 43], [0, 10], 114, True, dtype)
    compiled_equals_eager(lambda x: letterbox(x, 64, rect=True)[0], image)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, r"image must be uint8 \[H, W, 3\] or \[B, H, W, 3\]"),
        ({"image": np.zeros((4, 4, 4), np.uint8)}, r"image must be uint8 \[H, W, 3\] or \[B, H, W, 3\]"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, r"image must be uint8 \[H, W, 3\] or \[B, H, W, 3\]"),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, "must be positive, got image 0 x 4"),
        ({"size": 0}, "must be positive, got image 4 x 4, size 0 x 0"),
        ({"size": (32, -1)}, "must be positive"),
        ({"stride": 0}, "must be positive"),
        ({"value": 256}, "value must be 0 to 255, got 256"),
    ],
)
def test_rejects(change: dict[str, Any], text: str) -> None:
    arguments: dict[str, Any] = {"image": np.zeros((4, 4, 3), np.uint8), "size": 32, **change}
    image, size = arguments.pop("image"), arguments.pop("size")
    with pytest.raises(ValueError, match="letterbox: .*" + text):
        C.letterbox(image, size, **arguments)
    with pytest.raises((ValueError, RuntimeError), match="letterbox: .*" + text):
        letterbox(torch.from_numpy(image), size, **arguments)


def test_rejects_dtypes() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="dtype must be float32, float16 or uint8, got 'int8'"):
        C.letterbox(image, 32, dtype="int8")
    with pytest.raises((ValueError, RuntimeError), match="out must be float32, float16, bfloat16 or uint8"):
        letterbox(torch.from_numpy(image), 32, dtype=torch.float64)
    with pytest.raises(ValueError, match="out must be writeable float32"):
        C.letterbox(image, 32, out=np.zeros((1, 32, 31, 3), np.float32))
    with pytest.raises(ValueError, match="image must be C-contiguous"):
        C.letterbox(np.zeros((4, 8, 3), np.uint8)[:, ::2], 32)
    image = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="image and out must not share memory"):
        C.letterbox(image, 32, dtype="uint8", out=image)


def test_the_operator_itself_refuses_wild_geometry() -> None:
    image = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    for size, resized, offset in (
        ([4, 4], [1, 1], [0, 2**63 - 1]),
        ([4, 4], [5, 4], [0, 0]),
        ([2**40, 4], [1, 1], [0, 0]),
    ):
        with pytest.raises((ValueError, RuntimeError), match=r"does not fit into|sides must be"):
            torch.ops.leyolo.letterbox(image, size, resized, offset, 114, False, torch.float32)
