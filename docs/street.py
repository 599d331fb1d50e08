"""Draws docs/street.png, the picture of the README and of `make demo`: python docs/street.py FILE."""

from __future__ import annotations

import math
import sys

from PIL import Image, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT, HORIZON, GROUND = 1280, 800, 520, 640


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def octagon(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    angles = [math.pi / 8 + i * math.pi / 4 for i in range(8)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def post(draw: ImageDraw.ImageDraw, x: int, top: int, width: int) -> None:
    draw.rectangle([x - width, top, x + width, GROUND], fill=(90, 90, 95))


def circle(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def background(draw: ImageDraw.ImageDraw) -> None:
    for y in range(HEIGHT):
        t = y / HEIGHT
        sky = (int(120 + 80 * t), int(170 + 50 * t), int(230 - 10 * t))
        draw.line([(0, y), (WIDTH, y)], fill=sky if y < HORIZON else (90 + (y - HORIZON) // 8,) * 3)
    draw.rectangle([0, HORIZON - 20, WIDTH, HORIZON + 20], fill=(88, 140, 70))


def stop_sign(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    post(draw, x, y + 80, 9)
    draw.polygon(octagon(x, y, 120), fill=(255, 255, 255))
    draw.polygon(octagon(x, y, 111), fill=(190, 20, 30))
    draw.text((x, y), "STOP", font=font(76), fill="white", anchor="mm", stroke_width=3)


def traffic_light(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    post(draw, x, y + 120, 8)
    draw.rounded_rectangle([x - 52, y - 135, x + 52, y + 135], 18, fill=(30, 32, 30))
    for i, colour in enumerate([(235, 40, 35), (90, 75, 20), (20, 70, 30)]):
        circle(draw, x, y - 85 + 84 * i, 36, colour)


def clock(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    post(draw, x, y + 110, 10)
    circle(draw, x, y, 122, (40, 40, 40))
    circle(draw, x, y, 110, (245, 243, 235))
    for hour in range(1, 13):
        a = hour * math.pi / 6
        at = x + 86 * math.sin(a), y - 86 * math.cos(a)
        draw.text(at, str(hour), font=font(26), fill="black", anchor="mm")
    draw.line([x, y, x + 45, y - 20], fill="black", width=9)
    draw.line([x, y, x - 25, y - 80], fill="black", width=6)
    circle(draw, x, y, 8, (0, 0, 0))


def main() -> None:
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(picture)
    background(draw)
    stop_sign(draw, 270, 250)
    traffic_light(draw, 692, 255)
    clock(draw, 1010, 240)
    picture.filter(ImageFilter.GaussianBlur(1.2)).save(sys.argv[1])


if __name__ == "__main__":
    main()
