"""The front panel: its table, what is printed on it, and whether it can be drilled, mounted and played.

``panel.toml`` is the one table of holes. `read_panel` reads it, `art` is what is printed, `faults` says what is wrong,
compared with the schematic's controls. Millimetres, x from the left edge, y from the top edge, seen from the front.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.errors import DarkrackError
from device.toml_table import Table, read_page
from hw_schematics import draw
from hw_schematics.lettering import Lettering, Point, Polygon, letter
from hw_schematics.parts import read_parts

PANEL = Path(__file__).with_name("panel.toml")
# ISO 273, clearance holes, fine series: a bush of the first goes through a hole of the second.
CLEARANCE_MM: Mapping[float, float] = {3.0: 3.2, 6.0: 6.4, 7.0: 7.4}
# Doepfer, A-100 construction details: HP -> millimetres.
WIDTHS_MM: Mapping[int, float] = {
    2: 9.8, 4: 20.0, 6: 30.0, 8: 40.3, 10: 50.5, 12: 60.6, 14: 70.8, 16: 80.9, 18: 91.3, 20: 101.3, 21: 106.3,
    22: 111.4, 28: 141.9, 42: 213.0,
}  # fmt: skip
HP_MM = 5.08
FINGER_MM = 6.0  # between two knobs, or a knob and a plug: a fingertip goes in
PLUG_MM = 4.0  # between two plugs
CAP_MM, NUMBER_CAP_MM, SMALLEST_CAP_MM = 2.2, 3.0, 2.0
INK_MM, WORD_MM = 0.4, 1.0  # between what is printed, or a word, and an edge of anything else
LINE_MM = 0.35
TURN_DEG = 280.0  # RD901F: mechanical angle
TICKS = 11
GRIPPED_MM = 0.7  # a nut holds by a turn at least

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Kind:
    """What sits in a hole; the words of ``panel.toml``."""

    name: str
    parts: tuple[str, ...]
    thread_mm: float
    body_mm: Box
    front_mm: float
    hand_mm: float
    seat_mm: float
    bush_mm: float
    nut_mm: float
    source: str


@dataclass(frozen=True)
class Hole:
    """One hole: ``reference`` of the part behind it, ``d`` its diameter."""

    reference: str
    x: float
    y: float
    d: float
    name: str
    legend: str
    beside: str
    scale: str


@dataclass(frozen=True)
class Hardware:
    """What is ordered beside the parts on the board, and how many of it."""

    what: str
    mpn: str
    manufacturer: str
    alternates: str
    quantity: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Word:
    """Words that belong to no hole."""

    words: str
    x: float
    y: float
    cap_mm: float
    tracking: float
    weight: str


@dataclass(frozen=True)
class Panel:
    """``panel.toml``, as its comments say."""

    hp: int
    width_mm: float
    height_mm: float
    thickness_mm: float
    screw_hole_mm: float
    screw_head_mm: float
    screws: tuple[Point, ...]
    board: Box
    kinds: Mapping[str, Kind]
    holes: tuple[Hole, ...]
    words: tuple[Word, ...]
    lines: tuple[tuple[Point, Point], ...]
    blocks: tuple[Box, ...]
    depth: tuple[tuple[str, float], ...]
    hardware: tuple[Hardware, ...]

    @property
    def depth_mm(self) -> float:
        """From the panel's face to the hindmost part."""
        return math.fsum(mm for _, mm in self.depth)

    def kind_of(self, hole: Hole) -> Kind:
        """What sits in a hole, by the part that the schematic has there."""
        part = controls()[hole.reference].part if hole.reference in controls() else ""
        for kind in self.kinds.values():
            if part in kind.parts:
                return kind
        raise DarkrackError(hole.reference, "a part that a [kind] of the panel's table has", repr(part))

    def named(self, name: str) -> Hole:
        """The hole of this name."""
        return next(hole for hole in self.holes if hole.name == name)


@dataclass(frozen=True)
class Control:
    """What the schematic has on the panel: its words there, and its key in ``parts.toml``."""

    name: str
    part: str


@functools.cache
def controls() -> Mapping[str, Control]:
    """The schematic's controls, jacks and lights by reference."""
    from hw_schematics.schematic import sheets_of

    by_mpn = {part.mpn: key for key, part in read_parts().items()}
    return {
        placed.reference: Control(placed.fields["Panel"], by_mpn[placed.fields["MPN"]])
        for sheet in sheets_of(draw.module())
        for placed in sheet.placed
        if "Panel" in placed.fields
    }


# ---- reading ----


