"""Every kind of source, in order, lazily, each problem with its own line."""

from __future__ import annotations

import io
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from leyolo.errors import InputError, LeYOLOError, MissingDependencyError, UsageError
from leyolo.predict import sources, video
from leyolo.predict.sources import Item, Options
from leyolo.predict.stdin import split_images

Picture = Callable[..., Path]


def listed(source: Any, **options: Any) -> list[Item]:
    return list(sources.items(source, Options(**options)))


def names_of(items: list[Item]) -> list[str]:
    return [Path(item.path).name for item in items]


def error_of(item: Item) -> str:
    with pytest.raises(LeYOLOError) as error:
        item.load()
    return str(error.value)


@pytest.mark.parametrize("kind", [str, Path])
def test_file(picture: Picture, kind: Callable[[Path], Any]) -> None:
    path = picture()
    (item,) = listed(kind(path))
    assert item.path == str(path)
    assert item.frame is None
    assert item.load().shape == (64, 96, 3)


def test_missing_file_is_a_failing_item(tmp_path: Path) -> None:
    (item,) = listed(tmp_path / "nope.jpg")
    assert error_of(item) == "no such file"


def test_directory_in_natural_order_without_other_files(picture: Picture, tmp_path: Path) -> None:
    for name in ("img10.png", "img2.jpg", "IMG1.PNG", "b.webp"):
        picture(name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.jpg").write_text("no picture")
    picture("deep/img3.png")
    assert names_of(listed(tmp_path)) == ["b.webp", "IMG1.PNG", "img2.jpg", "img10.png"]
    assert names_of(listed(tmp_path, recursive=True)) == ["b.webp", "img3.png", "IMG1.PNG", "img2.jpg", "img10.png"]


def test_directory_without_pictures_says_so(tmp_path: Path, picture: Picture) -> None:
    (item,) = listed(tmp_path)
    assert error_of(item) == "has no images or videos"
    picture("deep/a.png")
    (item,) = listed(tmp_path)
    assert "--recursive" in error_of(item)


def test_glob(picture: Picture, tmp_path: Path) -> None:
    for name in ("x2.png", "x10.png", "y1.png", "sub/x3.png"):
        picture(name)
    assert names_of(listed(str(tmp_path / "x*.png"))) == ["x2.png", "x10.png"]
    assert names_of(listed(str(tmp_path / "**" / "x*.png"))) == ["x3.png", "x2.png", "x10.png"]
    (item,) = listed(str(tmp_path / "z*.png"))
    assert error_of(item) == "no file matches this pattern"


def test_a_file_whose_name_looks_like_a_pattern(picture: Picture) -> None:
    (item,) = listed(str(picture("a[1].png")))
    assert item.load().shape == (64, 96, 3)


def test_text_list(picture: Picture, tmp_path: Path) -> None:
    a, b = picture("a.png"), picture("b.png")
    listing = tmp_path / "list.txt"
    listing.write_text(f"# pictures\n{a}\n\n  b.png  \nmissing.png\n")
    items = listed(listing)
    assert [i.path for i in items[:2]] == [str(a), str(b)]
    assert error_of(items[2]) == "no such file"


@pytest.mark.parametrize(
    "text", ["id,path\n1,a.png\n2,b.png\n", "a.png,cat\nb.png,dog\n", "\ufefffile_name\na.png\n\nb.png\n"]
)
def test_csv_list(picture: Picture, tmp_path: Path, text: str) -> None:
    picture("a.png"), picture("b.png")
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    assert names_of(listed(tmp_path / "list.csv")) == ["a.png", "b.png"]


def test_list_problems(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    assert error_of(listed(tmp_path / "empty.txt")[0]) == "the list names no images"
    (tmp_path / "binary.txt").write_bytes(b"\xff\xd8\xff\xfe")
    assert "not a text file" in error_of(listed(tmp_path / "binary.txt")[0])


def test_any_file_can_be_a_list(picture: Picture, tmp_path: Path) -> None:
    picture("a.png")
    (tmp_path / "images.lst").write_text("a.png\n")
    assert names_of(listed(tmp_path / "images.lst", as_list=True)) == ["a.png"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_url(picture: Picture, server: str, capfd: pytest.CaptureFixture[str]) -> None:
    picture("a.png")
    (item,) = listed(f"{server}/a.png?width=3")
    assert item.load().shape == (64, 96, 3)
    (item,) = listed(f"{server}/b.png")
    assert error_of(item).startswith("cannot be fetched (404 ")


def test_url_nobody_answers() -> None:
    (item,) = listed("http://127.0.0.1:9/a.png")
    assert error_of(item).startswith("cannot be fetched (")


def bright(shape: tuple[int, ...] = (4, 6, 3)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)


def test_numpy() -> None:
    rgb = bright()
    (item,) = listed(rgb)
    np.testing.assert_array_equal(item.load(), rgb)
    assert item.path == "image0"
    (item,) = listed(rgb, bgr=True)
    np.testing.assert_array_equal(item.load(), rgb[..., ::-1])
    (item,) = listed(rgb[..., 0])
    np.testing.assert_array_equal(item.load(), np.repeat(rgb[..., :1], 3, -1))
    (item,) = listed(rgb[::-1, ::2])
    assert item.load().flags.c_contiguous
    (item,) = listed(np.dstack([rgb, rgb[..., :1]]))
    np.testing.assert_array_equal(item.load(), rgb)
    (item,) = listed((rgb / 255).astype(np.float32))
    np.testing.assert_array_equal(item.load(), rgb)
    batch = np.stack([rgb, 255 - rgb])
    items = listed(batch)
    assert [i.path for i in items] == ["image0", "image1"]
    np.testing.assert_array_equal(items[1].load(), 255 - rgb)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 40, 50), np.uint8), "looks channels-first"),
        (np.zeros((40, 50, 5), np.uint8), "expected RGB"),
        (np.zeros(7, np.uint8), "expected RGB"),
        (np.zeros((0, 5, 3), np.uint8), "expected RGB"),
        (np.full((4, 4, 3), 200.0), "within 0..1, got 200..200"),
        (np.full((4, 4, 3), np.nan), "within 0..1"),
        (np.zeros((4, 4, 3), np.int64), "dtype int64"),
    ],
)
def test_numpy_that_is_no_picture(array: np.ndarray, message: str) -> None:
    (item,) = listed(array)
    assert message in error_of(item)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["CHW", "HWC", "BCHW"])
