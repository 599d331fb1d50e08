"""From the name of a model to a file on this machine: a path stays a path, "leyolo-n" is fetched once and kept.

Only files whose checksum is known are fetched. Standard library only; nothing is sent but the request for the file.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO

from leyolo.assets import PACKAGED
from leyolo.models.config import SIZES, find_size
from leyolo.weights.checkpoint import WeightsError, sha256_of

Progress = Callable[[int, int], None]
"""Called with the bytes that are there so far and the bytes of the whole file."""

BASE_URL = "https://raw.githubusercontent.com/LilianHollard/LeYOLO/360a20546fdab264c48daf784f97afec81d18972/weights/"
TIMEOUT = 30.0
"""Seconds without any byte after which a connection counts as lost."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BLOCK = 1 << 18
_REPOSITORY = "https://github.com/LilianHollard/LeYOLO"


@dataclass(frozen=True)
class Published:
    """An official file. Without a known checksum it is not offered for download."""

    filename: str
    sha256: str | None = None
    bytes: int = 0


PUBLISHED: dict[str, Published] = {
    "n": Published(
        "LeYOLONano.pt", "4b952e068ea3345eae0f95b48d88beb8ff90ee93d4027bb4ca6930698ade6d36", bytes=2_632_102
    ),
    "s": Published("LeYOLOSmall.pt"),
    "m": Published("LeYOLOMedium.pt"),
    "l": Published("LeYOLOLarge.pt"),
}


def cache_folder() -> Path:
    """Where fetched files are kept: $LEYOLO_HOME, else $XDG_CACHE_HOME/leyolo, else ~/.cache/leyolo."""
    if home := os.environ.get("LEYOLO_HOME"):
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "leyolo"


def offline() -> bool:
    """Whether $LEYOLO_OFFLINE forbids the network (any value but empty, 0, false, no, off)."""
    return os.environ.get("LEYOLO_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def resolve(
    name_or_path: str | Path,
    *,
    progress: Progress | None = None,
    base_url: str = BASE_URL,
    pause: float = 0.5,
) -> Path:
    """A local file for ``name_or_path``.

    An existing file is returned as it is, and so is one inside the package for its name ("leyolo-n-shapes"). The name
    of a size ("leyolo-n", "nano", …) gives the official file from the cache, fetched first where it is missing: resumed
    if it was interrupted before, checked against its known SHA-256, and put in place whole. Any number of processes may
    ask at the same time; one fetches.

    progress    called while bytes arrive
    base_url    where the official files lie; https, or http on this machine
    pause       seconds before the first retry, doubled each time

    Raises :class:`WeightsError` with what to do instead where there is no such file or it cannot be fetched.
    """
    path = Path(name_or_path).expanduser()
    if os.path.isfile(path):  # unlike Path.is_file, also False for a name that no file can have
        return path
    if os.path.isdir(path):
        raise WeightsError(f"{path} is a folder, expected a weights file or one of {_known()}")
    if str(name_or_path) in PACKAGED:
        return PACKAGED[str(name_or_path)]
    size = find_size(name_or_path) if isinstance(name_or_path, str) else None
    if size is None:
        raise WeightsError(_unknown(str(name_or_path)))
    published = PUBLISHED[size]
    if published.sha256 is None:
        raise WeightsError(
            f"leyolo-{size} is not downloaded: no checksum of the official {published.filename} is known. "
            f"Get weights/{published.filename} from {_REPOSITORY} and name it with --model {published.filename}"
        )
    return _cached(size, published, progress, base_url, pause)


def _names() -> list[str]:
    return [*(f"leyolo-{size}" for size in SIZES), *PACKAGED]


def _known() -> str:
    return ", ".join(_names())


