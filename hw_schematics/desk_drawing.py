"""The wiring of the build on the desk as a picture, from ``desk.toml``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from device.files import atomic_path
from hw_schematics.desk import HEADER, RAILS, Chip, Desk, Place, Small, netlist, read_desk

PICTURE = Path(__file__).with_name("desk.svg")
SHEET_MM = (297.0, 210.0)
PITCH_MM, BETWEEN_MM = 7.0, 7.0  # of the header's pins: along a row, between the rows
LEG_MM = 12.0  # of a part with two ends
PAPER, INK, QUIET = "#fdfcf8", "#1d1d1f", "#77756e"
COLOURS = {
    "spi": "#2766b1",
    "select": "#7b3fa0",
    "gate": "#0f8a6d",
    "light": "#5d8a12",
    "sound": "#b3471d",
    "voltage": "#8a6a10",
}
RAIL_COLOURS = {"3.3 V": "#cf2e2e", "5 V": "#e08000", "GND": "#1d1d1f"}
TYPE = "font-family=\"'Hanken Grotesk','Helvetica Neue',Arial,'DejaVu Sans',sans-serif\""
# What is written beside a pin of the header that has a wire.
WORDS = {
    1: "3.3 V", 2: "5 V", 6: "GND", 9: "GND", 11: "GPIO17", 12: "GPIO18", 13: "GPIO27", 19: "GPIO10", 21: "GPIO9",
    23: "GPIO11", 29: "GPIO5", 31: "GPIO6", 35: "GPIO19", 40: "GPIO21",
}  # fmt: skip


def place(desk: Desk, pin: str) -> tuple[Place, str]:
    """Where a pin is drawn, and to which side its wire leaves."""
    reference, _, end = pin.partition(".")
    if reference == HEADER:
        row, even = divmod(int(end) - 1, 2)
        x, y = desk.header_at[0] + even * BETWEEN_MM, desk.header_at[1] + row * PITCH_MM
        return (x, y), "right" if even else "left"
    for chip in desk.chips:
        if chip.reference == reference:
            return _of_chip(chip, end)
    small = next(one for one in desk.smalls if one.reference == reference)
    x, y = small.at
    if small.kind == "pot":
        return (x + {"1": -5.0, "2": 0.0, "3": 5.0}[end], y + 12.0), "down"
    if small.kind == "jack":
        return {
            "T": ((x - 8.0, y), "left"),
            "TN": ((x - 2.5, y + 8.0), "down"),
            "S": ((x + 2.5, y + 8.0), "down"),
        }[end]
    if small.kind == "across":
        return ((x, y), "left") if end == "1" else ((x + LEG_MM, y), "right")
    return ((x, y), "up") if end == "1" else ((x, y + LEG_MM), "down")


def _of_chip(chip: Chip, end: str) -> tuple[Place, str]:
    left, upper, right, lower = chip.box
    for side, pins in chip.sides.items():
        for pin, where in pins:
            if pin == end:
                spot = {
                    "left": (left, where),
                    "right": (right, where),
                    "top": (where, upper),
                    "bottom": (where, lower),
                }
                return spot[side], {"top": "up", "bottom": "down"}.get(side, side)
    raise KeyError(end)


def route(desk: Desk, begin: str, end: str, by: tuple[float, ...]) -> list[Place]:
    """The corners of a wire, both ends included: by turns along x and y, as far as ``by`` says, then straight there."""
    (start, _), (goal, _) = place(desk, begin), place(desk, end)
    points = [start]
    if (
        begin.startswith(f"{HEADER}.") and int(begin.partition(".")[2]) % 2
    ):  # out between two pins of the outer row
        points.append((start[0], start[1] + PITCH_MM / 2))
    for number, value in enumerate(by):
        x, y = points[-1]
        points.append((value, y) if number % 2 == 0 else (x, value))
    x, y = points[-1]
    if len(by) % 2:
        points += [(x, goal[1]), goal]
    else:
        points += [(goal[0], y), goal]
    kept = [points[0]]
    for point in points[1:]:
        if point != kept[-1]:
            kept.append(point)
    return kept


def segments(desk: Desk) -> list[tuple[str, str, Place, Place]]:
    """Every straight piece of wire: net, kind, both ends."""
    nets = netlist(desk)
    found = []
    for wire in desk.wires:
        points = route(desk, wire.begin, wire.end, wire.by)
        net = nets.net_of(wire.begin)
        found += [(net, wire.kind, one, other) for one, other in pairwise(points)]
    return found


def _on(point: Place, one: Place, other: Place) -> bool:
    """Whether a point lies on a straight piece, its ends included."""
    low, high = sorted((one, other))
    return low[0] <= point[0] <= high[0] and low[1] <= point[1] <= high[1]


def dots(desk: Desk) -> list[tuple[str, Place]]:
    """Where wires are joined: the places from which a net goes three ways; with the kind of the wire."""
    pieces = segments(desk)
    ways: defaultdict[tuple[str, Place], set[tuple[int, int]]] = defaultdict(set)
    kinds: dict[tuple[str, Place], str] = {}
    corners = {(net, point) for net, _, one, other in pieces for point in (one, other)}
    pins = {place(desk, pin)[0] for pin in desk.pins() if pin[0] in "RD" and not pin.startswith("RV")}
    for net, point in corners:
        for other_net, kind, one, other in pieces:
            if other_net == net and _on(point, one, other):
                kinds[net, point] = kind
                for end in (one, other):
                    if end != point:
                        ways[net, point].add(_direction(point, end))
    return sorted(
        (kinds[key], key[1])
        for key, found in ways.items()
        if len(found) > 2 or (len(found) == 2 and key[1] in pins and _straight(found))
    )


def _direction(one: Place, other: Place) -> tuple[int, int]:
    return (
        int(math.copysign(1, other[0] - one[0])) if other[0] != one[0] else 0,
        int(math.copysign(1, other[1] - one[1])) if other[1] != one[1] else 0,
    )


def _straight(ways: set[tuple[int, int]]) -> bool:
    (ax, ay), (bx, by) = ways
    return ax == -bx and ay == -by


def crossings(desk: Desk) -> list[str]:
    """Wires of different nets that lie on each other, or go through a chip; empty in a picture that can be followed."""
    pieces = segments(desk)
    wrong = []
    for number, (net, _, one, other) in enumerate(pieces):
        for other_net, _, third, fourth in pieces[number + 1 :]:
            if net != other_net and _along(one, other, third, fourth):
                wrong.append(f"{net} and {other_net}: on each other at {max(sorted((one, other))[0], third)}")
        for chip in desk.chips:
            left, upper, right, lower = chip.box
            (x0, y0), (x1, y1) = sorted((one, other))
            y0, y1 = min(y0, y1), max(y0, y1)
            if x0 < right - 0.1 and x1 > left + 0.1 and y0 < lower - 0.1 and y1 > upper + 0.1:
                wrong.append(f"{net}: through {chip.reference}")
    return wrong


def _along(one: Place, other: Place, third: Place, fourth: Place) -> bool:
    """Whether two straight pieces share more than a point."""
    for axis in (0, 1):
        across = 1 - axis
        if one[across] == other[across] == third[across] == fourth[across]:
            low = max(min(one[axis], other[axis]), min(third[axis], fourth[axis]))
            high = min(max(one[axis], other[axis]), max(third[axis], fourth[axis]))
            if high > low:
                return True
    return False


# ---- the picture ----


def _say(words: str, x: float, y: float, size: float = 2.6, anchor: str = "start", *more: str) -> str:
    escaped = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" {" ".join(more)}>{escaped}</text>'


def _flag(name: str, at: Place, side: str) -> Iterator[str]:
    """The end of a wire that goes to a rail of the breadboard."""
    x, y = at
    colour = RAIL_COLOURS[name]
    dx, dy = {"left": (-4, 0), "right": (4, 0), "up": (0, -3), "down": (0, 3)}[side]
    yield f'<path d="M{x:g} {y:g}l{dx} {dy}" stroke="{colour}" stroke-width=".7"/>'
    ex, ey = x + dx, y + dy
    if name == "GND":
        bars = f"M{ex - 1.6:g} {ey:g}h3.2M{ex - 0.8:g} {ey + 0.8:g}h1.6"
        if side in {"left", "right"}:
            bars = f"M{ex:g} {ey - 1.6:g}v3.2M{ex + dx / 5:g} {ey - 0.8:g}v1.6"
        yield f'<path d="{bars}" stroke="{colour}" stroke-width=".7"/>'
        return
    yield f'<circle cx="{ex:g}" cy="{ey:g}" r=".8" fill="{colour}"/>'
    words = name.replace(" ", "\N{NO-BREAK SPACE}")
    style = f'fill="{colour}" font-weight="600"'
    if side in {"left", "right"}:
        yield _say(words, ex + dx / 3, ey + 0.9, 2.4, "end" if side == "left" else "start", style)
    else:
        yield _say(words, ex, ey + (-1.6 if side == "up" else 3.2), 2.4, "middle", style)


def _header(desk: Desk) -> Iterator[str]:
    x, y = desk.header_at
    nets = netlist(desk)
    high = 19 * PITCH_MM
    size = f'width="{BETWEEN_MM + 8:g}" height="{high + 9:g}"'
    yield f'<rect x="{x - 4:g}" y="{y - 4.5:g}" {size} rx="1.5" fill="#2b2b2e"/>'
    yield _say("Raspberry Pi", x + BETWEEN_MM / 2, y - 11.5, 4.0, "middle", 'font-weight="700"')
    yield _say("the 40 pins, USB sockets below", x + BETWEEN_MM / 2, y - 7, 2.4, "middle", f'fill="{QUIET}"')
    rails = {pin: name for name, pins in desk.rails.items() for pin in pins}
    kinds = {end: wire.kind for wire in desk.wires for end in (wire.begin, wire.end)}
    for number in range(1, 41):
        pin = f"{HEADER}.{number}"
        (px, py), _ = place(desk, pin)
        used = len(nets.nets[nets.net_of(pin)]) > 1
        colour = (
            RAIL_COLOURS[rails[pin]] if pin in rails else COLOURS[kinds[pin]] if pin in kinds else "#55555a"
        )
        ring = ' stroke="#d8d4c8" stroke-width=".35"' if used else ""
        yield f'<circle cx="{px:g}" cy="{py:g}" r="2.1" fill="{colour}"{ring}/>'
        yield _say(str(number), px, py + 0.8, 2.2, "middle", 'fill="#fff"' if used else 'fill="#98968f"')
        if not used:
            continue
        words = WORDS[number]
        if number % 2:
            yield _say(words, px - 5, py + 0.9, 2.6, "end", f'fill="{colour}" font-weight="600"')
        else:
            yield _say(words, px + 5, py - 0.7, 2.6, "start", f'fill="{colour}" font-weight="600"')


def _chip(desk: Desk, chip: Chip) -> Iterator[str]:
    left, upper, right, lower = chip.box
    yield (
        f'<rect x="{left:g}" y="{upper:g}" width="{right - left:g}" height="{lower - upper:g}" rx="1" fill="#fff" '
        f'stroke="{INK}" stroke-width=".5"/>'
    )
    middle = (left + right) / 2
    if chip.reference == "Q1":
        yield _say(f"{chip.reference} {chip.name}", left, upper - 1.2, 2.6, "start", 'font-weight="700"')
    elif chip.reference == "U4":
        yield _say(chip.name, right + 2, upper + 8, 3.2, "start", 'font-weight="700"')
        for number, line in enumerate(
            ("3.5 mm socket: left and right,", "to a mixer or a line input;", "solder bridges: see the text")
        ):
            yield _say(line, right + 2, upper + 12.5 + 3.6 * number, 2.6, "start", f'fill="{QUIET}"')
    else:
        centre = (upper + lower) / 2
        yield _say(chip.name.partition("-")[0], middle, centre, 3.2, "middle", 'font-weight="700"')
        yield _say(chip.note, middle, centre + 3.6, 2.2, "middle", f'fill="{QUIET}"')
    for side, pins in chip.sides.items():
        for pin, _ in pins:
            (x, y), _ = place(desk, f"{chip.reference}.{pin}")
            words = chip.names[pin] if chip.reference in {"U4", "Q1"} else f"{chip.names[pin]} {pin}"
            if side == "left":
                yield _say(
                    words if chip.reference in {"U4", "Q1"} else f"{pin} {chip.names[pin]}",
                    x + 1.2,
                    y + 0.9,
                    2.4,
                )
            elif side == "right":
                yield _say(words, x - 1.2, y + 0.9, 2.4, "end")
            elif side == "top":
                yield _say(f"{chip.names[pin]}", x, y + 3.0, 2.0, "middle")
                yield _say(pin if chip.reference != "U4" else "", x, y + 5.4, 2.0, "middle")
            else:
                yield _say(
                    chip.names[pin], x, y - 1.0 if chip.reference in {"U4", "Q1"} else y - 3.2, 2.0, "middle"
                )
                yield _say(pin if chip.reference not in {"U4", "Q1"} else "", x, y - 0.9, 2.0, "middle")
            yield f'<circle cx="{x:g}" cy="{y:g}" r=".6" fill="{INK}"/>'


def _small(desk: Desk, one: Small) -> Iterator[str]:
    x, y = one.at
    stroke = f'stroke="{INK}" stroke-width=".6" fill="#fff"'
    if one.kind == "pot":
        for end in "123":
            (px, py), _ = place(desk, f"{one.reference}.{end}")
            yield f'<path d="M{px:g} {py:g}V{y:g}" stroke="{INK}" stroke-width=".7"/>'
        yield f'<circle cx="{x:g}" cy="{y:g}" r="8" {stroke}/>'
        yield f'<circle cx="{x:g}" cy="{y:g}" r="4.6" fill="#d9d6cd"/>'
        yield f'<path d="M{x:g} {y - 1:g}V{y - 4.4:g}" stroke="{INK}" stroke-width=".9"/>'
        yield _say(one.name, x, y - 10.2, 2.8, "middle", 'font-weight="700"')
        yield _say(one.value, x + 9, y - 3.5, 2.4, "start", f'fill="{QUIET}"')
        return
    if one.kind == "jack":
        yield f'<path d="M{x - 8:g} {y:g}H{x:g}" stroke="{INK}" stroke-width=".7"/>'
        for end in ("TN", "S"):
            (px, py), _ = place(desk, f"{one.reference}.{end}")
            yield f'<path d="M{px:g} {py:g}V{y:g}" stroke="{INK}" stroke-width=".7"/>'
        yield f'<circle cx="{x:g}" cy="{y:g}" r="5.2" fill="#cfcfd0" stroke="{INK}" stroke-width=".5"/>'
        yield f'<circle cx="{x:g}" cy="{y:g}" r="3.4" fill="#efefef"/>'
        yield f'<circle cx="{x:g}" cy="{y:g}" r="1.9" fill="#111"/>'
        yield _say(one.name, x, y - 7.2, 2.8, "middle", 'font-weight="700"')
        yield _say("tip", x - 5.8, y - 0.9, 2.0, "end", f'fill="{QUIET}"')
        yield _say("switch", x - 3.3, y + 7.6, 2.0, "end", f'fill="{QUIET}"')
        yield _say("sleeve", x + 3.3, y + 7.6, 2.0, "start", f'fill="{QUIET}"')
        return
    (ax, ay), (bx, by) = place(desk, f"{one.reference}.1")[0], place(desk, f"{one.reference}.2")[0]
    yield f'<path d="M{ax:g} {ay:g}L{bx:g} {by:g}" stroke="{INK}" stroke-width=".7"/>'
    mx, my = (ax + bx) / 2, (ay + by) / 2
    across = one.kind == "across"
    name = f"{one.reference} {one.value}"
    if one.reference.startswith("D"):
        turned = one.value == "1N4148"  # its first end is the ring
        angle = (0 if across else 90) + (180 if turned else 0)
        yield (
            f'<g transform="translate({mx:g} {my:g}) rotate({angle})"><path d="M-2 -1.9L1.6 0L-2 1.9Z" fill="{INK}"/>'
            f'<path d="M1.6 -2V2" stroke="{INK}" stroke-width=".7"/></g>'
        )
    elif one.reference.startswith("C"):
        yield f'<path d="M{mx:g} {my - 0.9:g}V{my + 0.9:g}" stroke="{PAPER}" stroke-width="1.4"/>'
        for plate in (-0.9, 0.9):
            yield f'<path d="M{mx - 2:g} {my + plate:g}h4" stroke="{INK}" stroke-width=".7"/>'
    else:
        wide, high = (7.0, 2.8) if across else (2.8, 7.0)
        yield f'<rect x="{mx - wide / 2:g}" y="{my - high / 2:g}" width="{wide:g}" height="{high:g}" rx=".7" {stroke}/>'
    if across:
        yield _say(name, mx, my - 2.8, 2.4, "middle")
    else:
        yield _say(one.reference, mx - 2.4, my - 0.4, 2.4, "end")
        yield _say(one.value, mx - 2.4, my + 2.6, 2.4, "end")


def _dip() -> Iterator[str]:
    """How pins are counted."""
    x, y = 16.0, 184.0
    yield f'<rect x="{x:g}" y="{y:g}" width="26" height="8" rx=".8" fill="#2b2b2e"/>'
    yield f'<path d="M{x:g} {y + 2.8:g}a1.2 1.2 0 0 1 0 2.4" fill="{PAPER}"/>'
    for number in range(8):
        px = x + 2.5 + 3 * number
        yield f'<path d="M{px:g} {y:g}v-1.6M{px:g} {y + 8:g}v1.6" stroke="{QUIET}" stroke-width=".8"/>'
        if number in {0, 7}:
            yield _say(str(16 - number), px, y - 2.4, 2.2, "middle")
            yield _say(str(1 + number), px, y + 12, 2.2, "middle")
    yield _say("Pins of a chip are counted from the notch,", x - 2, y + 16.0, 2.4)
    yield _say("against the clock, seen from above.", x - 2, y + 19.3, 2.4)


def picture(desk: Desk) -> str:
    """The wiring as SVG."""
    wide, high = SHEET_MM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide * 5:.0f}" height="{high * 5:.0f}" '
        f'viewBox="0 0 {wide:g} {high:g}" {TYPE} fill="none">',
        "<title>Wiring of the build on the desk</title>",
        f'<rect width="{wide:g}" height="{high:g}" fill="{PAPER}"/><g fill="{INK}">',
        _say("Darkrack on the desk", 86.0, 15.0, 5.0, "start", 'font-weight="700"'),
        _say(
            "Flags of one name are one rail of the breadboard; crossing wires meet at dots only.",
            86.0,
            20.5,
            2.8,
        ),
        "</g>",
    ]
    for wire in desk.wires:
        points = " ".join(f"{x:g},{y:g}" for x, y in route(desk, wire.begin, wire.end, wire.by))
        lines.append(
            f'<polyline points="{points}" stroke="{COLOURS[wire.kind]}" stroke-width=".8" stroke-linejoin="round"/>'
        )
    for kind, (x, y) in dots(desk):
        lines.append(f'<circle cx="{x:g}" cy="{y:g}" r="1.05" fill="{COLOURS[kind]}"/>')
    lines.append(f'<g fill="{INK}">')
    for chip in desk.chips:
        lines += _chip(desk, chip)
    for one in desk.smalls:
        lines += _small(desk, one)
    lines += _header(desk)
    for name, pins in desk.rails.items():
        for pin in pins:
            if not pin.startswith(f"{HEADER}."):
                lines += _flag(name, *place(desk, pin))
    lines += _dip()
    return "\n".join([*lines, "</g>", "</svg>", ""])


def wiring_table(desk: Desk) -> str:
    """Every wire of the header as a Markdown table, for docs/build.md."""
    nets = netlist(desk)
    chips = {chip.reference: chip for chip in desk.chips}
    rows = ["| pin | | goes to |", "|---|---|---|"]
    for number in range(1, 41):
        pin = f"{HEADER}.{number}"
        others = sorted(other for other in nets.nets[nets.net_of(pin)] if not other.startswith(f"{HEADER}."))
        if not others:
            continue
        rail = next((name for name, board in RAILS.items() if nets.net_of(pin) == board), "")
        if rail == "5 V":
            goes = "the sound board's VIN, nothing else"
        elif rail:
            goes = f"the {rail} rail of the breadboard"
        else:
            goes = ", ".join(_called(chips, other) for other in others)
        rows.append(f"| {number} | {WORDS[number]} | {goes} |")
    return "\n".join(rows)


def _called(chips: dict[str, Chip], pin: str) -> str:
    reference, _, end = pin.partition(".")
    if reference not in chips:
        return f"{reference}"
    chip = chips[reference]
    if reference == "Q1":
        return {"C": "collector of Q1"}[chip.names[end]]
    if reference == "U4":
        return f"the sound board's {chip.names[end]}"
    return f"pin {end} ({chip.names[end]}) of {chip.name.partition('-')[0]}"


def write() -> list[Path]:
    """Write the picture; its path."""
    with atomic_path(PICTURE) as temporary:
        temporary.write_text(picture(read_desk()), encoding="utf-8")
    return [PICTURE]
