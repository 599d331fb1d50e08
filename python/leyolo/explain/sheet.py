"""The whole picture of ``leyolo explain assign``: a panel for each assigner, costs of an object, a legend."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from leyolo.explain import heat
from leyolo.explain.assigners import TITLES, Share
from leyolo.explain.panels import DOT, WITHOUT, dot, panel, shown, tag
from leyolo.explain.scene import Scene
from leyolo.predict.draw import Color, color, font
from leyolo.weights.native import write_atomically

_SIDE, _GAP, _TITLE, _LINE = 640, 16, 34, 30
_COLOURS = 128
_INK: Color = (25, 25, 25)


def sheet(
    scene: Scene, shares: Mapping[str, Sequence[Share]], *, notes: Sequence[str] = (), number: int | None = None
) -> Image.Image:
    """Draws it.

    Args:
        shares: by assigner, what each object gets.
        notes: lines that go below the legend.
        number: the object whose costs are drawn below; SimOTA must be among the assigners then.
    """
    left, top, right, bottom = shown(scene)
    width, height = right - left, bottom - top
    zoom = max(1, round(_SIDE / max(width, height)))
    tiles = [(_title(name, found), panel(scene, found, zoom)) for name, found in shares.items()]
    columns = len(tiles) if len(tiles) <= 3 else (len(tiles) + 1) // 2
    rows = [tiles[at : at + columns] for at in range(0, len(tiles), columns)]
    full = columns * (width * zoom + _GAP) + _GAP
    blocks = [_row(row) for row in rows]
    if number is not None:
        rule = next(name for name in heat.RULES if name in shares)
        side = full // len(scene.levels) - _GAP
        drawn = heat.panels(scene, number, shares[rule][number].anchors, heat.RULES[rule], side)
        title = f"{TITLES[rule]}'s cost of {number + 1} {scene.names[number]}, cell by cell"
        blocks += [_line(title), _row([((text, ""), each) for text, each in drawn])]
    blocks.append(_legend(scene, notes, max([full, *(block.width for block in blocks)]), zoom, number is not None))
    whole = Image.new("RGB", (max(block.width for block in blocks), sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        whole.paste(block, (0, top))
        top += block.height
    return whole


def save(drawn: Image.Image, path: Path) -> None:
    """Writes a PNG in one step; few colours make it a fifth as large."""
    buffer = io.BytesIO()
    drawn.quantize(_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    write_atomically(path, buffer.getvalue())


def _title(name: str, found: Sequence[Share]) -> tuple[str, str]:
    anchors, without = sum(len(share.anchors) for share in found), sum(not share.anchors for share in found)
    text = f"{TITLES[name]}: {anchors} anchors for {len(found)} object{'s' if len(found) > 1 else ''}"
    return text, f", {without} without" if without else ""


def _line(text: str) -> Image.Image:
    face = font(19, text.isascii())
    line = Image.new("RGB", (2 * _GAP + round(face.getlength(text)), _TITLE), "white")
    ImageDraw.Draw(line).text((_GAP, _TITLE // 2), text, fill=_INK, font=face, anchor="lm")
    return line


def _row(tiles: Sequence[tuple[tuple[str, str], Image.Image]]) -> Image.Image:
    """Pictures side by side, each under its title (black, then red)."""
    face = font(19, True)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    widths = [max(each.width, round(measure.textlength("".join(title), font=face))) + _GAP for title, each in tiles]
    row = Image.new("RGB", (sum(widths) + _GAP, _TITLE + max(each.height for _, each in tiles) + _GAP // 2), "white")
    pen = ImageDraw.Draw(row)
    x = _GAP
    for (black, red), each in tiles:
        pen.text((x, _TITLE // 2), black, fill=_INK, font=face, anchor="lm")
        pen.text((x + pen.textlength(black, font=face), _TITLE // 2), red, fill=WITHOUT, font=face, anchor="lm")
        row.paste(each, (x, _TITLE))
        x += widths.pop(0)
    return row


def _legend(scene: Scene, notes: Sequence[str], width: int, zoom: int, with_costs: bool) -> Image.Image:
    """What dots and colours mean; objects as long as there is room."""
    strip = Image.new("RGB", (width, _LINE * (4 + len(notes))), "white")
    pen = ImageDraw.Draw(strip)
    face = font(16, True)
    x, y = float(_GAP), _LINE / 2 + 8
    for stride in scene.levels:
        radius = min(DOT * stride * zoom, _LINE / 2)
        dot(pen, x + radius, y, radius, (150, 150, 150))
        pen.text((x + 2 * radius + 6, y), f"stride {stride}", fill=_INK, font=face, anchor="lm")
        x += 2 * radius + 6 + pen.textlength(f"stride {stride}", font=face) + 22
    text = "a dot is an anchor, in the colour of the object that it learns"
    pen.text((x, y), text, fill=_INK, font=face, anchor="lm")
    x += pen.textlength(text, font=face) + 22
    if with_costs:
        for step in range(60):
            pen.rectangle((x + 2 * step, y - 8, x + 2 * step + 2, y + 8), fill=heat.shade(step / 59))
        pen.text((x + 128, y), "cheap to dear; ring: taken", fill=_INK, font=face, anchor="lm")
    x, y = float(_GAP), y + _LINE - 8
    for number, name in enumerate(scene.names):
        text = f"{number + 1} {name}"
        if x + pen.textlength(text, font=font(15, text.isascii())) + 40 > width:
            x, y = float(_GAP), y + _LINE - 6
            if y > 3.2 * _LINE:
                break
        x = tag(pen, x, y, text, color(number)) + 8
    for line in notes:
        y += _LINE
        pen.text((_GAP, y + 8), line, fill=_INK, font=font(16, line.isascii()), anchor="lm")
    return strip.crop((0, 0, width, round(y + _LINE)))
