"""The symbols: drawn here, one for every way a part lies, so that nothing on a sheet is turned or mirrored."""

from __future__ import annotations

from collections.abc import Sequence

from hw_schematics.drawing import Box, Pin, Point, Shape, Symbol, Unit

PASSIVE = "passive"


def line(*points: Point) -> Shape:
    """A stroke through these points."""
    return Shape("line", points)


def solid(*points: Point) -> Shape:
    """A filled shape."""
    return Shape("line", (*points, points[0]), filled="outline")


def rectangle(left: float, top: float, right: float, bottom: float) -> Shape:
    """A body."""
    return Shape("box", ((left, top), (right, bottom)), filled="background")


def circle(x: float, y: float, radius: float, filled: str = "none") -> Shape:
    """A ring."""
    return Shape("circle", ((x, y),), radius, filled)


def word(words: str, x: float, y: float, size_mm: float = 1.27) -> Shape:
    """Text that belongs to the drawing."""
    return Shape("text", ((x, y),), size_mm, words=words)


def _one(name: str, prefix: str, unit: Unit, **more: bool) -> Symbol:
    return Symbol(name, prefix, {1: unit}, **more)


def _lying(name: str, prefix: str, shapes: Sequence[Shape], *, reach: float = 1.5, high: float = 0.4,
           numbers: tuple[str, str] = ("1", "2"), names: tuple[str, str] = ("~", "~")) -> Symbol:  # fmt: skip
    """Two pins left and right."""
    lead = reach - 1.0
    pins = (
        Pin(numbers[0], names[0], PASSIVE, -reach, 0, "right", lead),
        Pin(numbers[1], names[1], PASSIVE, reach, 0, "left", lead),
    )
    look = Unit(pins, tuple(shapes), (-1, -high, 1, high), (0, -high - 0.45), (0, high + 0.45), "centre")
    return _one(name, prefix, look)


def _standing(name: str, prefix: str, shapes: Sequence[Shape], *, reach: float, body: float, wide: float,
              numbers: tuple[str, str] = ("1", "2"), names: tuple[str, str] = ("~", "~")) -> Symbol:  # fmt: skip
    """Two pins above and below; the texts stand to the right."""
    pins = (
        Pin(numbers[0], names[0], PASSIVE, 0, -reach, "down", reach - body),
        Pin(numbers[1], names[1], PASSIVE, 0, reach, "up", reach - body),
    )
    look = Unit(pins, tuple(shapes), (-wide, -body, wide, body), (wide + 0.3, -0.38), (wide + 0.3, 0.38))
    return _one(name, prefix, look)


RESISTOR_LYING = _lying("R_lying", "R", [rectangle(-1, -0.4, 1, 0.4)])
RESISTOR = _standing("R", "R", [rectangle(-0.4, -1, 0.4, 1)], reach=1.5, body=1, wide=0.4)
CAPACITOR = _standing(
    "C",
    "C",
    [line((-0.8, -0.15), (0.8, -0.15)), line((-0.8, 0.15), (0.8, 0.15))],
    reach=1,
    body=0.15,
    wide=0.8,
)
CAPACITOR_LYING = _lying(
    "C_lying",
    "C",
    [
        line((-0.15, -0.8), (-0.15, 0.8)),
        line((0.15, -0.8), (0.15, 0.8)),
        line((-1, 0), (-0.15, 0)),
        line((0.15, 0), (1, 0)),
    ],
    high=0.8,
)
CAPACITOR_POLAR = _standing(
    "C_polar",
    "C",
    [Shape("box", ((-0.8, -0.3), (0.8, -0.1))), Shape("box", ((-0.8, 0.1), (0.8, 0.3)), filled="outline"),
     line((-0.9, -0.6), (-0.5, -0.6)), line((-0.7, -0.8), (-0.7, -0.4))],
    reach=1, body=0.3, wide=0.8, names=("+", "-"),
)  # fmt: skip
INDUCTOR_LYING = _lying("L_lying", "L", [Shape("box", ((-1, -0.3), (1, 0.3)), filled="outline")], high=0.3)
FERRITE_LYING = _lying(
    "FB_lying", "FB", [rectangle(-1, -0.4, 1, 0.4), line((-0.5, 0.7), (0.5, -0.7))], high=0.7
)
FUSE_LYING = _lying(
    "Polyfuse_lying",
    "F",
    [rectangle(-1, -0.4, 1, 0.4), line((-1, 0), (1, 0)), line((-1.0, 0.8), (-0.6, 0.8), (0.7, -0.7))],
    high=0.7,
)