def read_panel(path: Path = PANEL) -> Panel:
    """Read the table. DarkrackError names the key of what is unknown, missing or out of range."""
    page = read_page(path, "the panel's table")
    top, kinds, holes = page.table("panel"), page.table("kind"), page.table("hole")
    read_kinds = {name: _kind(name, kinds.table(name)) for name in kinds.content}
    read_holes = tuple(_hole(name, holes.table(name)) for name in holes.content)
    left, upper, right, lower = top.numbers("board_mm", 0.0, 300.0)
    parts = Counter(controls()[hole.reference].part for hole in read_holes if hole.reference in controls())
    found = {name: sum(parts[part] for part in kind.parts) for name, kind in read_kinds.items()}
    panel = Panel(
        hp=top.whole("hp", 2, 84) or 0,
        width_mm=top.number("width_mm", 5.0, 300.0),
        height_mm=top.number("height_mm", 100.0, 150.0),
        thickness_mm=top.number("thickness_mm", 1.0, 3.0),
        screw_hole_mm=top.number("screw_hole_mm", 2.5, 5.0),
        screw_head_mm=top.number("screw_head_mm", 4.0, 10.0),
        screws=tuple((x, y) for x, y in top.rows("screws_mm", ("x", 0.0, 300.0), ("y", 0.0, 150.0))),
        board=(left, upper, right, lower),
        kinds=read_kinds,
        holes=read_holes,
        words=tuple(_word(table) for table in page.tables("word")),
        lines=tuple(_line(table) for table in page.tables("line")),
        blocks=tuple(_block(table) for table in page.tables("block")),
        depth=tuple(_depth(table) for table in page.tables("depth")),
        hardware=tuple(_hardware(table, found, read_holes) for table in page.tables("hardware")),
    )
    for table in (top, page):
        table.refuse_unknown()
    return panel


def _text(table: Table, key: str) -> str:
    found = table.text(key)
    if found is None:
        raise DarkrackError(table.at(key), "a string", "none")
    return found


def _box(table: Table, key: str) -> Box:
    found = table.numbers(key, -300.0, 300.0)
    if len(found) != 4:
        raise DarkrackError(table.at(key), "left, top, right, bottom", str(list(found)))
    return found[0], found[1], found[2], found[3]


def _kind(name: str, table: Table) -> Kind:
    kind = Kind(
        name=name,
        parts=table.texts("parts"),
        thread_mm=table.number("thread_mm", 1.0, 20.0),
        body_mm=_box(table, "body_mm"),
        front_mm=table.number("front_mm", 1.0, 50.0),
        hand_mm=table.number("hand_mm", 1.0, 50.0),
        seat_mm=table.number("seat_mm", 0.0, 30.0),
        bush_mm=table.number("bush_mm", 0.0, 30.0),
        nut_mm=table.number("nut_mm", 0.0, 10.0),
        source=_text(table, "source"),
    )
    table.refuse_unknown()
    return kind


def _hole(reference: str, table: Table) -> Hole:
    hole = Hole(
        reference=reference,
        x=table.number("x", 0.0, 300.0),
        y=table.number("y", 0.0, 150.0),
        d=table.number("d", 1.0, 30.0),
        name=_text(table, "name"),
        legend=_text(table, "legend"),
        beside=table.choice("beside", ("above", "right")) if "beside" in table.content else "above",
        scale=table.choice("scale", ("turn", "sign")) if "scale" in table.content else "",
    )
    table.refuse_unknown()
    return hole


def _word(table: Table) -> Word:
    word = Word(
        words=_text(table, "words"),
        x=table.number("x", 0.0, 300.0),
        y=table.number("y", 0.0, 150.0),
        cap_mm=table.number("cap_mm", 1.0, 20.0),
        tracking=table.number("tracking", 0.0, 2.0),
        weight=table.choice("weight", ("Medium", "SemiBold", "Bold")),
    )
    table.refuse_unknown()
    return word


def _line(table: Table) -> tuple[Point, Point]:
    x, y = (table.numbers(key, 0.0, 300.0) for key in ("x", "y"))
    table.refuse_unknown()
    return (x[0], y[0]), (x[1], y[1])


def _block(table: Table) -> Box:
    box = _box(table, "box_mm")
    table.refuse_unknown()
    return box


def _depth(table: Table) -> tuple[str, float]:
    found = (_text(table, "what"), table.number("mm", 0.1, 50.0))
    table.refuse_unknown()
    return found


