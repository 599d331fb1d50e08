"""The picture that ``leyolo benchmark pipeline`` looks at when it is given none."""

from __future__ import annotations

import io
import math
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 1280, 720


@cache
def street() -> bytes:
    """A JPEG of 1280 x 720: signs, clocks and traffic lights, so that there is something to find, under noise of all
    scales, so that it takes as long to decode as a photograph of its size (some 150 kB)."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (150, 175, 200))
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 520, WIDTH, HEIGHT], fill=(105, 105, 108))
    _stop_sign(draw, 170, 220, 100)
    _stop_sign(draw, 1130, 330, 55)
    _traffic_light(draw, 470, 230, 1.0)
    _traffic_light(draw, 640, 330, 0.6)
    _clock(draw, 870, 220, 105)
    _clock(draw, 330, 420, 50)
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1)), np.float32)
    pixels = np.clip(soft + _noise()[..., None], 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90, subsampling="4:2:0")
    return stream.getvalue()


def _noise() -> np.ndarray:
    """Octaves of noise, each of half the grain and about half the strength of the one before: [HEIGHT, WIDTH]."""
    random = np.random.default_rng(0)
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for grain, strength in ((64, 12), (16, 6), (4, 4), (2, 3), (1, 2)):
        rows, columns = -(-HEIGHT // grain), -(-WIDTH // grain)
        layer = Image.fromarray(random.normal(0, strength, (rows, columns)).astype(np.float32))
        total += np.asarray(layer.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    return total


def _stop_sign(draw: ImageDraw.ImageDraw, x: int, y: int, radius: int) -> None:
    draw.rectangle([x - 7, y + radius, x + 7, 560], fill=(90, 90, 95))
    for size, colour in ((radius, (255, 255, 255)), (round(radius * 0.92), (190, 20, 30))):
        angles = [math.pi / 8 + i * math.pi / 4 for i in range(8)]
        draw.polygon([(x + size * math.cos(a), y + size * math.sin(a)) for a in angles], fill=colour)
    # Four strokes stand for the four letters: fonts differ from machine to machine.
    for i in (-1.5, -0.5, 0.5, 1.5):
        middle, half = x + 0.36 * i * radius, 0.11 * radius
        draw.rectangle(
            [middle - half, y - 2 * half, middle + half, y + 2 * half], outline="white", width=max(3, radius // 16)
        )


def _traffic_light(draw: ImageDraw.ImageDraw, x: int, y: int, scale: float) -> None:
    width, height, radius = (round(side * scale) for side in (52, 135, 36))
    draw.rectangle([x - 7, y + height, x + 7, 560], fill=(90, 90, 95))
    draw.rounded_rectangle([x - width, y - height, x + width, y + height], 16, fill=(30, 32, 30))
    for i, colour in enumerate([(235, 40, 35), (90, 75, 20), (20, 70, 30)]):
        at = y + round((84 * i - 84) * scale)
        draw.ellipse([x - radius, at - radius, x + radius, at + radius], fill=colour)


def _clock(draw: ImageDraw.ImageDraw, x: int, y: int, radius: int) -> None:
    draw.rectangle([x - 7, y + radius, x + 7, 560], fill=(90, 90, 95))
    for size, colour in ((radius, (40, 40, 40)), (round(radius * 0.9), (245, 243, 235))):
        draw.ellipse([x - size, y - size, x + size, y + size], fill=colour)
    for hour in range(1, 13):
        a = hour * math.pi / 6
        ends = [(x + r * radius * math.sin(a), y - r * radius * math.cos(a)) for r in (0.65, 0.8)]
        draw.line(ends, fill="black", width=max(2, radius // 20))
    draw.line([x, y, x + 0.4 * radius, y - 0.16 * radius], fill="black", width=max(2, radius // 12))
    draw.line([x, y, x - 0.2 * radius, y - 0.65 * radius], fill="black", width=max(2, radius // 18))
