"""A roofline picture: what the operators of a report reach, below what the machine can do at most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from leyolo.bench.environment import threads_text
from leyolo.errors import UsageError

Color = tuple[int, int, int]
Point = tuple[float, float]
Rect = tuple[float, float, float, float]

SCALE = 2  # drawn larger, then reduced: smooth lines
PLOT = (90, 70, 1090, 870)
KEY_LEFT, KEY_WIDTH, KEY_ROW, BOTTOM = 1120, 480, 18, 950
KEY_NUMBERS = 350, 450  # from the left of the key: where the two columns of numbers end
INK, FAINT, GRID, PAPER = (30, 30, 34), (110, 110, 118), (228, 228, 232), (255, 255, 255)
COLORS: Sequence[Color] = (
    *((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 150, 165)),
    *((140, 86, 75), (227, 119, 194), (150, 150, 30)),
)


@dataclass(frozen=True)
class _Dot:
    """One case: operations per byte, GFLOP/s of our fastest form and of the fastest other."""

    op: str
    case: str
    intensity: float
    ours: float
    peer: float | None


def dots(rows: Sequence[dict[str, Any]]) -> list[_Dot]:
    """The cases of a report's ``rows`` whose operations are counted, in their order."""
    cases: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["operations"] is not None:
            cases.setdefault((row["op"], row["case"]), []).append(row)
    found = []
    for (op, case), own in cases.items():
        rates: dict[bool, list[float]] = {True: [], False: []}
        for row in own:
            rates[row["name"].startswith("leyolo")].append(row["gflop_per_s"])
        intensity = own[0]["operations"] / own[0]["bytes"]
        found.append(_Dot(op, case, intensity, max(rates[True]), max(rates[False], default=None)))
    return found


def checked(path: str | Path) -> None:
    """UsageError where ``path`` is no name of a picture: asked before the work is done."""
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise UsageError(f"a picture should be called .png, .jpg or the like, got {str(path)!r}")


def draw(report: dict[str, Any], path: str | Path) -> None:
    """Writes the picture of a report of :func:`leyolo.bench.ops.benchmark`, in the format of ``path``'s suffix.

    Filled dots are ours, rings the fastest other library's, joined where they belong to one case; an arrow stands for a
    ring far below. The lines are the machine's limits. Raises UsageError where no case counts operations.
    """
    found = dots(report["rows"])
    if not found:
        raise UsageError("nothing to draw: the measured operators count no floating-point operations")
    _Picture(found, report["environment"]).save(path)