def _diode(side: str, *, schottky: bool = False, led: bool = False) -> Symbol:
    """Current flows towards ``side``; pin 1 is the cathode, 2 the anode."""
    bar = [(0.5, -0.6), (0.5, 0.6)]
    shapes = [line((-0.5, -0.6), (-0.5, 0.6), (0.5, 0.0), (-0.5, -0.6)), line((-1, 0), (1, 0))]
    if schottky:
        shapes.append(line((0.25, -0.4), (0.25, -0.6), *bar, (0.75, 0.6), (0.75, 0.4)))
    else:
        shapes.append(line(*bar))
    if led:
        for shift in (0.0, 0.5):
            shapes.append(line((0.1 + shift, -0.7), (0.6 + shift, -1.3)))
            shapes.append(solid((0.6 + shift, -1.3), (0.3 + shift, -1.15), (0.52 + shift, -0.98)))

    def turn(x: float, y: float) -> Point:
        """From lying to the right to the side that is wanted."""
        return {"right": (x, y), "left": (-x, y), "up": (-y, -x), "down": (-y, x)}[side]

    turned = [Shape(one.kind, tuple(turn(*at) for at in one.points), one.size, one.filled) for one in shapes]
    kind = "LED" if led else "D_Schottky" if schottky else "D"
    high = 1.3 if led else 0.6
    if side in ("right", "left"):
        numbers, names = (("2", "1"), ("A", "K")) if side == "right" else (("1", "2"), ("K", "A"))
        return _lying(f"{kind}_{side}", "D", turned, high=high, numbers=numbers, names=names)
    numbers, names = (("1", "2"), ("K", "A")) if side == "up" else (("2", "1"), ("A", "K"))
    return _standing(
        f"{kind}_{side}", "D", turned, reach=1.5, body=1, wide=high, numbers=numbers, names=names
    )


DIODE_UP = _diode("up")
DIODE_DOWN = _diode("down")
SCHOTTKY_LEFT = _diode("left", schottky=True)
SCHOTTKY_UP = _diode("up", schottky=True)
SCHOTTKY_RIGHT = _diode("right", schottky=True)
LED_DOWN = _diode("down", led=True)

_CLAMP = (
    line((-0.5, -0.8), (0.5, -0.8), (0, -1.6), (-0.5, -0.8)), line((-0.5, -1.6), (0.5, -1.6)),
    line((-0.5, 1.6), (0.5, 1.6), (0, 0.8), (-0.5, 1.6)), line((-0.5, 0.8), (0.5, 0.8)),
    line((0, -2), (0, 2)), line((-1, 0), (0, 0)), circle(0, 0, 0.1, "outline"),
)  # fmt: skip


def _clamp(name: str) -> Symbol:
    """Two diodes in a row: pin 1 the lower anode, 2 the upper cathode, 3 between them."""
    pins = (
        Pin("2", "K", PASSIVE, 0, -2.5, "down", 0.5),
        Pin("3", "AK", PASSIVE, -1.5, 0, "right", 0.5),
        Pin("1", "A", PASSIVE, 0, 2.5, "up", 0.5),
    )
    return _one(name, "D", Unit(pins, _CLAMP, (-0.6, -2, 0.6, 2), (0.9, -0.4), (0.9, 0.4)))


CLAMP_SCHOTTKY = _clamp("D_pair_Schottky")
CLAMP = _clamp("D_pair")


def _triangle(plus_top: bool) -> tuple[Shape, ...]:
    plus_y, minus_y = (-1, 1) if plus_top else (1, -1)
    return (
        Shape("line", ((-1.5, -2), (-1.5, 2), (1.5, 0), (-1.5, -2)), filled="background"),
        line((-1.25, plus_y), (-0.75, plus_y)),
        line((-1.0, plus_y - 0.25), (-1.0, plus_y + 0.25)),
        line((-1.25, minus_y), (-0.75, minus_y)),
    )


