"""Fetching official weights: once, resumed, checked, put in place whole; on this machine's own server."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from leyolo.weights import WeightsError, fetch

DATA = np.random.default_rng(0).bytes(700_000)
NAME = "LeYOLONano.pt"


@dataclass
class Server:
    """What the next answers look like, and what was asked."""

    url: str = ""
    data: bytes = DATA
    ranges: bool = True
    stop_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirect: str = ""
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            status = state.statuses.pop(0) if state.statuses else 200
            if state.redirect:
                self.send_response(302)
                self.send_header("Location", state.redirect)
                self.end_headers()
                return
            if status != 200:
                self.send_error(status)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            body = state.data[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.data) - 1}/{len(state.data)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.stop_after.pop(0)] if state.stop_after else body)

        def log_message(self, *_: object) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}/weights/"
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LEYOLO_HOME", str(folder))
    monkeypatch.delenv("LEYOLO_OFFLINE", raising=False)
    published = fetch.Published(NAME, hashlib.sha256(DATA).hexdigest(), len(DATA))
    monkeypatch.setitem(fetch.PUBLISHED, "n", published)
    return folder


def _get(server: Server, name: str = "leyolo-n", **options: object) -> Path:
    return fetch.resolve(name, base_url=server.url, pause=0.01, **options)  # type: ignore[arg-type]


def test_fetched_once(server: Server, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = _get(server, progress=lambda done, total: seen.append((done, total)))
    assert path == cache / NAME
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert _get(server, "LeYOLO_Nano") == path
    assert server.asked == [None]
    assert list(cache.iterdir()) == [path]


def test_interrupted_download_goes_on(server: Server, cache: Path) -> None:
    server.stop_after = [100_000, 200_000]
    assert _get(server).read_bytes() == DATA
    assert server.asked == [None, "bytes=100000-", "bytes=300000-"]
    assert [p.name for p in cache.iterdir()] == [NAME]


def test_goes_on_where_another_run_stopped(server: Server, cache: Path) -> None:
    server.stop_after = [50_000, 0, 0, 0]
    with pytest.raises(WeightsError, match=r"connection was lost after 50000 of 700000 bytes.*--model FILE"):
        _get(server)
    assert (cache / f"{NAME}.part").stat().st_size == 50_000
    server.asked.clear()
    assert _get(server).read_bytes() == DATA
    assert server.asked == ["bytes=50000-"]


def test_server_without_ranges(server: Server) -> None:
    server.ranges = False
    server.stop_after = [123_456]
    assert _get(server).read_bytes() == DATA
    assert server.asked == [None, "bytes=123456-"]


def test_wrong_content_is_refused(server: Server, cache: Path) -> None:
    server.data = bytes(len(DATA))
    with pytest.raises(WeightsError, match=r"expected the SHA-256 [0-9a-f]{64}, got .*--model FILE"):
        _get(server)
    assert not list(cache.iterdir())
    assert len(server.asked) == 1


def test_rotten_part_starts_over(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(b"x" * 1000)
    assert _get(server).read_bytes() == DATA
    assert server.asked == ["bytes=1000-", None]


@pytest.mark.parametrize("extra", [1, 1000])
def test_too_long_part_starts_over(server: Server, cache: Path, extra: int) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(DATA + b"x" * extra)
    assert _get(server).read_bytes() == DATA


def test_complete_part_is_used(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{NAME}.part").write_bytes(DATA)
    assert _get(server).read_bytes() == DATA
    assert server.asked == []


def test_rotten_file_in_the_cache_is_replaced(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(DATA[:-1] + b"?")
    assert _get(server).read_bytes() == DATA


def test_endless_answer(server: Server, cache: Path) -> None:
    server.data = DATA + bytes(1 << 20)
    with pytest.raises(WeightsError, match="expected 700000 bytes, got more"):
        _get(server)
    assert not list(cache.iterdir())


def test_not_found(server: Server, cache: Path) -> None:
    server.statuses = [404]
    with pytest.raises(WeightsError, match=r"leyolo-n could not be fetched: .*404 Not Found.*--model FILE"):
        _get(server)
    assert len(server.asked) == 1
    assert not list(cache.iterdir())


def test_busy_server_is_asked_again(server: Server) -> None:
    server.statuses = [503, 429]
    assert _get(server).read_bytes() == DATA
    assert len(server.asked) == 3


def test_dead_server() -> None:
    with pytest.raises(
        WeightsError, match=r"could not be fetched: http://127\.0\.0\.1:9/.*tried 4 times.*--model FILE"
    ):
        fetch.resolve("leyolo-n", base_url="http://127.0.0.1:9/", pause=0.001)


@pytest.mark.parametrize("target", ["http://example.org/x.pt", "file:///etc/passwd", "ftp://example.org/x.pt"])
def test_redirects_to_plain_http_are_refused(server: Server, target: str) -> None:
    server.redirect = target
    with pytest.raises(WeightsError, match=r"redirected|302"):
        _get(server)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "base", ["http://example.org/", "ftp://example.org/", "file:///etc/", "http://127.0.0.1.evil.org/"]
)
def test_plain_http_is_refused(base: str) -> None:
    with pytest.raises(WeightsError, match="expected an https address"):
        fetch.resolve("leyolo-n", base_url=base)


def test_offline(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYOLO_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"LEYOLO_OFFLINE is set.*--model FILE, or put it at .*LeYOLONano\.pt"):
        _get(server)
    assert server.asked == []
    cache.mkdir()
    (cache / NAME).write_bytes(DATA)
    assert _get(server) == cache / NAME


def test_unwritable_cache(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEYOLO_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"could not be stored in .*--model FILE"):
        _get(server)


def test_several_processes_fetch_once(server: Server, cache: Path) -> None:
    program = (
        "import sys; from leyolo.weights import fetch\n"
        f"fetch.PUBLISHED['n'] = fetch.Published({NAME!r}, {hashlib.sha256(DATA).hexdigest()!r}, {len(DATA)})\n"
        "print(fetch.resolve('leyolo-n', base_url=sys.argv[1]))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", program, server.url], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [run.communicate()[0].strip() for run in runs] == [str(cache / NAME)] * 4
    assert (cache / NAME).read_bytes() == DATA
    assert server.asked == [None]


@pytest.mark.parametrize(("size", "file"), [("s", "LeYOLOSmall.pt"), ("m", "LeYOLOMedium.pt"), ("l", "LeYOLOLarge.pt")])
def test_files_without_a_known_checksum(server: Server, size: str, file: str) -> None:
    with pytest.raises(WeightsError, match=rf"leyolo-{size} is not downloaded: .*--model {file}"):
        _get(server, f"leyolo-{size}")
    assert server.asked == []


def test_paths(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    assert _get(server, str(path)) == path
    assert fetch.resolve(path) == path
    with pytest.raises(WeightsError, match=r"no such file: .*modle\.safetensors; did you mean .*model\.safetensors\?"):
        _get(server, str(tmp_path / "modle.safetensors"))
    with pytest.raises(WeightsError, match="is a folder"):
        _get(server, str(tmp_path))
    with pytest.raises(WeightsError, match=r"'leyolo-x' is neither a file nor one of leyolo-n, .*did you mean leyolo-"):
        _get(server, "leyolo-x")
    with pytest.raises(WeightsError, match="no such file"):
        fetch.resolve(Path("nano.pt"))
    for odd in ("", "x" * 5000, "a\0b"):
        with pytest.raises(WeightsError, match=r"neither a file|is a folder"):
            _get(server, odd)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert fetch.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("LEYOLO_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch.cache_folder() == tmp_path / "leyolo"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert fetch.cache_folder() == Path.home() / ".cache/leyolo"


def test_the_published_checksum(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    data = (shared / "weights/LeYOLONano.pt").read_bytes()
    published = fetch.PUBLISHED["n"]
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (published.sha256, published.bytes)
    assert fetch.BASE_URL.startswith("https://")