def _hardware(table: Table, found: Mapping[str, int], holes: Sequence[Hole]) -> Hardware:
    way = table.form(
        per=("what", "mpn", "manufacturer", "alternates"),
        count=("what", "mpn", "manufacturer", "alternates"),
        names=("what", "mpn", "manufacturer", "alternates"),
    )
    names: tuple[str, ...] = ()
    if way == "per":
        for kind in table.texts("per"):
            if kind not in found:
                raise DarkrackError(table.at("per"), f"of {', '.join(found)}", repr(kind))
        quantity = sum(found[kind] for kind in table.texts("per"))
    elif way == "names":
        names = table.texts("names")
        for name in names:
            if name not in {hole.name for hole in holes}:
                raise DarkrackError(table.at("names"), "the name of a hole", repr(name))
        quantity = len(names)
    else:
        quantity = table.whole("count", 1, 1000) or 0
    what, mpn, manufacturer, alternates = (
        _text(table, key) for key in ("what", "mpn", "manufacturer", "alternates")
    )
    return Hardware(what, mpn, manufacturer, alternates, quantity, names)


# ---- what is printed ----


@dataclass(frozen=True)
class Ink:
    """One thing that is printed: polygons, filled where an odd number of them lies around.

    ``within``: the block that it is left out of, -1 for none; ``box``: left, top, right, bottom.
    """

    name: str
    polygons: tuple[Polygon, ...]
    box: Box
    words: bool = False
    within: int = -1


def art(panel: Panel) -> list[Ink]:
    """Everything that is printed: words and scales, then the blocks, out of which the words on them are left."""
    found = [_ink(panel, _legend(panel, hole)) for hole in panel.holes if hole.legend]
    for word in panel.words:
        words = letter(word.words, (word.x, word.y), word.cap_mm, weight=word.weight, tracking=word.tracking)
        found.append(_ink(panel, words))
    for hole in panel.holes:
        found += _scale(panel, hole)
    for number, (one, other) in enumerate(panel.lines, start=1):
        found.append(_stroke(f"line {number}", one, other))
    for number, box in enumerate(panel.blocks):
        left_out = tuple(polygon for ink in found if ink.within == number for polygon in ink.polygons)
        drilled = [hole for hole in panel.holes if _inside(box, hole, 0.0)]
        left_out += tuple(_rounded((hole.x, hole.y, hole.x, hole.y), -hole.d / 2) for hole in drilled)
        found.append(Ink(f"block {number + 1}", (_rounded(box, 2.0), *left_out), box))
    return found


def _legend(panel: Panel, hole: Hole) -> Lettering:
    kind = panel.kind_of(hole)
    number = hole.legend.isdigit()
    cap = NUMBER_CAP_MM if number else CAP_MM
    weight = "Bold" if number else "SemiBold"
    if hole.beside == "right":
        return letter(hole.legend, (hole.x + 3.4, hole.y + cap / 2), cap, "left", weight=weight)
    up = kind.front_mm / 2 + (3.0 if hole.scale or kind.name == "encoder" else 2.2)
    return letter(hole.legend, (hole.x, hole.y - up), cap, weight=weight)


def _ink(panel: Panel, words: Lettering) -> Ink:
    within = [number for number, box in enumerate(panel.blocks) if _overlap(words.box, box)]
    return Ink(words.words, words.polygons, words.box, words=True, within=within[0] if within else -1)


def _bounds(polygon: Polygon) -> Box:
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return min(xs), min(ys), max(xs), max(ys)


def _stroke(name: str, one: Point, other: Point, width: float = LINE_MM) -> Ink:
    length = math.dist(one, other)
    nx, ny = (
        (one[1] - other[1]) / length * width / 2,
        (other[0] - one[0]) / length * width / 2,
    )
    polygon = tuple(
        (round(x, 4), round(y, 4))
        for x, y in (
            (one[0] + nx, one[1] + ny),
            (other[0] + nx, other[1] + ny),
            (other[0] - nx, other[1] - ny),
            (one[0] - nx, one[1] - ny),
        )
    )
    return Ink(name, (polygon,), _bounds(polygon))


def _around(hole: Hole, degrees: float, radius: float) -> Point:
    """A point beside a knob; 0 degrees is up, clockwise."""
    angle = math.radians(degrees)
    return hole.x + radius * math.sin(angle), hole.y - radius * math.cos(angle)