_AMPLIFIER_BODY: Box = (-1.5, -1.2, 0.6, 1.2)


def _amplifier_unit(plus: str, minus: str, out: str, plus_top: bool) -> Unit:
    pins = (
        Pin(plus, "+", "input", -2.5, -1 if plus_top else 1, "right"),
        Pin(minus, "-", "input", -2.5, 1 if plus_top else -1, "right"),
        Pin(out, "~", "output", 2.5, 0, "left"),
    )
    return Unit(pins, _triangle(plus_top), _AMPLIFIER_BODY, (0.3, -2.15), (0.3, -1.4))


def quad_amplifier(name: str, tops: str) -> Symbol:
    """Four amplifiers in the usual order of pins; ``tops`` says of A to D which input is drawn above, "+" or "-"."""
    pins = (("3", "2", "1"), ("5", "6", "7"), ("10", "9", "8"), ("12", "13", "14"))
    units = {
        number: _amplifier_unit(*which, plus_top=top == "+")
        for number, (which, top) in enumerate(zip(pins, tops, strict=True), start=1)
    }
    supply = (Pin("4", "V+", "power_in", 0, -2, "down"), Pin("11", "V-", "power_in", 0, 2, "up"))
    box = (
        Shape("box", ((-0.8, -1), (0.8, 1)), filled="background"),
        word("V+", 0, -0.6, 1.0),
        word("V-", 0, 0.6, 1.0),
    )
    units[5] = Unit(supply, box, (-0.8, -1, 0.8, 1), (1.1, -0.4), (1.1, 0.4))
    return Symbol(name, "U", units, pin_numbers=True)


def _single_amplifier() -> Symbol:
    unit = _amplifier_unit("3", "4", "1", plus_top=True)
    supply = (
        Pin("5", "V+", "power_in", -0.5, -2.5, "down", 1.17), Pin("2", "V-", "power_in", -0.5, 2.5, "up", 1.17),
    )  # fmt: skip
    look = Unit((*unit.pins, *supply), unit.shapes, unit.body, unit.reference_at, unit.value_at)
    return _one("OPA388", "U", look, pin_numbers=True)


AMPLIFIER = _single_amplifier()
QUAD_TL074 = quad_amplifier("TL074", "---+")
QUAD_MCP6004 = quad_amplifier("MCP6004", "++++")
QUAD_OPA1679 = quad_amplifier("OPA1679", "++++")
_STEP = (
    line((-1.0, 0.3), (-0.5, 0.3), (-0.5, -0.3), (0.0, -0.3)),
    line((-0.7, 0.3), (-0.3, 0.3), (-0.3, -0.3)),
)
_BUFFER = Shape("line", ((-1.5, -1.5), (-1.5, 1.5), (1.2, 0), (-1.5, -1.5)), filled="background")


def _schmitt_unit(pin_in: str, pin_out: str, supply: tuple[str, str] | None = None) -> Unit:
    pins = [Pin(pin_in, "A", "input", -2.5, 0, "right"), Pin(pin_out, "Y", "output", 2.5, 0, "left", 1.3)]
    if supply:
        pins.append(Pin(supply[0], "VCC", "power_in", -0.5, -2, "down", 1.05))
        pins.append(Pin(supply[1], "GND", "power_in", -0.5, 2, "up", 1.05))
    look = (-1.5, -0.8, 0.4, 0.8)
    return Unit(tuple(pins), (_BUFFER, *_STEP), look, (0.2, -2.0), (0.2, -1.25))


SCHMITT_SINGLE = _one("74LVC1G17", "U", _schmitt_unit("2", "4", ("5", "3")), pin_numbers=True)
SCHMITT_DUAL = Symbol(
    "74LVC2G17",
    "U",
    {
        1: _schmitt_unit("1", "6"),
        2: _schmitt_unit("3", "4"),
        3: Unit(
            (Pin("5", "VCC", "power_in", 0, -2, "down"), Pin("2", "GND", "power_in", 0, 2, "up")),
            (rectangle(-0.9, -1, 0.9, 1), word("VCC", 0, -0.6, 1.0), word("GND", 0, 0.6, 1.0)),
            (-0.9, -1, 0.9, 1), (1.2, -0.4), (1.2, 0.4),
        ),
    },
    pin_numbers=True,
)  # fmt: skip