def _unknown(name: str) -> str:
    if os.sep in name or name.lower().endswith((".pt", ".safetensors", ".pth", ".onnx")):
        folder = Path(name).expanduser().parent
        others = [p.name for p in folder.iterdir() if p.is_file()] if os.path.isdir(folder) else []
        near = difflib.get_close_matches(Path(name).name, others, n=1)
        hint = f"; did you mean {folder / near[0]}?" if near else ""
        return f"no such file: {name}{hint}"
    near = difflib.get_close_matches(name.lower(), _names(), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{name!r} is neither a file nor one of {_known()}{hint}"


def _cached(size: str, published: Published, progress: Progress | None, base_url: str, pause: float) -> Path:
    target = cache_folder() / published.filename
    if _verified(target, published):
        return target
    advice = (
        f"Get weights/{published.filename} from {_REPOSITORY} on another machine and name it with --model FILE, "
        f"or put it at {target}"
    )
    if offline():
        raise WeightsError(f"leyolo-{size} is not on this machine and LEYOLO_OFFLINE is set. {advice}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent):
            if not _verified(target, published):  # else another process has fetched it meanwhile
                _fetch(base_url + published.filename, target, published, progress, pause)
    except WeightsError as error:
        raise WeightsError(f"leyolo-{size} could not be fetched: {error}. {advice}") from error
    except OSError as error:
        raise WeightsError(f"leyolo-{size} could not be stored in {target.parent}: {error}. {advice}") from error
    return target


def _verified(path: Path, published: Published) -> bool:
    try:
        return path.stat().st_size == published.bytes and sha256_of(path) == published.sha256
    except OSError:
        return False


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time in ``folder``; the system drops the lock of a process that dies, and no file is left."""
    try:
        import fcntl
    except ImportError:  # no such locks here; the file is still put in place atomically
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class _HopelessError(Exception):
    """Trying again would not help."""


def _fetch(
    url: str, target: Path, published: Published, progress: Progress | None, pause: float, tries: int = 4
) -> None:
    """Downloads into ``<target>.part``, going on where an earlier attempt stopped; moves it into place once right."""
    _check_url(url)
    part = target.with_name(target.name + ".part")
    last: Exception | None = None
    for attempt in range(tries):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            resumed = _download(url, part, published, progress)
        except _HopelessError as error:
            raise WeightsError(str(error)) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
                raise
            last = error
        except HTTPException as error:
            last = error
        else:
            found = sha256_of(part)
            if found == published.sha256:
                os.replace(part, target)
                return
            part.unlink()
            last = WeightsError(f"expected the SHA-256 {published.sha256}, got {found} ({url})")
            if not resumed:
                raise last  # a whole, fresh file that is another one: trying again gives the same
    reason = getattr(last, "reason", None) or last
    raise WeightsError(f"{url}: {reason} (tried {tries} times)") from last


def _download(url: str, part: Path, published: Published, progress: Progress | None) -> bool:
    """Completes ``part``; returns whether it built on bytes from an earlier attempt."""
    have = part.stat().st_size if part.exists() else 0
    if have > published.bytes:
        have = 0
    if have == published.bytes:
        return True
    request = urllib.request.Request(url, headers={"User-Agent": "leyolo", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response: HTTPResponse = _opener(url).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:
                part.unlink(missing_ok=True)
                raise ConnectionError("the server refused to go on where the download had stopped") from error
            if error.code < 500 and error.code not in (408, 425, 429):
                raise _HopelessError(f"{url}: the server says {error.code} {error.reason}") from error
            raise
    with response:
        content_range = response.headers.get("Content-Range", "")
        if response.status != 206 or not content_range.startswith(f"bytes {have}-"):
            if response.status != 200:
                part.unlink(missing_ok=True)
                raise ConnectionError(f"expected status 200, or 206 from byte {have}, got {response.status}")
            have = 0  # a server without ranges starts over
        resumed = have > 0
        with part.open("ab" if have else "wb") as file:
            while block := response.read(_BLOCK):
                have += len(block)
                if have > published.bytes:
                    part.unlink()
                    raise _HopelessError(f"{url}: expected {published.bytes} bytes, got more")
                file.write(block)
                if progress is not None:
                    progress(have, published.bytes)
            file.flush()
            os.fsync(file.fileno())
    if have < published.bytes:
        raise ConnectionError(f"the connection was lost after {have} of {published.bytes} bytes")
    return resumed


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise WeightsError(f"expected an https address, got {url}")


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _check_url(newurl)
        except WeightsError as error:
            raise _HopelessError(f"redirected to another place: {error}") from error
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    local = urllib.parse.urlsplit(url).hostname in _LOOPBACK  # a proxy would look for the file on itself
    return urllib.request.build_opener(_HttpsOnly, *([urllib.request.ProxyHandler({})] if local else []))
