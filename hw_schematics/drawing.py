"""What is drawn on a sheet: symbols, wires, labels and words, and whether any two of them are in each other's way.

Everything is measured in grid units of 2.54 mm, x to the right and y downwards, so that pins lie on halves of whole
numbers and meet. `hw_schematics.kicad_file` writes a sheet in KiCad's format. A symbol is never turned or
mirrored: where a part is wanted lying down there is a symbol that lies. So no text turns with it, and what
is drawn is what is meant.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

GRID_MM = 2.54
TEXT_MM = 1.27  # of fields and labels; at A4 as high as a newspaper's
CHAR_WIDTH = 0.95  # of a character of KiCad's own font, in its height; measured on the rendered sheets
PAPER = (297.0 / GRID_MM, 210.0 / GRID_MM)
FRAME = 12.0 / GRID_MM  # of the drawing sheet, with its letters
TITLE_BLOCK = (
    PAPER[0] - 120.0 / GRID_MM,
    PAPER[1] - 46.0 / GRID_MM,
)  # what lies right of and below it is the title's

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Pin:
    """A pin whose wire ends at (x, y); its line runs ``length`` towards the body, which lies to the ``body`` side."""

    number: str
    name: str
    kind: str  # KiCad's: passive, input, output, power_in, power_out, open_collector, tri_state, no_connect
    x: float
    y: float
    body: str  # "right", "left", "down", "up"
    length: float = 1.0


@dataclass(frozen=True)
class Shape:
    """One stroke: "line" (points), "box" (two corners), "circle" (centre, radius in ``size``) or "text" (a point)."""

    kind: str
    points: tuple[Point, ...]
    size: float = 0.0
    filled: str = "none"  # "outline" solid, "background" in the colour of bodies
    words: str = ""


@dataclass(frozen=True)
class Unit:
    """What of a symbol is drawn in one place: most parts have one unit, four amplifiers in one package have five."""

    pins: tuple[Pin, ...]
    shapes: tuple[Shape, ...]
    body: Box
    reference_at: Point
    value_at: Point
    justify: str = "left"  # of reference and value: "left", "right" or "centre"


@dataclass(frozen=True)
class Symbol:
    """How a part looks. ``power``: its value names a net that is the same on all sheets."""

    name: str
    prefix: str
    units: Mapping[int, Unit]
    pin_names: bool = False
    pin_numbers: bool = False
    power: bool = False


@dataclass(frozen=True)
class Placed:
    """A unit of a part on a sheet; (x, y) is the symbol's origin."""

    symbol: Symbol
    unit: int
    reference: str
    value: str
    x: float
    y: float
    fields: Mapping[str, str]
    reference_at: Point  # of the text, on the sheet
    value_at: Point
    justify: str
    show_value: bool = True

    def pin(self, number: str) -> Point:
        """Where the wire of a pin ends."""
        for pin in self.symbol.units[self.unit].pins:
            if pin.number == number:
                return (self.x + pin.x, self.y + pin.y)
        raise KeyError(f"{self.reference} unit {self.unit} has no pin {number}")


@dataclass(frozen=True)
class Label:
    """A hierarchical label: ``name`` goes on as a pin of this sheet's box one sheet higher. ``to``: "left", "right"."""

    name: str
    shape: str  # input, output, bidirectional, tri_state, passive
    at: Point
    to: str


@dataclass(frozen=True)
class Words:
    """Text that explains; ``at`` is its upper left corner."""

    words: str
    at: Point
    size_mm: float = TEXT_MM
    bold: bool = False


@dataclass(frozen=True)
class SubsheetPin:
    """A pin of a subsheet's box on the ``side`` "left" or "right", ``down`` below its top."""

    name: str
    shape: str
    side: str
    down: float


@dataclass(frozen=True)
class Subsheet:
    """The box that stands for another sheet."""

    sheet: Sheet
    x: float
    y: float
    width: float
    height: float
    pins: tuple[SubsheetPin, ...]

    def pin(self, name: str) -> Point:
        """Where the wire of a pin ends."""
        found = next(pin for pin in self.pins if pin.name == name)
        return (self.x + (self.width if found.side == "right" else 0.0), self.y + found.down)