def box(
    name: str,
    left: Sequence[tuple[float, str, str, str]] = (),
    right: Sequence[tuple[float, str, str, str]] = (),
    top: Sequence[tuple[float, str, str, str]] = (),
    bottom: Sequence[tuple[float, str, str, str]] = (),
    *,
    size: Point,
    prefix: str = "U",
    shapes: Sequence[Shape] = (),
    names: bool = True,
) -> Symbol:
    """A box with its corner at the origin. A pin: how far along its side, number, name, kind."""
    wide, high = size
    pins = [
        *(Pin(number, name_, kind, -1, at, "right") for at, number, name_, kind in left),
        *(Pin(number, name_, kind, wide + 1, at, "left") for at, number, name_, kind in right),
        *(Pin(number, name_, kind, at, -1, "down") for at, number, name_, kind in top),
        *(Pin(number, name_, kind, at, high + 1, "up") for at, number, name_, kind in bottom),
    ]
    aside = max((at for at, *_ in top), default=-0.5) + 0.5  # right of the wires that leave upwards
    where: tuple[Point, Point] = ((aside, -1.25), (aside, -0.5))
    look = Unit(tuple(pins), (rectangle(0, 0, wide, high), *shapes), (0, 0, wide, high), *where, "left")
    return _one(name, prefix, look, pin_names=names, pin_numbers=True)


REFERENCE = box(
    "REF3433",
    left=[(1, "4", "IN", "power_in"), (2, "3", "EN", "input")],
    right=[(1, "6", "OUT_F", "power_out"), (2, "5", "OUT_S", "input")],
    bottom=[(2, "1", "GND_F", "power_in"), (5, "2", "GND_S", "power_in")],
    size=(7, 5),
)
ADS8325 = box(
    "ADS8325",
    left=[(3, "2", "+IN", "input"), (5, "3", "-IN", "input")],
    right=[(2, "5", "CS", "input"), (4, "7", "DCLOCK", "input"), (6, "6", "DOUT", "tri_state")],
    top=[(2, "1", "REF", "input"), (6, "8", "VDD", "power_in")],
    bottom=[(4, "4", "GND", "power_in")],
    size=(8, 8),
)


def mcp3x08(name: str, steps: Sequence[float], high: float) -> Symbol:
    """An eight-channel converter, its channels at these heights, so that wires to them run straight."""
    middle = high / 2
    return box(
        name,
        left=[(step, str(number + 1), f"CH{number}", "input") for number, step in enumerate(steps)],
        right=[
            (middle - 3, "10", "CS", "input"),
            (middle - 1, "13", "CLK", "input"),
            (middle + 1, "11", "DIN", "input"),
            (middle + 3, "12", "DOUT", "tri_state"),
        ],
        top=[(2, "15", "VREF", "input"), (6, "16", "VDD", "power_in")],
        bottom=[(2, "14", "AGND", "power_in"), (6, "9", "DGND", "power_in")],
        size=(8, high),
    )


