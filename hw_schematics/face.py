"""The module's face as a picture: the panel's table with knobs, nuts and lights drawn where its holes are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from hw_schematics.lettering import Polygon
from hw_schematics.panel import Hole, Panel, art

PIXELS_PER_MM = 6.0  # of the size that the picture asks for; it is drawn in millimetres
MARGIN_MM = 3.0
PANEL_FILL, EDGE, INK = "#191a1c", "#3a3c40", "#ece7db"
POINTER_DEG = {
    "turn": -40.0,
    "sign": 0.0,
}  # where knobs stand in the picture, but for those that are named here
STANDING: dict[str, float] = {
    "KNOB 1": -95.0, "KNOB 2": 30.0, "KNOB 3": -20.0, "KNOB 4": 75.0, "KNOB 5": 15.0, "KNOB 6": -60.0, "KNOB 7": 110.0,
    "KNOB 8": -130.0, "LEVEL": 45.0, "CV 1 -/+": 60.0, "CV 2 -/+": 0.0, "CV 3 -/+": -45.0,
}  # fmt: skip
LIT = {"STATUS", "GATE 1 LED"}


def path_data(polygons: Iterable[Polygon]) -> str:
    """Closed polygons as the data of an SVG path."""
    return "".join("M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in polygon) + "Z" for polygon in polygons)


def _circle(hole: Hole, radius: float, fill: str, more: str = "") -> str:
    return f'<circle cx="{hole.x:g}" cy="{hole.y:g}" r="{radius:g}" fill="{fill}"{more}/>'


def _ring(hole: Hole, outer: float, teeth: int, depth: float) -> Polygon:
    """A knurled edge: a circle whose radius goes in and out."""
    points = []
    for step in range(teeth * 4):
        radius = outer - depth * (step % 4 in {2, 3})
        angle = 2 * math.pi * step / (teeth * 4)
        points.append((hole.x + radius * math.cos(angle), hole.y + radius * math.sin(angle)))
    return tuple(points)


def _knob(hole: Hole, radius: float, shades: tuple[str, str, str, str], pointer: str) -> Iterator[str]:
    """A fluted knob seen from above: skirt, grip, cap, and a pointer where it stands."""
    rim, skirt, grip, cap = shades
    yield _circle(hole, radius + 0.35, "#000", ' opacity=".45"')
    yield _circle(hole, radius - 0.1, skirt, f' stroke="{rim}" stroke-width=".2"')
    yield f'<path d="{path_data([_ring(hole, radius * 0.86, 18, 0.28)])}" fill="{grip}"/>'
    yield _circle(hole, radius * 0.66, cap)
    if pointer:
        degrees = STANDING.get(hole.name, POINTER_DEG.get(hole.scale, 0.0))
        yield (
            f'<rect x="{hole.x - 0.4:.2f}" y="{hole.y - radius + 0.25:.2f}" width=".8" height="{radius * 0.72:.2f}" '
            f'rx=".3" fill="{pointer}" transform="rotate({degrees:g} {hole.x:g} {hole.y:g})"/>'
        )


def _jack(hole: Hole, across: float) -> Iterator[str]:
    """A knurled nut, the bush in it, and the hole for the plug."""
    yield _circle(hole, across / 2 + 0.3, "#000", ' opacity=".45"')
    yield f'<path d="{path_data([_ring(hole, across / 2, 24, 0.22)])}" fill="#a9abad"/>'
    yield _circle(hole, across / 2 - 0.55, "#c9cacb")
    yield _circle(hole, 2.9, "#8d8f92")
    yield _circle(hole, 2.45, "#d5d6d7")
    yield _circle(hole, 1.8, "#050506")


def _light(hole: Hole) -> Iterator[str]:
    if hole.name in LIT:
        yield _circle(hole, 3.4, "url(#glow)")
        yield _circle(hole, 1.5, "#8ef0a0")
        yield f'<circle cx="{hole.x - 0.4:g}" cy="{hole.y - 0.4:g}" r=".55" fill="#e6ffe9"/>'
    else:
        yield _circle(hole, 1.6, "#000", ' opacity=".5"')
        yield _circle(hole, 1.5, "#31503a")
        yield f'<circle cx="{hole.x - 0.4:g}" cy="{hole.y - 0.4:g}" r=".45" fill="#6d8f76"/>'


def _control(panel: Panel, hole: Hole) -> Iterator[str]:
    kind = panel.kind_of(hole)
    if kind.name in {"jack", "stereo_jack"}:
        return _jack(hole, kind.front_mm)
    if kind.name == "light":
        return _light(hole)
    radius = kind.front_mm / 2
    if kind.name == "encoder":
        return _knob(hole, radius, ("#46484d", "#0d0d0f", "#2b2c30", "#202124"), "")
    light = next((one for one in panel.hardware if "light grey" in one.what and hole.name in one.names), None)
    if light:
        return _knob(hole, radius, ("#a3a19a", "#8f8d87", "#c6c3ba", "#d8d5cc"), "#26272a")
    return _knob(hole, radius, ("#46484d", "#0d0d0f", "#2b2c30", "#36373b"), "#f2eee4")


def face(panel: Panel) -> str:
    """The picture as SVG."""
    wide, high = panel.width_mm + 2 * MARGIN_MM, panel.height_mm + 2 * MARGIN_MM
    pixels = f'width="{wide * PIXELS_PER_MM:.0f}" height="{high * PIXELS_PER_MM:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {pixels} '
        f'viewBox="{-MARGIN_MM:g} {-MARGIN_MM:g} {wide:g} {high:g}">',
        "<title>The face of the module</title>",
        '<defs><radialGradient id="glow"><stop offset=".3" stop-color="#6ff58b" stop-opacity=".55"/>'
        '<stop offset="1" stop-color="#6ff58b" stop-opacity="0"/></radialGradient>'
        '<linearGradient id="sheet" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#212225"/>'
        f'<stop offset="1" stop-color="{PANEL_FILL}"/></linearGradient></defs>',
        f'<rect width="{panel.width_mm:g}" height="{panel.height_mm:g}" rx=".6" fill="url(#sheet)" stroke="{EDGE}" '
        'stroke-width=".3"/>',
    ]
    for ink in art(panel):
        if ink.within < 0:
            lines.append(f'<path d="{path_data(ink.polygons)}" fill="{INK}" fill-rule="evenodd"/>')
    for x, y in panel.screws:
        lines.append(f'<circle cx="{x:g}" cy="{y:g}" r="{panel.screw_head_mm / 2 - 0.3:g}" fill="#9c9ea1"/>')
        lines.append(
            f'<path d="M{x - 1.5:g} {y:g}h3M{x:g} {y - 1.5:g}v3" stroke="#3c3e41" stroke-width=".55"/>'
        )
    for hole in panel.holes:
        lines += _control(panel, hole)
    return "\n".join([*lines, "</svg>", ""])