@dataclass
class Sheet:
    """One sheet, while it is drawn. ``name`` is its file's, ``title`` stands in the title block."""

    name: str
    title: str
    comment: str = ""
    page: int = 1
    placed: list[Placed] = field(default_factory=list)
    wires: list[tuple[Point, Point]] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    unconnected: list[Point] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    subsheets: list[Subsheet] = field(default_factory=list)

    def place(
        self,
        symbol: Symbol,
        reference: str,
        value: str,
        at: Point,
        *,
        unit: int = 1,
        fields: Mapping[str, str] | None = None,
        reference_by: Point = (0.0, 0.0),
        value_by: Point = (0.0, 0.0),
        justify: str = "",
        show_value: bool = True,
    ) -> Placed:
        """Put a symbol down; ``reference_by`` and ``value_by`` move its texts from where they usually are."""
        look = symbol.units[unit]
        placed = Placed(
            symbol=symbol,
            unit=unit,
            reference=reference,
            value=value,
            x=at[0],
            y=at[1],
            fields=fields or {},
            reference_at=_sum(at, look.reference_at, reference_by),
            value_at=_sum(at, look.value_at, value_by),
            justify=justify or look.justify,
            show_value=show_value,
        )
        self.placed.append(placed)
        return placed

    def wire(self, *points: Point) -> None:
        """Wires through these points, each straight along or across; where two in a row are neither, it turns once.

        The turn comes at the end: first along x, then along y.
        """
        for begin, end in itertools.pairwise(points):
            corner = (end[0], begin[1])
            for one, other in ((begin, corner), (corner, end)):
                if one != other:
                    self.wires.append((one, other))

    def label(self, name: str, shape: str, at: Point, to: str) -> Point:
        """A hierarchical label at the end of a wire, its flag to that side; the same point again."""
        self.labels.append(Label(name, shape, at, to))
        return at

    def nothing(self, *points: Point) -> None:
        """These pins are meant to be left open."""
        self.unconnected.extend(points)

    def say(self, words: str, at: Point, size_mm: float = TEXT_MM, *, bold: bool = False) -> None:
        """Write something on the sheet."""
        self.words.append(Words(words, at, size_mm, bold))

    def box(self, sheet: Sheet, at: Point, size: Point, pins: tuple[SubsheetPin, ...]) -> Subsheet:
        """A box for another sheet."""
        self.subsheets.append(Subsheet(sheet, at[0], at[1], size[0], size[1], pins))
        return self.subsheets[-1]

    def pin_points(self) -> list[Point]:
        """Where pins of symbols and boxes end."""
        found = [
            (placed.x + pin.x, placed.y + pin.y)
            for placed in self.placed
            for pin in placed.symbol.units[placed.unit].pins
        ]
        return found + [box.pin(pin.name) for box in self.subsheets for pin in box.pins]

    def junctions(self) -> list[Point]:
        """Where three or more ends meet: KiCad joins what merely crosses only where there is a dot."""
        pins = self.pin_points()
        ends = [point for wire in self.wires for point in wire]
        found = set()
        for point in {*pins, *ends}:
            through = sum(_inside(point, wire) for wire in self.wires)
            if ends.count(point) + pins.count(point) + 2 * through >= 3 and (
                through or ends.count(point) > 1
            ):
                found.add(point)
        return sorted(found)

    def segments(self) -> list[tuple[Point, Point]]:
        """The wires, cut at every junction: KiCad joins ends only."""
        cuts = self.junctions()
        found = []
        for begin, end in self.wires:
            stops = [begin, *(cut for cut in cuts if _inside(cut, (begin, end))), end]
            stops.sort(reverse=begin > end)
            found += list(itertools.pairwise(stops))
        return list(dict.fromkeys(found))


def _sum(*points: Point) -> Point:
    return (round(sum(point[0] for point in points), 4), round(sum(point[1] for point in points), 4))


def _inside(point: Point, wire: tuple[Point, Point]) -> bool:
    """Whether a point lies on a wire, but at neither end."""
    (x0, y0), (x1, y1) = wire
    x, y = point
    if x0 == x1 == x:
        return min(y0, y1) < y < max(y0, y1)
    return y0 == y1 == y and min(x0, x1) < x < max(x0, x1)


# ---- what is in whose way ----


def text_box(words: str, at: Point, justify: str, size_mm: float = TEXT_MM) -> Box:
    """The box of text: at its left end, right end or centre, and at half its height."""
    lines = words.split("\n")
    width = max(len(line) for line in lines) * CHAR_WIDTH * size_mm / GRID_MM
    height = (1.0 + 1.6 * (len(lines) - 1)) * size_mm / GRID_MM
    left = at[0] - {"left": 0.0, "right": width, "centre": width / 2}[justify]
    return (left, at[1] - height / 2, left + width, at[1] + height / 2)


