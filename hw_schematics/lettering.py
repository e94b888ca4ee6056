"""Words as outlines, so that a drawing looks the same where its typeface is not installed, and can be cut or printed.

The typeface is Hanken Grotesk (Alfredo Marco Pradil, SIL Open Font License 1.1).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Point = tuple[float, float]
Polygon = tuple[Point, ...]

STEPS = 6  # straight pieces for a curve: at 4 mm of height off by less than 0.01 mm


@dataclass(frozen=True)
class Lettering:
    """Closed polygons, filled where an odd number of them lies around; millimetres, y down, as on the panel."""

    words: str
    polygons: tuple[Polygon, ...]
    box: tuple[float, float, float, float]  # left, top, right, bottom of the ink


@functools.cache
def _font(weight: str) -> Any:
    import font_hanken_grotesk
    from fontTools.ttLib import TTFont

    return TTFont(Path(font_hanken_grotesk.font_directory) / f"HankenGrotesk-{weight}.otf")


@functools.cache
def _glyph(letter: str, weight: str) -> tuple[tuple[Polygon, ...], float, float]:
    """Polygons of a letter in units of the font, how far it advances, and how high capitals are."""
    from fontTools.pens.recordingPen import RecordingPen

    font = _font(weight)
    name = font.getBestCmap()[ord(letter)]
    pen = RecordingPen()
    glyphs = font.getGlyphSet()
    glyphs[name].draw(pen)
    polygons: list[Polygon] = []
    points: list[Point] = []
    for command, where in pen.value:
        if command == "moveTo":
            points = [where[0]]
        elif command == "lineTo":
            points.append(where[0])
        elif command == "curveTo":
            points += _curve(points[-1], where)
        else:
            polygons.append(tuple(points))
    return tuple(polygons), float(glyphs[name].width), float(font["OS/2"].sCapHeight)


def _curve(start: Point, rest: Sequence[Point]) -> list[Point]:
    """A cubic Bezier curve without its start."""
    points = (start, *rest)
    found = []
    for step in range(1, STEPS + 1):
        t = step / STEPS
        shares = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        found.append(
            (
                sum(share * p[0] for share, p in zip(shares, points, strict=True)),
                sum(share * p[1] for share, p in zip(shares, points, strict=True)),
            )
        )
    return found


def letter(
    words: str,
    at: Point,
    cap_mm: float,
    align: str = "middle",
    *,
    weight: str = "SemiBold",
    tracking: float = 0.08,
) -> Lettering:
    """Words with their baseline at ``at``; capitals ``cap_mm`` high, ``tracking`` of that more between two letters."""
    x = 0.0
    shifted: list[tuple[tuple[Polygon, ...], float, float]] = []
    for one in words:
        polygons, advance, cap = _glyph(one, weight)
        scale = cap_mm / cap
        shifted.append((polygons, x, scale))
        x += advance * scale + tracking * cap_mm
    raw = [
        tuple((left + px * scale, -py * scale) for px, py in polygon)
        for polygons, left, scale in shifted
        for polygon in polygons
    ]
    xs = [px for polygon in raw for px, _ in polygon]
    ys = [py for polygon in raw for _, py in polygon]
    low, high = min(xs), max(xs)  # aligned by the ink, so that a column of words is straight
    dx = at[0] - {"left": low, "middle": (low + high) / 2, "right": high}[align]
    moved = tuple(tuple((round(px + dx, 4), round(py + at[1], 4)) for px, py in polygon) for polygon in raw)
    return Lettering(words, moved, (low + dx, min(ys) + at[1], high + dx, max(ys) + at[1]))