def test_tensors(dtype: torch.dtype, layout: str) -> None:
    rgb = torch.from_numpy(np.where(bright() % 2, 255, 0).astype(np.uint8))
    tensor = rgb if dtype == torch.uint8 else (rgb / 255).to(dtype)
    if layout != "HWC":
        tensor = tensor.permute(2, 0, 1)
    if layout == "BCHW":
        tensor = torch.stack([tensor, tensor])
    items = listed(tensor.requires_grad_() if dtype == torch.float32 else tensor)
    assert len(items) == (2 if layout == "BCHW" else 1)
    for item in items:
        np.testing.assert_array_equal(item.load(), rgb.numpy())


def test_pil(picture: Picture) -> None:
    image = Image.fromarray(bright())
    (item,) = listed(image)
    np.testing.assert_array_equal(item.load(), bright())
    path = picture()
    (item,) = listed(Image.open(path))
    assert item.path == str(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture("turned.jpg", exif=exif)
    assert listed(Image.open(turned))[0].load().shape == (64, 96, 3), "coordinates are those of the object given"
    assert listed(turned)[0].load().shape == (96, 64, 3)


def test_bytes(picture: Picture) -> None:
    data = picture().read_bytes()
    for kind in (bytes, bytearray, memoryview):
        (item,) = listed(kind(data))
        assert item.load().shape == (64, 96, 3)


def test_mixed_iterables_are_lazy(picture: Picture) -> None:
    path = picture()
    taken: list[int] = []

    def generate() -> Iterator[Any]:
        for number, each in enumerate([path, bright(), [Image.fromarray(bright()), str(path)], path.read_bytes()]):
            taken.append(number)
            yield each

    items = sources.items(generate(), Options())
    first = next(items)
    assert taken == [0]
    rest = list(items)
    assert [Path(i.path).name for i in (first, *rest)] == ["a.png", "image0", "image1", "a.png", "image2"]


@pytest.mark.parametrize("value", [3.5, object(), True])
def test_a_source_of_another_type(value: object) -> None:
    with pytest.raises(UsageError, match="expected a path, URL, camera"):
        [item.load() for item in listed(value)]


def pngs(count: int) -> list[bytes]:
    out = []
    for value in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (5, 4), (value, 0, 0)).save(buffer, "PNG")
        out.append(buffer.getvalue())
    return out