EURORACK = box(
    "Eurorack_2x5",
    right=[
        (1, "9", "+12V", PASSIVE), (2, "10", "+12V", PASSIVE),
        *((number + 1.0, str(number), "GND", PASSIVE) for number in range(3, 9)),
        (12, "1", "-12V", PASSIVE), (13, "2", "-12V", PASSIVE),
    ],
    size=(6, 14),
    prefix="J",
)  # fmt: skip
BUCK = box(
    "TPS54302",
    left=[(1, "3", "VIN", "power_in"), (3, "5", "EN", "input")],
    right=[(1, "6", "BOOT", PASSIVE), (3, "2", "SW", "output"), (5, "4", "FB", "input")],
    bottom=[(4, "1", "GND", "power_in")],
    size=(8, 6),
)
IDEAL_DIODE = box(
    "LM74700",
    left=[(1, "6", "ANODE", PASSIVE), (3, "1", "VCAP", PASSIVE), (5, "3", "EN", "input")],
    right=[(1, "4", "CATHODE", "input"), (5, "2", "GND", "power_in")],
    top=[(4, "5", "GATE", "output")],
    size=(8, 6),
)
LDO = box(
    "TLV75533",
    left=[(1, "1", "IN", "power_in"), (3, "3", "EN", "input")],
    right=[(1, "5", "OUT", "power_out"), (3, "4", "NC", "no_connect")],
    bottom=[(3.5, "2", "GND", "power_in")],
    size=(7, 4),
)
DAC = box(
    "PCM5102A",
    left=[
        (2, "13", "BCK", "input"), (4, "15", "LRCK", "input"), (6, "14", "DIN", "input"),
        (9, "17", "XSMT", "input"), (11, "12", "SCK", "input"), (12.5, "16", "FMT", "input"),
        (14, "11", "FLT", "input"), (15.5, "10", "DEMP", "input"),
    ],
    right=[
        (2, "6", "OUTL", "output"), (5, "7", "OUTR", "output"), (8, "2", "CAPP", PASSIVE), (10, "4", "CAPM", PASSIVE),
        (12.5, "5", "VNEG", PASSIVE), (15, "18", "LDOO", PASSIVE),
    ],
    top=[(4, "1", "CPVDD", "power_in"), (7, "8", "AVDD", "power_in"), (10, "20", "DVDD", "power_in")],
    bottom=[(4, "3", "CPGND", "power_in"), (7, "9", "AGND", "power_in"), (10, "19", "DGND", "power_in")],
    size=(14, 17),
)  # fmt: skip
OPTOCOUPLER = box(
    "H11L1",
    left=[(1, "1", "A", PASSIVE), (4, "2", "K", PASSIVE)],
    right=[(1, "6", "VCC", "power_in"), (2.5, "4", "VO", "open_collector"), (4, "5", "GND", "power_in")],
    bottom=[(4, "3", "NC", "no_connect")],
    size=(8, 5),
    shapes=[
        line((0, 1), (2.3, 1), (2.3, 4), (0, 4)),
        solid((1.8, 2.1), (2.8, 2.1), (2.3, 2.9)), line((1.8, 2.9), (2.8, 2.9)),
        line((3.2, 2.2), (4.1, 2.2)), line((3.2, 2.8), (4.1, 2.8)),
        solid((4.1, 2.2), (3.8, 2.05), (3.8, 2.35)), solid((4.1, 2.8), (3.8, 2.65), (3.8, 2.95)),
    ],
    names=False,
)  # fmt: skip

_JACK_PINS = {"T": -1.0, "TN": 0.0, "R": 0.0, "S": 1.0}


def _jack(name: str, poles: Sequence[str], wires: str) -> Symbol:
    """A 3.5 mm jack whose wires leave to the "right" or "left"."""
    away = 1 if wires == "right" else -1
    pins = tuple(
        Pin(pole, pole, PASSIVE, 2.5 * away, _JACK_PINS[pole], "left" if away > 0 else "right", 1.0)
        for pole in poles
    )
    shapes: list[Shape] = [
        Shape("box", ((-1.5, -1.5), (1.5, 1.5)), filled="background"),
        Shape("box", ((-1.1 * away, 0.4), (-0.7 * away, 1.2)), filled="outline"),
        line((-0.9 * away, 1.0), (1.5 * away, 1.0)),
        line((-0.3 * away, -0.6), (0.0, -1.0), (1.5 * away, -1.0)),
        line((-0.3 * away, -0.6), (-0.6 * away, -1.0)),
    ]
    if "TN" in poles:
        shapes += [line((0.7 * away, -0.9), (0.7 * away, 0.0), (1.5 * away, 0.0)),
                   solid((0.7 * away, -0.95), (0.5 * away, -0.55), (0.9 * away, -0.55))]  # fmt: skip
    if "R" in poles:
        shapes += [
            line((0.1 * away, 0.4), (0.4 * away, 0.0), (1.5 * away, 0.0)),
            line((0.1 * away, 0.4), (-0.2 * away, 0.0)),
        ]
    look = Unit(pins, tuple(shapes), (-1.5, -1.5, 1.5, 1.5), (-1.5, -2.75), (-1.5, -2.0), "left")
    return _one(name, "J", look, pin_numbers=True)