def _scale(panel: Panel, hole: Hole) -> Iterator[Ink]:
    """The marks around a knob."""
    if not hole.scale:
        return
    inner = panel.kind_of(hole).front_mm / 2 + 0.9
    end = TURN_DEG / 2
    if hole.scale == "turn":
        for tick in range(TICKS):
            degrees = -end + TURN_DEG * tick / (TICKS - 1)
            long = 1.5 if tick in {0, TICKS // 2, TICKS - 1} else 0.9
            if tick == TICKS // 2 and hole.legend:
                long = 0.9  # under the legend
            yield _stroke(
                f"{hole.name} tick {tick}",
                _around(hole, degrees, inner),
                _around(hole, degrees, inner + long),
            )
        return
    yield _stroke(f"{hole.name} 0", _around(hole, 0.0, inner), _around(hole, 0.0, inner + 1.5))
    for sign in (-1, 1):
        x, y = _around(hole, sign * end, inner + 1.1)
        yield _stroke(f"{hole.name} {'+' if sign > 0 else '-'}", (x - 0.8, y), (x + 0.8, y))
        if sign > 0:
            yield _stroke(f"{hole.name} + upright", (x, y - 0.8), (x, y + 0.8))


def _rounded(box: Box, radius: float) -> Polygon:
    """A box with round corners; with a radius below zero the box grows by it, and a point becomes a circle."""
    left, upper, right, lower = box
    if radius < 0:
        return _rounded((left + radius, upper + radius, right - radius, lower - radius), -radius)
    points = []
    for cx, cy, start in (
        (right - radius, upper + radius, -90),
        (right - radius, lower - radius, 0),
        (left + radius, lower - radius, 90),
        (left + radius, upper + radius, 180),
    ):
        for step in range(9):
            angle = math.radians(start + 90 * step / 8)
            points.append((round(cx + radius * math.cos(angle), 4), round(cy + radius * math.sin(angle), 4)))
    return tuple(points)


# ---- what could be wrong ----


def _overlap(one: Box, other: Box, gap: float = 0.0) -> bool:
    return (
        one[0] < other[2] + gap
        and other[0] < one[2] + gap
        and one[1] < other[3] + gap
        and other[1] < one[3] + gap
    )


def _meets(box: Box, centre: Point, diameter: float, gap: float) -> bool:
    """Whether a box comes nearer to a circle than ``gap``."""
    dx = max(box[0] - centre[0], 0.0, centre[0] - box[2])
    dy = max(box[1] - centre[1], 0.0, centre[1] - box[3])
    return math.hypot(dx, dy) < diameter / 2 + gap


def _inside(box: Box, hole: Hole, radius: float) -> bool:
    return box[0] + radius <= hole.x <= box[2] - radius and box[1] + radius <= hole.y <= box[3] - radius


def faults(panel: Panel) -> list[str]:
    """What is wrong with the panel, a line each; empty where it can be made and played."""
    return [*_table(panel), *_mounting(panel), *_behind(panel), *_before(panel), *_printed(panel)]


def _table(panel: Panel) -> Iterator[str]:
    """Holes against the schematic's controls, and diameters against the parts."""
    holes = {hole.reference: hole for hole in panel.holes}
    for reference in sorted({*controls()} - {*holes}):
        yield f"{reference} ({controls()[reference].name}): no hole"
    for reference in sorted({*holes} - {*controls()}):
        yield f"{reference} ({holes[reference].name}): a hole for nothing of the schematic"
    for reference in sorted({*holes} & {*controls()}):
        hole = holes[reference]
        if hole.name != controls()[reference].name:
            yield f"{reference}: {hole.name!r} here, {controls()[reference].name!r} in the schematic"
        kind = panel.kind_of(hole)
        if hole.d != CLEARANCE_MM[kind.thread_mm]:
            yield f"{reference}: a hole of {hole.d:g} mm for {kind.thread_mm:g} mm ({CLEARANCE_MM[kind.thread_mm]:g})"
        if hole.legend and hole.legend not in hole.name:
            yield f"{reference}: {hole.legend!r} is printed at {hole.name!r}"


def _mounting(panel: Panel) -> Iterator[str]:
    """The rack's standard."""
    if panel.width_mm != WIDTHS_MM.get(panel.hp):
        yield f"{panel.hp} HP: {panel.width_mm:g} mm"
    if panel.height_mm != 128.5:
        yield f"3U: {panel.height_mm:g} mm"
    for x, y in panel.screws:
        steps = (x - 7.5) / HP_MM
        if (
            y not in (3.0, panel.height_mm - 3.0)
            or abs(steps - round(steps)) > 0.01
            or not 0 < x < panel.width_mm
        ):
            yield f"a screw at {x:g}, {y:g}: not on the rack's grid"
    if panel.screw_hole_mm != CLEARANCE_MM[3.0]:
        yield f"screw holes of {panel.screw_hole_mm:g} mm"


def _body(panel: Panel, hole: Hole) -> Box:
    left, upper, right, lower = panel.kind_of(hole).body_mm
    return hole.x + left, hole.y + upper, hole.x + right, hole.y + lower


def _behind(panel: Panel) -> Iterator[str]:
    """On the board: bodies between the rails and apart from each other, bushes that reach through the panel."""
    left, upper, right, lower = panel.board
    gap = next(mm for what, mm in panel.depth if what.startswith("pots"))
    for hole in panel.holes:
        box, kind = _body(panel, hole), panel.kind_of(hole)
        if box[0] < left or box[1] < upper or box[2] > right or box[3] > lower:
            yield f"{hole.name}: off the board between the rails"
        if kind.seat_mm > gap:
            yield f"{hole.name}: {kind.seat_mm:g} mm high, {gap:g} mm to the panel"
        thread = kind.seat_mm + kind.bush_mm - gap - panel.thickness_mm
        if thread < (GRIPPED_MM if kind.nut_mm else 0.0):
            yield f"{hole.name}: its bush comes {thread:.1f} mm out of the panel"
    for one, other in itertools.combinations(panel.holes, 2):
        if _overlap(_body(panel, one), _body(panel, other)):
            yield f"{one.name} and {other.name}: one body in the other"


def _before(panel: Panel) -> Iterator[str]:
    """Before the panel: room for knobs, plugs and fingers."""
    for hole in panel.holes:
        for x, y in panel.screws:
            free = (
                math.dist((x, y), (hole.x, hole.y))
                - panel.screw_head_mm / 2
                - panel.kind_of(hole).hand_mm / 2
            )
            if free < 1.0:
                yield f"{hole.name}: {free:.1f} mm from a screw's head"
    for one, other in itertools.combinations(panel.holes, 2):
        kinds = {panel.kind_of(one).name, panel.kind_of(other).name}
        apart = math.dist((one.x, one.y), (other.x, other.y))
        free = apart - (panel.kind_of(one).hand_mm + panel.kind_of(other).hand_mm) / 2
        plugs = kinds <= {"jack", "stereo_jack"}
        need = 0.5 if "light" in kinds else PLUG_MM if plugs else FINGER_MM
        if free < need:
            yield f"{one.name} and {other.name}: {free:.1f} mm apart, {need:g} wanted"


def _printed(panel: Panel) -> Iterator[str]:
    """What is printed is high enough and lies on nothing."""
    inks = art(panel)
    for ink in inks:
        if ink.words and min(CAP_MM, NUMBER_CAP_MM, *(word.cap_mm for word in panel.words)) < SMALLEST_CAP_MM:
            yield f"{ink.name!r}: capitals under {SMALLEST_CAP_MM:g} mm"
        if (
            ink.box[0] < 1.0
            or ink.box[2] > panel.width_mm - 1.0
            or ink.box[1] < 1.0
            or ink.box[3] > panel.height_mm - 1
        ):
            yield f"{ink.name!r}: over the edge"
        for x, y in panel.screws:
            if _meets(ink.box, (x, y), panel.screw_head_mm, INK_MM):
                yield f"{ink.name!r}: under a screw's head"
        if ink.name.startswith("block"):
            continue
        for hole in panel.holes:
            gap = WORD_MM if ink.words else INK_MM
            if _meets(ink.box, (hole.x, hole.y), panel.kind_of(hole).front_mm, gap):
                yield f"{ink.name!r}: under {hole.name}"
        if ink.words and ink.within >= 0:
            box = panel.blocks[ink.within]
            if not (
                box[0] < ink.box[0] - WORD_MM
                and ink.box[2] + WORD_MM < box[2]
                and box[1] < ink.box[1] - WORD_MM
            ):
                yield f"{ink.name!r}: over the edge of its block"
    for hole in panel.holes:
        for number, box in enumerate(panel.blocks):
            wide = panel.kind_of(hole).front_mm
            if _meets(box, (hole.x, hole.y), wide, INK_MM) and not _inside(box, hole, wide / 2 + INK_MM):
                yield f"{hole.name}: at the edge of block {number + 1}"
    apart = [ink for ink in inks if not ink.name.startswith("block")]
    for one, other in itertools.combinations(apart, 2):
        if _overlap(one.box, other.box, INK_MM) and (one.words or other.words):
            yield f"{one.name!r} and {other.name!r}: printed on each other"
    for ink in apart:
        for number, box in enumerate(panel.blocks):
            if ink.within != number and _overlap(ink.box, box, WORD_MM):
                yield f"{ink.name!r}: at the edge of block {number + 1}"