def _label_box(label: Label) -> Box:
    """A flag: half a height of arrow, and the name."""
    lead = TEXT_MM * 1.2 / GRID_MM
    left, top, right, bottom = text_box(label.name, label.at, "left" if label.to == "right" else "right")
    return (
        (left + lead, top, right + lead, bottom)
        if label.to == "right"
        else (left - lead, top, right - lead, bottom)
    )


def _shrunk(box: Box, by: float) -> Box:
    return (box[0] + by, box[1] + by, box[2] - by, box[3] - by)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@dataclass(frozen=True)
class Thing:
    """Something with a place; ``kind`` is text, body, wire, or the edge of a box that stands for a sheet."""

    kind: str
    name: str
    box: Box


def things(sheet: Sheet) -> Iterator[Thing]:
    """Everything on a sheet that takes up room."""
    for placed in sheet.placed:
        look = placed.symbol.units[placed.unit]
        left, top, right, bottom = look.body
        x, y = placed.x, placed.y
        yield Thing("body", placed.reference, (x + left, y + top, x + right, y + bottom))
        if not placed.symbol.power:
            where = text_box(placed.reference, placed.reference_at, placed.justify)
            yield Thing("text", placed.reference, where)
        if placed.show_value:
            yield Thing("text", placed.value, text_box(placed.value, placed.value_at, placed.justify))
    for label in sheet.labels:
        yield Thing("text", label.name, _label_box(label))
    for words in sheet.words:
        left, top = words.at
        box = text_box(words.words, (0.0, 0.0), "left", words.size_mm)
        yield Thing("text", words.words.split("\n")[0], (left, top, left + box[2], top + box[3] - box[1]))
    for box_of in sheet.subsheets:
        left, top = box_of.x, box_of.y
        right, bottom = left + box_of.width, top + box_of.height
        for number, edge in enumerate(((left, top, left, bottom), (right, top, right, bottom))):
            yield Thing("edge", f"{box_of.sheet.title} {number}", edge)
        yield Thing("text", box_of.sheet.title, text_box(box_of.sheet.title, (left, top - 0.5), "left", 1.5))
        yield Thing(
            "text",
            box_of.sheet.name,
            text_box(f"File: {box_of.sheet.name}.kicad_sch", (left, bottom + 0.4), "left", 1.0),
        )
        for pin in box_of.pins:
            lead = TEXT_MM * 1.2 / GRID_MM * (1 if pin.side == "left" else -1)
            x, y = box_of.pin(pin.name)
            yield Thing("text", pin.name, text_box(pin.name, (x + lead, y), "left" if lead > 0 else "right"))
    for (x0, y0), (x1, y1) in sheet.wires:
        yield Thing("wire", "a wire", (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))


def collisions(sheet: Sheet) -> list[str]:
    """What lies on something else: text on anything, bodies on bodies and wires, anything off the sheet."""
    found = []
    everything = list(things(sheet))
    for number, one in enumerate(everything):
        box = one.box
        if box[0] < FRAME or box[1] < FRAME or box[2] > PAPER[0] - FRAME or box[3] > PAPER[1] - FRAME:
            found.append(f"{sheet.name}: {one.name!r} leaves the frame")
        if box[2] > TITLE_BLOCK[0] and box[3] > TITLE_BLOCK[1]:
            found.append(f"{sheet.name}: {one.name!r} lies on the title block")
        for other in everything[number + 1 :]:
            kinds = {one.kind, other.kind}
            if kinds <= {"wire", "edge"}:
                continue
            grown = {
                "text": lambda thing: _shrunk(thing.box, 0.02),
                "body": lambda thing: _shrunk(thing.box, 0.05),
                "wire": lambda thing: _shrunk(thing.box, -0.03),
                "edge": lambda thing: _shrunk(thing.box, -0.03),
            }
            if _overlap(grown[one.kind](one), grown[other.kind](other)):
                found.append(f"{sheet.name}: {one.kind} {one.name!r} and {other.kind} {other.name!r}")
    return found


def with_value(sheet: Sheet, reference: str, value: str) -> None:
    """Give every unit of a part another value."""
    sheet.placed = [
        dataclasses.replace(placed, value=value) if placed.reference == reference else placed
        for placed in sheet.placed
    ]