JACK_IN = _jack("Jack_in", ("T", "TN", "S"), "right")
JACK_OUT = _jack("Jack_out", ("T", "TN", "S"), "left")
JACK_TRS_IN = _jack("Jack_TRS_in", ("T", "R", "S"), "right")
JACK_TRS_OUT = _jack("Jack_TRS_out", ("T", "R", "S"), "left")


def _pot_unit(ccw: str, wiper: str, cw: str) -> Unit:
    """Clockwise end above."""
    pins = (
        Pin(cw, "CW", PASSIVE, 0, -1.5, "down", 0.5),
        Pin(wiper, "W", PASSIVE, 1.5, 0, "left", 0.6),
        Pin(ccw, "CCW", PASSIVE, 0, 1.5, "up", 0.5),
    )
    shapes = (rectangle(-0.4, -1, 0.4, 1), solid((0.4, 0), (0.9, -0.3), (0.9, 0.3)))
    return Unit(pins, shapes, (-0.4, -1, 0.4, 1), (-0.7, -0.75), (-0.7, 0), "right")


POT = _one("Pot", "RV", _pot_unit("1", "2", "3"))
POT_DUAL = Symbol("Pot_dual", "RV", {1: _pot_unit("1", "2", "3"), 2: _pot_unit("4", "5", "6")})


def _nmos() -> Symbol:
    """Gate left, drain above, source below."""
    pins = (
        Pin("1", "G", "input", -2, 0, "right", 1.0),
        Pin("3", "D", PASSIVE, 0.5, -2, "down", 1.0),
        Pin("2", "S", PASSIVE, 0.5, 2, "up", 1.0),
    )
    shapes = (
        line((-1, 0), (-0.6, 0)), line((-0.6, -0.8), (-0.6, 0.8)), line((-0.3, -0.9), (-0.3, -0.4)),
        line((-0.3, -0.25), (-0.3, 0.25)), line((-0.3, 0.4), (-0.3, 0.9)), line((-0.3, -0.65), (0.5, -0.65), (0.5, -1)),
        line((-0.3, 0.65), (0.5, 0.65), (0.5, 1)), line((-0.3, 0), (0.5, 0), (0.5, 0.65)),
        solid((-0.3, 0), (0.05, -0.2), (0.05, 0.2)),
    )  # fmt: skip
    return _one(
        "NMOS", "Q", Unit(pins, shapes, (-0.7, -1, 0.6, 1), (0.9, -0.4), (0.9, 0.4)), pin_numbers=True
    )


def _lying_mos(name: str, channel: str) -> Symbol:
    """Gate below. PMOS: drain left, source right; NMOS: source left, drain right."""
    left, right = ("3", "D"), ("2", "S")
    if channel == "N":
        left, right = right, left
    pins = (
        Pin(left[0], left[1], PASSIVE, -2, 0, "right", 1.0),
        Pin(right[0], right[1], PASSIVE, 2, 0, "left", 1.0),
        Pin("1", "G", "input", 0, 2, "up", 1.0),
    )
    source = 0.65 if channel == "P" else -0.65
    tip = (
        [(0.0, 0.6), (-0.2, 0.25), (0.2, 0.25)] if channel == "N" else [(0.0, 0.15), (-0.2, 0.5), (0.2, 0.5)]
    )
    shapes = (
        line((0, 1), (0, 0.9)), line((-0.8, 0.9), (0.8, 0.9)), line((-0.9, 0.6), (-0.4, 0.6)),
        line((-0.25, 0.6), (0.25, 0.6)), line((0.4, 0.6), (0.9, 0.6)), line((-0.65, 0.6), (-0.65, 0), (-1, 0)),
        line((0.65, 0.6), (0.65, 0), (1, 0)), line((0, 0.6), (0, 0), (source, 0)), solid(*tip),
        line((-0.65, 0), (-0.65, -0.6), (0.65, -0.6), (0.65, 0)),
        solid((-0.25, -0.9), (-0.25, -0.3), (0.25, -0.6)), line((0.25, -0.9), (0.25, -0.3)),
    )  # fmt: skip
    look = Unit(pins, shapes, (-1, -0.9, 1, 1), (0, -2.05), (0, -1.35), "centre")
    return _one(name, "Q", look, pin_numbers=True)


