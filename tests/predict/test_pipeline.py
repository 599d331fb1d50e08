"""Settings, batches, filters and the way back to picture pixels, on an engine whose answers are known."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leyolo.errors import InputError, LeYOLOError, UsageError
from leyolo.predict.pipeline import Pipeline, Settings, class_ids, image_size
from leyolo.predict.prefetch import prefetched
from leyolo.predict.results import Results
from leyolo.predict.run import collect, run
from leyolo.predict.sources import Item, Options

BOX = [0, 0, 48, 32]  # of the test picture in a square


def test_picture(pipeline: Pipeline, picture: Callable[..., Path]) -> None:
    from leyolo.predict.images import read_image

    (found,) = pipeline([read_image(picture())], Settings(imgsz=96))
    np.testing.assert_allclose(found.boxes, [BOX])
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.labels.dtype == np.int64
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-3.0)), rtol=1e-5)
    assert set(found.speed) == {"preprocess", "inference", "postprocess"}
    assert all(ms >= 0 for ms in found.speed.values())


def square(shape: tuple[int, int], at: int = 0) -> np.ndarray:
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[at : at + 32, at : at + 32] = 255
    return pixels


def test_rect_pads_only_to_the_stride(pipeline: Pipeline, engine: Any) -> None:
    pipeline([square((64, 96))], Settings(imgsz=96, rect=True))
    pipeline([square((64, 96))], Settings(imgsz=96))
    assert engine.batches == [(1, 64, 96, 3), (1, 96, 96, 3)]


def test_a_batch_of_equal_shapes_runs_at_once_and_of_unequal_ones_in_groups(pipeline: Pipeline, engine: Any) -> None:
    images = [square((64, 96)), square((96, 64)), square((64, 96), at=32)]
    settings = Settings(imgsz=96, rect=True, conf=0.5)
    found = pipeline(images, settings)
    assert engine.batches == [(2, 64, 96, 3), (1, 96, 64, 3)]
    for image, together in zip(images, found, strict=True):
        (alone,) = pipeline([image], settings)
        np.testing.assert_array_equal(together.boxes, alone.boxes)
    pipeline(images, Settings(imgsz=96))
    assert engine.batches[-1] == (3, 96, 96, 3)


def test_no_pictures(pipeline: Pipeline) -> None:
    assert pipeline([], Settings(imgsz=96)) == []


def test_nothing_found(pipeline: Pipeline) -> None:
    (found,) = pipeline([np.zeros((50, 70, 3), np.uint8)], Settings(imgsz=64))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)


def test_an_engine_may_take_bytes(pipeline: Pipeline, engine: Any) -> None:
    class Bytes:
        input_dtype = "uint8"

        def __call__(self, x: Any) -> Any:
            assert x.dtype == np.uint8
            return engine(x.astype(np.float32) / np.float32(255))

    images = [square((64, 96)), square((48, 96), at=10)]
    settings = Settings(imgsz=96, conf=0.5)
    for found, expected in zip(
        Pipeline(Bytes(), num_classes=3, strides=(32,))(images, settings), pipeline(images, settings), strict=True
    ):
        assert len(expected.boxes)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.scores, expected.scores)


class Scripted:
    """An engine that detects what it was told."""

    def __init__(self, boxes: Any, scores: Any, labels: Any) -> None:
        self.rows = (np.array([boxes], np.float32), np.array([scores], np.float32), np.array([labels], np.int64))

    def __call__(self, x: Any) -> Any:
        raise AssertionError("nobody asked for logits")

    def detect(self, x: Any, *, score_threshold: float, multi_label: bool) -> Any:
        return (*self.rows, np.array([self.rows[1].shape[1]]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 3]),
        ({"agnostic_nms": True}, [0, 3]),
        ({"classes": (1,)}, [1]),
        ({"classes": (0, 2)}, [0, 3]),
        ({"classes": (1, 2), "agnostic_nms": True}, [1, 3]),
        ({"max_det": 2}, [0, 1]),
        ({"conf": 0.75}, [0, 1]),
        ({"iou": 0.99}, [0, 1, 2, 3]),
    ],
)
def test_filters(options: dict[str, Any], expected: list[int]) -> None:
    boxes = [[10, 10, 50, 50], [10, 10, 50, 51], [10, 10, 51, 51], [60, 60, 90, 90]]
    scores, labels = [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 2]
    pipeline = Pipeline(Scripted(boxes, scores, labels), num_classes=3, strides=(32,))
    (found,) = pipeline([np.zeros((96, 96, 3), np.uint8)], Settings(imgsz=96, **options))
    np.testing.assert_allclose(found.scores, np.array(scores, np.float32)[expected])
    np.testing.assert_array_equal(found.labels, np.array(labels)[expected])
    np.testing.assert_allclose(found.boxes, np.array(boxes, np.float32)[expected], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conf": 1.5}, "conf must be within 0..1, got 1.5"),
        ({"iou": -0.1}, "iou must be within"),
        ({"max_det": 0}, "max_det must be a whole number of at least 1, got 0"),
        ({"conf": "high"}, "conf must be a number within 0..1, got 'high'"),
        ({"batch": 1.5}, "batch must be a whole number"),
        ({"batch": 0}, "batch must be a whole number of at least 1"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**options)


def test_image_size() -> None:
    assert image_size(640, 32) == 640
    assert image_size([480, 640], 32) == (480, 640)
    assert image_size((320, 320), 32) == 320
    with pytest.raises(UsageError, match=r"multiple of 32, got 650. The nearest: 640 or 672"):
        image_size(650, 32)
    with pytest.raises(UsageError, match=r"got 10\. The nearest: 32"):
        image_size(10, 32)
    with pytest.raises(UsageError, match="one number or"):
        image_size((1, 2, 3), 32)


def test_class_filter_by_id_or_name() -> None:
    names = {0: "person", 1: "traffic light", 2: "car"}
    assert class_ids(None, names) is None
    assert class_ids(2, names) == (2,)
    assert class_ids(["Car", 0, "0"], names) == (0, 2)
    assert class_ids("traffic light", names) == (1,)
    with pytest.raises(UsageError, match=r"no class 'persom'\. Did you mean 'person'"):
        class_ids(["persom"], names)
    with pytest.raises(UsageError, match=r"classes 0..2, got 3"):
        class_ids([3], names)


def results_of(pipeline: Pipeline, source: Any, names: dict[int, str], **options: Any) -> list[Results]:
    errors: list[tuple[str, LeYOLOError]] = []
    settings = Settings(imgsz=96, **options)
    found = collect(run(pipeline, names, source, settings, Options(), lambda path, e: errors.append((path, e))))
    assert errors == []
    return found


def test_results_keep_the_order_of_the_source(pipeline: Pipeline, names: dict[int, str], picture: Any) -> None:
    paths = [picture(f"{n}.png", size=(64, 64 + 8 * (n % 3))) for n in range(11)]
    for batch in (1, 3, 16):
        found = results_of(pipeline, [str(p) for p in paths], names, batch=batch, rect=True)
        assert [r.path for r in found] == [str(p) for p in paths]
        assert [r.orig_shape for r in found] == [(64, 64 + 8 * (n % 3)) for n in range(11)]
        assert all(set(r.speed) == {"decode", "preprocess", "inference", "postprocess"} for r in found)


def test_a_bad_picture_is_reported_and_the_rest_goes_on(
    pipeline: Pipeline, names: dict[int, str], picture: Any
) -> None:
    good = picture("a.png")
    bad = good.with_name("b.png")
    bad.write_bytes(b"")
    errors: list[str] = []
    source = [good, bad, good.with_name("c.png"), good]
    found = list(
        run(pipeline, names, source, Settings(imgsz=96, batch=2), Options(), lambda p, e: errors.append(f"{p}: {e}"))
    )
    assert [r.path for r in found] == [str(good)] * 2
    assert errors == [f"{bad}: is empty (0 bytes)", f"{good.with_name('c.png')}: no such file"]


def test_threads_share_a_pipeline(pipeline: Pipeline, names: dict[int, str]) -> None:
    images = [square((64 + 4 * n, 96), at=n) for n in range(8)]
    alone = [results_of(pipeline, image, names)[0].boxes.data for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: results_of(pipeline, images[n % 8], names)[0].boxes.data, range(64)))
    for n, data in enumerate(together):
        np.testing.assert_array_equal(data, alone[n % 8])


def items_of(count: int, loaded: list[int]) -> Iterator[Item]:
    def load(number: int) -> np.ndarray:
        loaded.append(number)
        return np.zeros((1, 1, 3), np.uint8)

    for n in range(count):
        yield Item(str(n), lambda n=n: load(n))  # type: ignore[misc]


def test_prefetching_is_bounded_and_ends() -> None:
    loaded: list[int] = []
    before = threading.active_count()
    stream = prefetched(items_of(1000, loaded), depth=2)
    for _ in range(3):
        next(stream)
    assert max(loaded) <= 6
    stream.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == "leyolo-decode":
            thread.join(2)
    assert threading.active_count() == before
    assert len(loaded) <= 7


def test_prefetching_passes_on_what_goes_wrong() -> None:
    def broken() -> Iterator[Item]:
        yield from items_of(1, [])
        raise RuntimeError("source broke")

    stream = prefetched(broken(), depth=2)
    assert next(stream).item.path == "0"
    with pytest.raises(RuntimeError, match="source broke"):
        next(stream)


def test_a_generator_runs_in_step_on_the_callers_thread(pipeline: Pipeline, names: dict[int, str]) -> None:
    taken: list[int] = []

    def source() -> Iterator[np.ndarray]:
        for n in range(5):
            assert threading.current_thread() is threading.main_thread()
            taken.append(n)
            yield square((64, 96))

    def fail(path: str, error: LeYOLOError) -> None:
        raise error

    stream = run(pipeline, names, source(), Settings(imgsz=96), Options(), fail)
    next(stream)
    assert taken == [0]


def test_a_long_list_lets_pictures_go(
    pipeline: Pipeline, names: dict[int, str], picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leyolo.predict.run._KEPT_BYTES", 64 * 96 * 3)
    path = picture()
    first, second, third = results_of(pipeline, [path, path, square((64, 96))], names)
    assert first._image is not None
    assert second._image is None
    np.testing.assert_array_equal(second.orig_img, first.orig_img)
    with pytest.raises(InputError, match="stream=True"):
        _ = third.orig_img


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_det": 100_001}, "max_det must be at most 100000"),
        ({"batch": 4097}, "batch must be at most 4096"),
        ({"batch": True}, "batch must be a whole number"),
        ({"rect": "False"}, "rect must be True or False, got 'False'"),
        ({"agnostic_nms": "no"}, "agnostic_nms must be True or False"),
        ({"multi_label": None}, "multi_label must be True or False"),
        ({"fast_decode": "yes"}, "fast_decode must be True or False"),
    ],
)
def test_bounds_and_flags(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**options)
    Settings(rect=np.True_, multi_label=1, batch=np.int64(2), max_det=100_000)  # type: ignore[arg-type]


def test_image_sizes_of_other_types() -> None:
    for value in (np.int64(64), "64", np.array([64, 64]), np.array(64), 64.0, (n for n in (64, 64))):
        assert image_size(value, 32) == 64
    for wrong in (None, "abc", np.array([64.5]), [64, None], True, [], np.zeros((2, 2)), float("nan"), "²", 1e400):
        with pytest.raises(UsageError, match="imgsz must be one number or"):
            image_size(wrong, 32)
    assert image_size(8192, 32) == 8192
    with pytest.raises(UsageError, match="imgsz must be at most 8192"):
        image_size((64, 8224), 32)


def test_classes_of_other_types() -> None:
    names = {0: "person", 1: "bus", 2: "cat, grey"}
    for value in (np.int64(1), "bus", [np.int32(1)], np.array([1]), 1.0, " 1 "):
        assert class_ids(value, names) == (1,)
    assert class_ids("person,bus", names) == class_ids(["person, 1"], names) == (0, 1)
    assert class_ids("Cat, grey", names) == (2,)
    for wrong in (5.5, [None], True, "²", "--1", "9" * 5000, object()):
        with pytest.raises(UsageError, match="classes"):
            class_ids(wrong, names)  # type: ignore[arg-type]


def test_only_pictures_that_were_files_are_read_again(
    pipeline: Pipeline, names: dict[int, str], picture: Callable[..., Path]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture("turned.jpg", exif=exif)
    from_path, from_pil = results_of(pipeline, [path, Image.open(path)], names)
    for result in (from_path, from_pil):
        result.drop_image()
    assert from_path.orig_img.shape == (*from_path.orig_shape, 3) == (96, 64, 3)
    assert from_pil.path == str(path)
    with pytest.raises(InputError, match="the picture was not kept"):
        _ = from_pil.orig_img


def test_a_picture_that_the_network_refuses_is_reported_and_the_rest_of_its_batch_goes_on(
    engine: Any, names: dict[int, str], picture: Callable[..., Path]
) -> None:
    bad = square((64, 96))
    bad[-1] = 77

    class Refusing(Pipeline):
        def __call__(self, images: Any, settings: Settings) -> Any:
            if any((image[-1] == 77).all() for image in images):
                raise ValueError("letterbox: refused")
            return super().__call__(images, settings)

    errors: list[tuple[str, str]] = []
    found = run(
        Refusing(engine, num_classes=3, strides=(32,)),
        names,
        [picture("a.png"), bad, picture("b.png")],
        Settings(imgsz=96, batch=3),
        Options(),
        lambda path, error: errors.append((path, str(error))),
    )
    assert [Path(result.path).name for result in found] == ["a.png", "b.png"]
    assert errors == [("image0", "cannot be read (ValueError: letterbox: refused)")]


def test_fast_decode_gives_boxes_and_pictures_of_the_whole(
    pipeline: Pipeline, engine: Any, names: dict[int, str], picture: Callable[..., Path]
) -> None:
    path = picture("a.jpg", size=(64, 96), quality=100)
    big = path.with_name("big.jpg")
    Image.open(path).resize((390, 258), Image.Resampling.NEAREST).save(big, quality=100)
    sources = [big, big.read_bytes(), path, np.asarray(Image.open(big))]
    settings = Settings(imgsz=96, fast_decode=True)
    errors: list[str] = []
    found = collect(run(pipeline, names, sources, settings, Options(), lambda path, error: errors.append(str(error))))
    assert not errors
    assert [r.orig_shape for r in found] == [(258, 390), (258, 390), (64, 96), (258, 390)]
    assert [r.kept_bytes for r in found] == [0, 0, 64 * 96 * 3, 258 * 390 * 3]
    for result in found:
        np.testing.assert_allclose(result.boxes.xyxyn, found[2].boxes.xyxyn, atol=0.01)
        assert result.orig_img.shape == (*result.orig_shape, 3)
    for result in (found[0], found[1], pickle.loads(pickle.dumps(found[1]))):
        np.testing.assert_array_equal(result.orig_img, found[3].orig_img)
    assert found[0].plot().shape == (258, 390, 3)
    big.unlink()
    with pytest.raises(InputError, match="the picture was not kept"):
        _ = found[0].orig_img


def test_fast_decode_reports_what_cannot_be_read(pipeline: Pipeline, names: dict[int, str], tmp_path: Path) -> None:
    errors: list[str] = []
    sources = [tmp_path / "none.jpg", b"\xff\xd8nothing"]
    settings = Settings(imgsz=96, fast_decode=True)
    assert not list(run(pipeline, names, sources, settings, Options(), lambda _, error: errors.append(str(error))))
    assert errors[0] == "no such file"
    assert "not an image" in errors[1] or "damaged" in errors[1]