def jpegs(count: int) -> list[bytes]:
    out = []
    for value in range(count):
        thumbnail = io.BytesIO()
        Image.new("RGB", (8, 8)).save(thumbnail, "JPEG")
        exif = b"Exif\0\0" + thumbnail.getvalue()  # an end marker inside a segment
        buffer = io.BytesIO()
        pixels = np.random.default_rng(value).integers(0, 256, (33, 45, 3), np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", progressive=bool(value % 2), exif=exif, quality=100)
        out.append(buffer.getvalue())
    return out


@pytest.mark.parametrize("files", [pngs(3), jpegs(3), [*pngs(1), *jpegs(2), *pngs(1)]])
@pytest.mark.parametrize("between", [b"", b"\n", b"\0\0"])
def test_pictures_one_after_the_other_in_a_pipe(files: list[bytes], between: bytes) -> None:
    assert list(split_images(io.BytesIO(between.join(files)))) == files


def test_a_pipe_gives_each_picture_before_the_next_arrives() -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self.chunks = pngs(2)

        def read(self, size: int = -1) -> bytes:
            return self.chunks.pop(0) if self.chunks else b""

    stream = Slow()
    first = next(split_images(stream))  # type: ignore[arg-type]
    assert first == pngs(1)[0]
    assert len(stream.chunks) == 1


def test_other_formats_and_damage_in_a_pipe() -> None:
    assert list(split_images(io.BytesIO(b"BM-anything"))) == [b"BM-anything"]
    cut = jpegs(1)[0][:-40]
    assert list(split_images(io.BytesIO(cut))) == [cut]
    with pytest.raises(InputError, match="is empty"):
        list(split_images(io.BytesIO(b"")))


def test_stdin(monkeypatch: pytest.MonkeyPatch, picture: Picture) -> None:
    class Standard:
        def __init__(self, data: bytes) -> None:
            self.buffer = io.BytesIO(data)

        def fileno(self) -> int:
            raise OSError("no file behind it")

        def __iter__(self) -> Iterator[str]:
            return (line.decode() for line in self.buffer)

    monkeypatch.setattr(sys, "stdin", Standard(b"".join(pngs(2))))
    items = listed("-")
    assert [i.path for i in items] == ["stdin0", "stdin1"]
    assert items[1].load()[0, 0, 0] == 1
    path = picture()
    monkeypatch.setattr(sys, "stdin", Standard(f"{path}\n\nmissing.png\n".encode()))
    items = listed("-", as_list=True)
    assert items[0].path == str(path)
    assert error_of(items[1]) == "no such file"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    pytest.importorskip("av", reason="the extra [video] is not installed")
    path = tmp_path / "film.mp4"
    with video.VideoWriter(path, 10) as writer:
        for number in range(7):
            writer.write(np.full((48, 64, 3), 30 * number, np.uint8))
    return path


def test_video(film: Path) -> None:
    items = listed(film)
    assert [i.frame for i in items] == list(range(7))
    assert {i.path for i in items} == {str(film)}
    means = [float(i.load().mean()) for i in items]
    np.testing.assert_allclose(means, [30 * n for n in range(7)], atol=4)
    assert [i.frame for i in listed(film, vid_stride=3)] == [0, 3, 6]
    assert video.frame_rate(str(film)) == pytest.approx(10)


def test_video_problems(film: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no film")
    assert "cannot be opened as video" in error_of(listed(tmp_path / "bad.mp4")[0])
    assert error_of(listed(tmp_path / "none.mp4")[0]) == "no such file"
    assert "no camera 99" in error_of(listed("99")[0])
    assert "no camera 99" in error_of(listed(99)[0])
    with pytest.raises(UsageError, match="vid_stride must be a whole number of at least 1"):
        Options(vid_stride=0)


def test_video_without_pyav(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (item,) = listed(film)
    with pytest.raises(MissingDependencyError, match=r"pip install 'leyolo\[video\]'"):
        item.load()


def test_count_for_progress_bars(picture: Picture, tmp_path: Path) -> None:
    a = picture("a.png")
    picture("b.png")
    options = Options()
    assert sources.count(str(a), options) == 1
    assert sources.count(tmp_path, options) == 2
    assert sources.count([tmp_path, str(a), bright()], options) == 4
    assert sources.count("-", options) is None
    assert sources.count(tmp_path / "x.mp4", options) is None
    assert sources.count("0", options) is None


@pytest.mark.parametrize("width", [404, 1080])
def test_frames_with_padded_rows_are_contiguous(tmp_path: Path, width: int) -> None:
    pytest.importorskip("av", reason="the extra [video] is not installed")
    source = tmp_path / "film.mp4"
    with video.VideoWriter(source, 12) as film:
        for _ in range(3):
            film.write(np.full((64, width, 3), 90, np.uint8))
    items = listed(source)
    assert len(items) == 3
    for item in items:
        pixels = item.load()
        assert pixels.shape == (64, width, 3)
        assert pixels.flags.c_contiguous


@pytest.mark.parametrize("port", [80, "x y", ""])
def test_bad_names_are_failing_items(port: object, picture: Picture, tmp_path: Path) -> None:
    bad = ["a\0b.jpg", "a\0b", "~nobody-of-that-name/a.jpg", "x" * 300 + ".jpg", f"http://a b:{port}/\x01.jpg", "a*\0"]
    *failed, last = listed([*bad, picture()])
    assert len(failed) == len(bad)
    for item in failed:
        assert error_of(item)
        assert "Traceback" not in error_of(item)
    assert last.load().shape == (64, 96, 3)
    sources.count(bad, Options())  # asks the same names, and raises nothing
    (tmp_path / "list.txt").write_bytes(b"a\0b.jpg\n~nobody-of-that-name/x\na.png\n")
    assert len(listed(tmp_path / "list.txt")) == 3


def test_a_server_that_speaks_nonsense() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"nonsense\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        (item,) = listed(f"http://127.0.0.1:{listening.getsockname()[1]}/a.jpg")
        assert error_of(item).startswith("cannot be fetched (")


@pytest.mark.parametrize("as_list", [False, True])
def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch, as_list: bool) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    (item,) = listed("-", as_list=as_list)
    assert "there is none" in error_of(item)


def test_an_empty_source_is_wrong_usage(picture: Picture) -> None:
    with pytest.raises(UsageError, match="source is empty"):
        sources.items("", Options())
    first, last = listed(["", picture()])
    with pytest.raises(UsageError, match="source is empty"):
        first.load()
    assert last.load().shape == (64, 96, 3)


@pytest.mark.parametrize(
    "options", [{"vid_stride": "2"}, {"vid_stride": 1.5}, {"vid_stride": None}, {"recursive": "no"}, {"bgr": "False"}]
)
def test_options_of_a_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Options(**options)


def test_what_nobody_foresaw_is_one_failing_item(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: str, stride: int = 1) -> Iterator[Any]:
        yield 0, bright()
        raise RuntimeError("half way")

    monkeypatch.setattr(video, "frames", broken)
    first, failed, last = listed([0, picture()])
    assert first.load().shape == (4, 6, 3)
    assert error_of(failed) == "cannot be read (RuntimeError: half way)"
    assert last.load().shape == (64, 96, 3)