NMOS = _nmos()
NMOS_LYING = _lying_mos("NMOS_lying", "N")
PMOS_LYING = _lying_mos("PMOS_lying", "P")
TEST_POINT = _one(
    "TestPoint", "TP", Unit((Pin("1", "1", PASSIVE, 0, 0, "up", 0.5),), (circle(0, -0.8, 0.3),),
                            (-0.3, -1.1, 0.3, -0.5), (0.5, -1.1), (0.5, -0.4)),
)  # fmt: skip
JUMPER_LYING = _lying(
    "Jumper_lying",
    "JP",
    [circle(-0.7, 0, 0.3), circle(0.7, 0, 0.3), line((-0.9, -0.7), (0.9, -0.7))],
    high=0.7,
)


def header(name: str, rows: Sequence[tuple[str, str, str, str]], step: float) -> Symbol:
    """Two columns of pins: (number, name) on the left and on the right of each row, ``step`` apart."""
    return box(
        name,
        left=[(step * row + 1.5, number, name_, PASSIVE) for row, (number, name_, _, _) in enumerate(rows)],
        right=[(step * row + 1.5, number, name_, PASSIVE) for row, (_, _, number, name_) in enumerate(rows)],
        size=(11, step * len(rows) + 0.5),
        prefix="J",
    )


def strip(name: str, side: str, steps: Sequence[tuple[float, str, str]], high: float) -> Symbol:
    """One column of pins on the ``side`` "left" or "right" of a narrow box: (how far down, number, name)."""
    pins = [(at, number, name_, PASSIVE) for at, number, name_ in steps]
    return box(
        name,
        left=pins if side == "left" else (),
        right=pins if side == "right" else (),
        size=(5, high),
        prefix="J",
    )


ENCODER = box(
    "Encoder_switch",
    right=[(1, "A", "A", PASSIVE), (5, "B", "B", PASSIVE), (9, "S1", "S1", PASSIVE)],
    left=[(3, "C", "C", PASSIVE), (9, "S2", "S2", PASSIVE)],
    size=(7, 11),
    prefix="SW",
    shapes=[
        circle(3.5, 3, 1.4),
        circle(3.5, 3, 0.9),
        line((2.8, 9), (4.2, 8.3)),
        circle(2.7, 9, 0.12),
        circle(4.3, 9, 0.12),
    ],
)


def _rail(name: str, up: bool) -> Symbol:
    """A supply: an arrow upwards, or downwards below ground."""
    away = -1 if up else 1
    pins = (Pin("1", name, "power_in", 0, 0, "up" if up else "down", 0),)
    shapes = (line((0, 0), (0, 0.6 * away)), line((-0.35, 0.6 * away), (0.35, 0.6 * away)))
    where = (0.0, 1.05 * away)
    look = Unit(
        pins,
        shapes,
        (-0.3, min(0.1 * away, 0.6 * away), 0.3, max(0.1 * away, 0.6 * away)),
        (0, 0),
        where,
        "centre",
    )
    return _one(name, "#PWR", look, power=True)


GROUND = _one(
    "GND", "#PWR",
    Unit((Pin("1", "GND", "power_in", 0, 0, "down", 0),),
         (line((0, 0), (0, 0.4)), solid((-0.5, 0.4), (0.5, 0.4), (0, 0.9))),
         (-0.5, 0.1, 0.5, 0.9), (0, 0), (0, 1.3), "centre"),
    power=True,
)  # fmt: skip
RAILS = {
    "GND": GROUND,
    **{name: _rail(name, up=True) for name in ("+12V", "+12VA", "+5V", "+3V3", "VREF")},
    "GNDS": _rail("GNDS", up=False),
    "-12VA": _rail("-12VA", up=False),
    "-12VA up": _rail("-12VA_up", up=True),
}
FLAG = _one(
    "PWR_FLAG", "#FLG",
    Unit((Pin("1", "pwr", "power_out", 0, 0, "up", 0),),
         (line((0, 0), (0, -0.5)), line((0, -0.5), (-0.4, -0.8), (0, -1.1), (0.4, -0.8), (0, -0.5))),
         (-0.4, -1.1, 0.4, -0.1), (0, 0), (0, -1.5), "centre"),
    power=True,
)  # fmt: skip