class _Picture:
    def __init__(self, found: Sequence[_Dot], environment: dict[str, Any]) -> None:
        self.dots = found
        self.columns = -(-(len(found) + 2 * len({dot.op for dot in found})) * KEY_ROW // (BOTTOM - PLOT[1]))
        self.size = KEY_LEFT + self.columns * KEY_WIDTH, BOTTOM
        self.image = Image.new("RGB", (self.size[0] * SCALE, self.size[1] * SCALE), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.colors = {op: COLORS[i % len(COLORS)] for i, op in enumerate(dict.fromkeys(dot.op for dot in found))}
        self.limits: dict[str, Any] = environment["limits"]
        rates = [dot.ours for dot in found]
        self.x = _range([dot.intensity for dot in found])
        self.y = _range([*rates, self.limits["gflop_per_s"]])
        self.taken: list[Rect] = []
        self._axes(environment)
        self._ceilings()
        self._dots()
        self._key()

    def save(self, path: str | Path) -> None:
        self.image.resize(self.size, Image.Resampling.LANCZOS).save(path)

    def at(self, x: float, y: float) -> Point:
        """Where a value lies, in pixels."""
        left, top, right, bottom = PLOT
        across = math.log(x / self.x[0]) / math.log(self.x[1] / self.x[0])
        up = math.log(y / self.y[0]) / math.log(self.y[1] / self.y[0])
        return left + across * (right - left), bottom - up * (bottom - top)

    def text(self, place: Point, text: str, size: float = 14, color: Color = INK, anchor: str = "lm") -> None:
        font = ImageFont.load_default(size * SCALE)
        self.pen.text((place[0] * SCALE, place[1] * SCALE), text, fill=color, font=font, anchor=anchor)

    def line(self, a: Point, b: Point, color: Color, width: float = 1) -> None:
        self.pen.line([*(v * SCALE for v in (*a, *b))], fill=color, width=round(width * SCALE))

    def _axes(self, environment: dict[str, Any]) -> None:
        left, top, right, bottom = PLOT
        for value in _ticks(*self.x):
            x, _ = self.at(value, self.y[0])
            self.line((x, top), (x, bottom), GRID)
            self.text((x, bottom + 16), f"{value:g}", 13, FAINT, "mm")
        for value in _ticks(*self.y):
            _, y = self.at(self.x[0], value)
            self.line((left, y), (right, y), GRID)
            self.text((left - 10, y), f"{value:g}", 13, FAINT, "rm")
        for a, b in (((left, top), (left, bottom)), ((left, bottom), (right, bottom))):
            self.line(a, b, INK)
        self.text(((left + right) / 2, bottom + 44), "operations per byte of input, weights and result", 15, INK, "mm")
        self.text((left - 66, top - 24), "GFLOP/s", 15)
        title = f"leyolo-{environment['size']} at {environment['imgsz']}, {threads_text(environment['threads'])}"
        self.text((left, 22), f"{title}; {environment['processor']}", 17)
        self._legend((right, top - 24))

    def _legend(self, end: Point) -> None:
        """What dots, rings and arrows are, in a line that ends at ``end``."""
        x, y = end
        for mark, text in (("arrow", "it is far below"), ("ring", "fastest other library"), ("dot", "leyolo")):
            self.text((x, y), text, 13, FAINT, "rm")
            x -= self.pen.textlength(text, font=ImageFont.load_default(13 * SCALE)) / SCALE + 11
            if mark == "arrow":
                self._tip((x, y + 4), FAINT)
            else:
                self._circle((x, y), 5, FAINT if mark == "dot" else PAPER, FAINT)
            x -= 22
        self.text((KEY_LEFT, y), "GFLOP/s, red where the other library is faster", 13, FAINT)

    def _ceilings(self) -> None:
        """The FMA peak, and below its ridge what each level of memory delivers."""
        peak = self.limits["gflop_per_s"]
        _, top = self.at(self.x[0], peak)
        self.line((PLOT[0], top), (PLOT[2], top), INK, 1.5)
        self.text((PLOT[2] - 6, top - 12), f"FMA peak {peak:.0f} GFLOP/s", 13, INK, "rm")
        for name, rate in self.limits["read_gb_per_s"].items():
            begin, end = max(self.x[0], self.y[0] / rate), min(self.x[1], peak / rate)
            if begin >= end:
                continue
            a, b = self.at(begin, begin * rate), self.at(end, end * rate)
            self.line(a, b, FAINT, 1.2)
            self._along(a, b, f"{name} {rate:.0f} GB/s")

    def _along(self, a: Point, b: Point, text: str) -> None:
        """``text`` on the lower end of the line from a to b, in its direction."""
        font = ImageFont.load_default(13 * SCALE)
        _, _, width, height = (round(v) for v in self.pen.textbbox((0, 0), text, font=font))
        label = Image.new("L", (width, height + 4), 0)
        ImageDraw.Draw(label).text((0, 0), text, fill=255, font=font)
        dx, dy, length = b[0] - a[0], b[1] - a[1], math.dist(a, b)
        turned = label.rotate(math.degrees(math.atan2(-dy, dx)), Image.Resampling.BICUBIC, expand=True)
        forth, aside = width / 2 + 24 * SCALE, 10 * SCALE
        x = a[0] * SCALE + (dx * forth + dy * aside) / length - turned.width / 2
        y = a[1] * SCALE + (dy * forth - dx * aside) / length - turned.height / 2
        self.image.paste(Image.new("RGB", turned.size, FAINT), (round(x), round(y)), turned)

    def _dots(self) -> None:
        for dot in self.dots:
            color, ours = self.colors[dot.op], self.at(dot.intensity, dot.ours)
            self.taken.append((ours[0] - 5, ours[1] - 5, ours[0] + 5, ours[1] + 5))
            if dot.peer is not None and dot.peer <= self.y[0]:
                self._arrow(ours, color)
            elif dot.peer is not None:
                peer = self.at(dot.intensity, dot.peer)
                self.line(ours, peer, color)
                self._circle(peer, 4, PAPER, color)
                self.taken.append((peer[0] - 4, peer[1] - 4, peer[0] + 4, peer[1] + 4))
        for number, dot in enumerate(self.dots, 1):
            color, ours = self.colors[dot.op], self.at(dot.intensity, dot.ours)
            self._circle(ours, 5, color, PAPER)
            self._label(ours, str(number), color)

    def _arrow(self, ours: Point, color: Color) -> None:
        """Down to the axis: the other library is below the picture."""
        end = ours[0], PLOT[3] - 3
        self.line(ours, end, color)
        self._tip(end, color)

    def _tip(self, end: Point, color: Color) -> None:
        """Of an arrow that points down to ``end``."""
        x, y = end
        self.pen.polygon([(a * SCALE, b * SCALE) for a, b in ((x - 4, y - 8), (x + 4, y - 8), (x, y))], fill=color)

    def _circle(self, center: Point, radius: float, fill: Color, outline: Color) -> None:
        x, y, r = center[0] * SCALE, center[1] * SCALE, radius * SCALE
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline, width=SCALE)

    def _label(self, dot: Point, text: str, color: Color) -> None:
        """``text`` at the nearest free place round ``dot``, tied to it where that is not beside it."""
        half = (4 * len(text) + 1, 7)
        for place, far in _round(dot):
            rect = place[0] - half[0], place[1] - half[1], place[0] + half[0], place[1] + half[1]
            inside = PLOT[0] < rect[0] and rect[2] < PLOT[2] and PLOT[1] < rect[1] and rect[3] < PLOT[3]
            if inside and not any(_overlap(rect, other) for other in self.taken):
                self.taken.append(rect)
                if far:
                    self.line(dot, place, color, 0.5)
                    self.pen.rectangle([v * SCALE for v in rect], fill=PAPER)
                self.text(place, text, 13, color, "mm")
                return

    def _key(self) -> None:
        x, y = KEY_LEFT, PLOT[1]
        shown = None
        for number, dot in enumerate(self.dots, 1):
            if dot.op != shown and y > PLOT[1]:
                y += KEY_ROW
            if y + (2 if dot.op != shown else 1) * KEY_ROW > BOTTOM:
                x, y, shown = x + KEY_WIDTH, PLOT[1], None
            if dot.op != shown:
                self.text((x, y), dot.op, 15, self.colors[dot.op])
                self.text((x + KEY_NUMBERS[0], y), "leyolo", 13, FAINT, "rm")
                self.text((x + KEY_NUMBERS[1], y), "fastest other", 13, FAINT, "rm")
                shown, y = dot.op, y + KEY_ROW
            self.text((x + 20, y), str(number), 13, self.colors[dot.op], "rm")
            self.text((x + 28, y), dot.case if len(dot.case) < 42 else f"{dot.case[:40]}…", 13)
            self.text((x + KEY_NUMBERS[0], y), f"{dot.ours:.0f}", 13, INK, "rm")
            slower = dot.peer is not None and dot.peer > dot.ours
            if dot.peer is not None:
                self.text((x + KEY_NUMBERS[1], y), f"{dot.peer:.0f}", 13, (200, 30, 30) if slower else INK, "rm")
            y += KEY_ROW


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / 1.6, max(values) * 1.6


def _ticks(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 times the powers of ten."""
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 2, 5):
            if low <= digit * 10.0**exponent <= high:
                yield digit * 10.0**exponent


def _round(dot: Point) -> Iterator[tuple[Point, bool]]:
    """Places round a dot, nearest first, and whether they need a line to it."""
    for radius in (13, 22, 32, 44, 58, 74, 92):
        for step in range(16):
            angle = math.pi * (step / 8 - 0.25)
            yield (dot[0] + radius * math.cos(angle), dot[1] + radius * math.sin(angle)), radius > 13


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
