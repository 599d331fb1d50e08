"""Result files: read back, complete or absent, never two in one place."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leyolo.errors import InputError, UsageError
from leyolo.predict import writers
from leyolo.predict.results import Results
from leyolo.weights.native import replacing

ROWS = [[10, 20, 50, 80, 0.9, 0], [100.5, 30.25, 160, 120, 0.75, 16]]
Make = Callable[..., Results]


def test_json_lines(results: Make) -> None:
    stream = io.StringIO()
    writer = writers.JsonLines(stream)
    for rows in (ROWS, []):
        writer.write(results(rows), "a")
    writer.close()
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["path"] == "dir/a.jpg"
    assert (first["width"], first["height"]) == (160, 120)
    assert first["detections"] == results(ROWS).summary()
    assert second["detections"] == []
    assert "frame" not in first
    assert set(first["speed"]) == {"preprocess", "inference", "postprocess"}


def test_csv(results: Make) -> None:
    stream = io.StringIO()
    writer = writers.Csv(stream)
    writer.write(results(ROWS, path='odd, "name".jpg'), "a")
    writer.write(results([]), "b")
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert [r["name"] for r in rows] == ["person", "dog"]
    assert rows[0]["path"] == 'odd, "name".jpg'
    assert float(rows[1]["x1"]) == 100.5


@pytest.mark.parametrize("pictures", [[], [[]], [ROWS, [], ROWS]])
def test_coco(results: Make, pictures: list[list[list[float]]]) -> None:
    stream = io.StringIO()
    writer = writers.Coco(stream)
    for number, rows in enumerate(pictures):
        writer.write(results(rows, path=f"{number}.jpg"), "")
    writer.close()
    loaded = json.loads(stream.getvalue())
    assert [r["image_id"] for r in loaded] == [n for n, rows in enumerate(pictures) for _ in rows]


def test_a_file_appears_when_it_is_complete(results: Make, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.jsonl"
    writer = writers.ToFile(writers.JsonLines, path)
    writer.write(results(ROWS), "a")
    assert not path.exists()
    writer.close()
    assert len(path.read_text().splitlines()) == 1
    assert [p.name for p in path.parent.iterdir()] == ["out.jsonl"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    writers.write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        writers.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_links_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to("real/a.txt")
    for text in ("new", "newer"):  # a link to nothing yet, and to a file
        writers.write_text(tmp_path / "link.txt", text)
        assert (tmp_path / "link.txt").is_symlink()
        assert (tmp_path / "real" / "a.txt").read_text() == text
    assert len(list((tmp_path / "real").iterdir())) == 1


def test_a_pipe_is_written_directly(results: Make, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as other:
        text = other.submit(path.read_text)
        writer = writers.ToFile(writers.JsonLines, path)
        writer.write(results(ROWS), "a")
        writer.close()
        assert json.loads(text.result(10))["detections"] == results(ROWS).summary()
    (tmp_path / "p.png").symlink_to("pipe")
    with ThreadPoolExecutor(1) as other:
        data = other.submit(path.read_bytes)
        writers.write_picture(tmp_path / "p.png", np.zeros((4, 5, 3), np.uint8))
        assert data.result(10).startswith(b"\x89PNG")
    assert path.is_fifo()


def test_stems_are_never_shared() -> None:
    names = writers.Names()
    paths = ["a/1.jpg", "b/1.jpg", "b/1-2.png", "c/1.JPG", "https://x.org/dir/cat.jpg?size=3", "stdin0", "C/CAT.png"]
    assert [names.stem(p) for p in paths] == ["1", "1-2", "1-2-2", "1-3", "cat", "stdin0", "CAT-2"]
    assert [names.stem("v/film.mp4", n) for n in range(3)] == ["film"] * 3
    assert names.stem("w/film.mp4", 0) == "film-2"
    assert names.stem("rtsp://host:554/stream", 0) == "stream"


def test_annotated_pictures_keep_their_format(results: Make, tmp_path: Path) -> None:
    writer = writers.Pictures(tmp_path)
    for path in ("a.png", "b.JPG", "c.webp", "d.gif", "http://x/e.bmp?q"):
        writer.write(results(ROWS, path=path), Path(path.split("?")[0]).stem)
    writer.close()
    found = {p.name: Image.open(p).format for p in tmp_path.iterdir()}
    assert found == {"a.png": "PNG", "b.JPG": "JPEG", "c.webp": "WEBP", "d.jpg": "JPEG", "e.bmp": "BMP"}
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), results(ROWS).plot())


def test_pictures_too_large_for_their_format_become_png(results: Make, tmp_path: Path) -> None:
    writer = writers.Pictures(tmp_path)
    writer.write(results([], size=(4, 66000), path="wide.jpg"), "wide")
    writer.write(results([], size=(4, 17000), path="long.webp"), "long")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.png", "wide.png"]
    with pytest.raises(InputError, match="too large for JPEG; save it as PNG"):
        writers.write_picture(tmp_path / "x.jpg", np.zeros((1, 66000, 3), np.uint8))
    with pytest.raises(UsageError, match="not a picture format"):
        writers.write_picture(tmp_path / "x.doc", np.zeros((1, 1, 3), np.uint8))


def test_text_and_crops_of_frames(results: Make, tmp_path: Path) -> None:
    frame = results(ROWS, path="film.mp4")
    frame.frame = 12
    text, crops = writers.YoloText(tmp_path / "labels", save_conf=True), writers.Crops(tmp_path / "crops")
    for writer in (text, crops):
        writer.write(frame, "film")
        writer.close()
    assert (tmp_path / "labels" / "film_12.txt").read_text().startswith("0 ")
    assert (tmp_path / "crops" / "dog" / "film_12-1.jpg").exists()


def test_class_names_make_safe_folders() -> None:
    assert writers.safe_name("a/b\\c:d") == "a_b_c_d"
    assert writers.safe_name("..") == "_"
    assert writers.safe_name("行人") == "行人"


def test_annotated_video(results: Make, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra [video] is not installed")
    from leyolo.predict.video import VideoWriter, frames

    source = tmp_path / "film.mp4"
    with VideoWriter(source, 12) as film:
        for _ in range(6):
            film.write(np.full((120, 160, 3), 90, np.uint8))
    writer = writers.Pictures(tmp_path / "out", vid_stride=2)
    for number in (0, 2, 4):
        result = results(ROWS, path=str(source))
        result.frame = number
        writer.write(result, "film")
    writer.close()
    written = list(frames(str(tmp_path / "out" / "film.mp4")))
    assert len(written) == 3
    assert np.abs(written[1][1].astype(int) - results(ROWS).plot()).mean() < 8


def test_coco_ids_are_those_of_one_picture(results: Make) -> None:
    pictures = [("a/1.jpg", None), ("b/1.jpg", None), ("b/1-2.jpg", None), ("cat.jpg", None), ("x/cat.png", None)]
    pictures += [("film.mp4", 0), ("film.mp4", 1), ("film_1.jpg", None), ("film.mp4", 0), ("1.jpg", None)]
    stream, names = io.StringIO(), writers.Names()
    writer = writers.Coco(stream)
    for path, frame in pictures:
        result = results(ROWS[:1], path=path)
        result.frame = frame
        writer.write(result, names.stem(path, frame))
    writer.close()
    ids = [row["image_id"] for row in json.loads(stream.getvalue())]
    assert ids[:7] == [1, "1-2", "1-2-2", "cat", "cat-2", "film_0", "film_1"]
    assert len(set(ids)) == len(pictures)


def test_stems_of_pictures_and_frames_are_never_shared() -> None:
    names = writers.Names()
    assert names.stem("film.mp4", 0) == "film"
    assert names.stem("Film_0.jpg") == "Film_0-2"
    assert names.stem("clip_7.jpg") == "clip_7"
    assert names.stem("clip.mp4", 0) == "clip-2"
    assert names.stem("clip.mp4", 5) == "clip-2"
    assert names.stem("clip.mp4", 0) == "clip-3", "the same film a second time"


def test_default_names_carry_the_frame(results: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = results(ROWS[:1], path="v/film.mp4")
    frame.frame = 12
    assert frame.save() == "film_12_leyolo.jpg"
    assert frame.save_crop(tmp_path) == [str(tmp_path / "person" / "film_12-0.jpg")]
    assert frame.to_coco()[0]["image_id"] == "film_12"


def test_stems_keep_what_a_file_name_may_have() -> None:
    names = writers.Names()
    for name in ("a+b", "what?", "50% #1", "行人 (2)", "a&b=c,d;e'f"):
        assert names.stem(f"dir/{name}.jpg") == name
    assert names.stem("https://x.org/a/cat.jpg?v=1#top") == "cat"
    assert names.stem("a\nb\x1b[31m.jpg") == "a_b_[31m"


def test_long_stems_are_cut(results: Make, tmp_path: Path) -> None:
    names = writers.Names()
    stems = [names.stem(f"{letter * 240}.jpg") for letter in ("x", "x")] + [names.stem("行" * 83 + ".jpg")]
    assert len(set(stems)) == 3
    assert max(len(s.encode()) for s in stems) <= 202
    for stem in stems:
        writers.YoloText(tmp_path, save_conf=False).write(results(ROWS), stem)
        writers.Crops(tmp_path).write(results(ROWS), stem)
        writers.Pictures(tmp_path).write(results(ROWS), stem)
    assert len(list(tmp_path.rglob("*.txt"))) == 3
