"""The netlist that KiCad exports, compared with what was intended, and what follows from its resistors.

`read_netlist` reads KiCad's own S-expressions, `Intended` is ``pins.toml``, `differences` says where the two part.
`solve` works out the direct voltages of the netlist with ideal amplifiers, from which `stage`, `figures` and the tests
take gains, offsets and levels: no span of a jack is typed beside its resistors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from device.errors import DarkrackError
from device.toml_table import Table, read_page

PINS = Path(__file__).with_name("pins.toml")
RAILS = ("GND", "GNDS", "+12V", "+12VA", "-12VA", "+5V", "+3V3", "VREF")
HEADER = "J901"
# Which line, as Broadcom counts them, is on which pin of the header: Raspberry Pi's own table; a Jetson counts alike.
LINE_PINS: Mapping[int, str] = {
    0: "27", 1: "28", 2: "3", 3: "5", 4: "7", 5: "29", 6: "31", 7: "26", 8: "24", 9: "21", 10: "19", 11: "23", 12: "32",
    13: "33", 14: "8", 15: "10", 16: "36", 17: "11", 18: "12", 19: "35", 20: "38", 21: "40", 22: "15", 23: "16",
    24: "18", 25: "22", 26: "37", 27: "13",
}  # fmt: skip
# Inputs and output of each amplifier of a symbol: plus, minus, out.
_QUAD = (("3", "2", "1"), ("5", "6", "7"), ("10", "9", "8"), ("12", "13", "14"))
AMPLIFIERS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "OPA388": (("3", "4", "1"),), "TL074": _QUAD, "MCP6004": _QUAD, "OPA1679": _QUAD,
    "MCP6002": _QUAD[:2],  # of the build on the desk
}  # fmt: skip
POTS: Mapping[str, Sequence[tuple[str, str, str]]] = {  # counterclockwise end, wiper, clockwise end
    "Pot": (("1", "2", "3"),),
    "Pot_dual": (("1", "2", "3"), ("4", "5", "6")),
}
BUCK_REFERENCE_V = 0.596  # TPS54302, SLVSDG6
DAC_VRMS = 2.1  # PCM5102A at full scale, SLAS859
LEAK_S = 1e-15  # from every net to ground, so that one that hangs on nothing has a voltage
VALUE = re.compile(r"([0-9.]+)\s*([pnumkM]?)")
PREFIXES = {"p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6}

Nets = Mapping[str, frozenset[str]]  # name -> pins, as "R302.1"


@dataclass(frozen=True)
class Component:
    """One part: ``symbol`` as ``hw_schematics.symbols`` names it, ``fields`` as the schematic has them."""

    reference: str
    value: str
    symbol: str
    sheet: str
    fields: Mapping[str, str]

    @property
    def number(self) -> float:
        """The value in ohms, farads or henries. DarkrackError where it is none."""
        found = VALUE.match(self.value)
        if not found:
            raise DarkrackError(self.reference, "a value with a number in front", repr(self.value))
        return float(found[1]) * PREFIXES[found[2]]


@dataclass(frozen=True)
class Netlist:
    """Parts by reference, and nets by the names that KiCad gave them."""

    components: Mapping[str, Component]
    nets: Nets
    _net_of: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._net_of.update({pin: name for name, pins in self.nets.items() for pin in pins})

    def net_of(self, pin: str) -> str:
        """The net of a pin ("R302.1"). DarkrackError where there is none."""
        if pin not in self._net_of:
            raise DarkrackError(pin, "a pin of the netlist", "none")
        return self._net_of[pin]

    def beyond(self, net: str) -> set[str]:
        """The nets on the other side of the resistors that hang on this one."""
        return {
            self.net_of(f"{reference}.{'2' if pin == '1' else '1'}")
            for reference, _, pin in (pin.rpartition(".") for pin in self.nets[net])
            if reference.startswith("R") and not reference.startswith("RV")
        }


# ---- reading ----


def expressions(text: str) -> Any:
    """An S-expression as nested lists of strings."""
    stack: list[list[Any]] = [[]]
    for found in re.finditer(r'"((?:[^"\\]|\\.)*)"|([()])|([^\s()"]+)', text):
        quoted, bracket, word = found.groups()
        if bracket == "(":
            stack.append([])
        elif bracket == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
    return stack[0][0]


def children(expression: Sequence[Any], name: str) -> list[Any]:
    """The lists within a list that begin with this word."""
    return [child for child in expression if isinstance(child, list) and child and child[0] == name]


def child(expression: Sequence[Any], name: str) -> Any:
    """The first of them; ``[name, ""]`` where there is none."""
    found = children(expression, name)
    return found[0] if found else [name, ""]


def read_netlist(path: Path) -> Netlist:
    """The netlist in KiCad's own format (``kicad-cli sch export netlist``)."""
    whole = expressions(path.read_text(encoding="utf-8"))
    components = {}
    for comp in children(child(whole, "components"), "comp"):
        reference = child(comp, "ref")[1]
        fields = {
            child(one, "name")[1]: one[2] if len(one) > 2 else ""
            for one in children(child(comp, "fields"), "field")
        }
        components[reference] = Component(
            reference=reference,
            value=child(comp, "value")[1],
            symbol=child(child(comp, "libsource"), "part")[1],
            sheet=child(child(comp, "sheetpath"), "names")[1].strip("/"),
            fields=fields,
        )
    nets = {
        child(net, "name")[1]: frozenset(
            f"{child(node, 'ref')[1]}.{child(node, 'pin')[1]}" for node in children(net, "node")
        )
        for net in children(child(whole, "nets"), "net")
    }
    return Netlist(components, nets)


# ---- what was intended ----


@dataclass(frozen=True)
class Way:
    """From a jack to a pin of a converter: both as pins of the netlist."""

    jack: str
    pin: str
    attenuverter: str = ""


@dataclass(frozen=True)
class ChipIntended:
    """A converter: its part, its pins for selection and reference."""

    part: str
    model: str
    select: str
    reference: str
    reference_v: float


@dataclass(frozen=True)
class Intended:
    """``pins.toml``, as its comments say; ``nets`` by our names, with the rails by KiCad's."""

    chips: Mapping[str, ChipIntended]
    knobs: Mapping[int, tuple[str, str]]  # pot, pin
    pitch: Way
    cvs: Mapping[int, Way]
    gates: Mapping[int, tuple[str, int]]  # jack, line
    leds: Mapping[int, tuple[str, int]]  # lamp, line
    header: Mapping[int, str]
    figures: Mapping[str, tuple[float, float]]  # expected, within
    nets: Nets
    open_pins: frozenset[str]


def read_intended(path: Path = PINS) -> Intended:
    """Read the table. DarkrackError names the key of what is unknown, missing, or given away twice."""
    page = read_page(path, "the pin table")
    chips, figures = page.table("chip"), page.table("figure")
    intended = Intended(
        chips={name: _chip(chips.table(name)) for name in ("knobs", "cv", "pitch")},
        knobs={n: (_text(t, "pot"), _text(t, "pin")) for n, t in page.table("knob").numbered(8)},
        pitch=_way(page.table("pitch")),
        cvs={n: _way(t) for n, t in page.table("cv").numbered(7)},
        gates={n: (_text(t, "jack"), _whole(t, "line")) for n, t in page.table("gate").numbered(8)},
        leds={n: (_text(t, "lamp"), _whole(t, "line")) for n, t in page.table("led").numbered(8)},
        header={int(key): str(words) for key, words in page.table("header").content.items()},
        figures={name: _figure(figures.table(name)) for name in figures.content},
        nets=dict(_nets(page.table("net"))),
        open_pins=frozenset(_text(page.table("open"), "pins").split()),
    )
    page.refuse_unknown()
    taken: set[str] = set()
    for name, pins in (*intended.nets.items(), ("open", intended.open_pins)):
        if twice := taken & pins:
            raise DarkrackError(
                f"{path.name}: {name}", "pins of one net only", f"{min(twice)}, which is in another"
            )
        taken |= pins
    return intended


def _text(table: Table, key: str) -> str:
    found = table.text(key)
    if not found:
        raise DarkrackError(table.at(key), "a pin or a part", "none")
    return found


def _whole(table: Table, key: str) -> int:
    found = table.whole(key, 0, 27)
    if found is None:
        raise DarkrackError(table.at(key), "a line of the header", "none")
    return found


def _way(table: Table) -> Way:
    way = Way(_text(table, "jack"), _text(table, "pin"), table.text("attenuverter") or "")
    table.refuse_unknown()
    return way


def _chip(table: Table) -> ChipIntended:
    chip = ChipIntended(
        part=_text(table, "part"),
        model=_text(table, "model"),
        select=_text(table, "select"),
        reference=_text(table, "reference"),
        reference_v=table.number("reference_v", 0.5, 5.5),
    )
    table.refuse_unknown()
    return chip


def _figure(table: Table) -> tuple[float, float]:
    found = (table.number("expected", 0.0, 1e6), table.number("within", 0.0, 1e6))
    table.refuse_unknown()
    return found


def _nets(table: Table) -> Iterator[tuple[str, frozenset[str]]]:
    """A rail's pins stand by sheets under its name; the others stand one by one under their sheet."""
    for key in table.content:
        inner = table.table(key)
        lists = {name: frozenset(_text(inner, name).split()) for name in inner.content}
        if key in RAILS:
            yield key, frozenset().union(*lists.values())
        else:
            yield from ((f"{key}: {name}", pins) for name, pins in lists.items())


def differences(netlist: Netlist, intended: Intended) -> list[str]:
    """Where the schematic is not what was intended, net by net; empty where it is."""
    found = []
    exported = {name: pins for name, pins in netlist.nets.items() if len(pins) > 1}
    alone = frozenset(pin for pins in netlist.nets.values() if len(pins) == 1 for pin in pins)
    if alone != intended.open_pins:
        found += [f"{pin}: left open, but a net was intended" for pin in sorted(alone - intended.open_pins)]
        found += [f"{pin}: connected, but was to be left open" for pin in sorted(intended.open_pins - alone)]
    seen: set[str] = set()
    for name, pins in intended.nets.items():
        meets = {one for one, there in exported.items() if there & pins}
        seen |= meets
        together = frozenset[str]().union(*(exported[one] for one in meets)) if meets else frozenset[str]()
        if missing := pins - together:
            found.append(f"{name}: without {', '.join(sorted(missing))}")
        if extra := together - pins:
            found.append(f"{name}: with {', '.join(sorted(extra))} as well")
        if len(meets) > 1:
            found.append(f"{name}: in {len(meets)} pieces ({', '.join(sorted(meets))})")
        if name in RAILS and meets != {name}:
            found.append(f"{name}: called {', '.join(sorted(meets)) or 'nothing'}")
    found += [
        f"{name}: not intended ({', '.join(sorted(exported[name]))})" for name in sorted({*exported} - seen)
    ]
    return found


# ---- what follows from the values ----


def solve(
    netlist: Netlist,
    sources: Mapping[str, float],
    positions: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Direct voltages of all nets while ``sources`` (net -> volts) hold some of them.

    Resistors, pots (``positions``: 0 counterclockwise to 1, otherwise 1), ideal amplifiers; ferrites, fuses, inductors
    and closed jumpers are short; everything else is open. Modified nodal analysis (Ho, Ruehli and Brennan 1975), an
    amplifier as a nullor.
    """
    index = {name: number for number, name in enumerate(name for name in netlist.nets if name != "GND")}
    size = len(index)
    rows: list[tuple[dict[int, float], float]] = []  # equations beside Kirchhoff's: coefficients, right side
    injected: list[int | None] = []  # and the node whose current each of them sets free
    admittance = np.eye(size) * LEAK_S

    def at(pin: str) -> int | None:
        return index.get(netlist.net_of(pin))

    def resistor(one: int | None, other: int | None, ohms: float) -> None:
        for a, b in ((one, other), (other, one)):
            if a is not None:
                admittance[a, a] += 1.0 / ohms
                if b is not None:
                    admittance[a, b] -= 1.0 / ohms

    for reference, part in netlist.components.items():
        kind = part.symbol.split("_")[0]
        if kind == "R":
            resistor(at(f"{reference}.1"), at(f"{reference}.2"), part.number)
        elif kind in {"FB", "Polyfuse", "L", "Jumper"}:
            resistor(at(f"{reference}.1"), at(f"{reference}.2"), 1e-3)
        elif part.symbol in POTS:
            place = (positions or {}).get(reference, 1.0)
            for ccw, wiper, cw in POTS[part.symbol]:
                resistor(at(f"{reference}.{ccw}"), at(f"{reference}.{wiper}"), max(part.number * place, 1e-3))
                resistor(
                    at(f"{reference}.{wiper}"), at(f"{reference}.{cw}"), max(part.number * (1 - place), 1e-3)
                )
        for plus, minus, out in AMPLIFIERS.get(part.symbol, ()):
            coefficients: dict[int, float] = {}
            for pin, sign in ((plus, 1.0), (minus, -1.0)):
                if (node := at(f"{reference}.{pin}")) is not None:
                    coefficients[node] = coefficients.get(node, 0.0) + sign
            rows.append((coefficients, 0.0))
            injected.append(at(f"{reference}.{out}"))
    for name, volts in sources.items():
        if name != "GND":
            rows.append(({index[name]: 1.0}, volts))
            injected.append(index[name])
    whole = np.zeros((size + len(rows), size + len(rows)))
    right = np.zeros(size + len(rows))
    whole[:size, :size] = admittance
    for number, ((coefficients, volts), node) in enumerate(zip(rows, injected, strict=True), start=size):
        for column, coefficient in coefficients.items():
            whole[number, column] = coefficient
        if node is not None:
            whole[node, number] = 1.0
        right[number] = volts
    found = np.linalg.lstsq(whole, right, rcond=None)[0] if np.linalg.matrix_rank(whole) < len(right) else (
        np.linalg.solve(whole, right)
    )  # fmt: skip
    return {"GND": 0.0, **{name: float(found[number]) for name, number in index.items()}}


def stage(netlist: Netlist, way: Way, reference_v: float, place: float = 1.0) -> tuple[float, float]:
    """Gain and offset in volts of the way from a jack to a converter's pin, its attenuverter at ``place`` (0 to 1)."""
    jack, pin = netlist.net_of(way.jack), netlist.net_of(way.pin)
    places = {way.attenuverter: place}
    low, high = (solve(netlist, {"VREF": reference_v, jack: volts}, places)[pin] for volts in (0.0, 1.0))
    return high - low, low


def figures(netlist: Netlist) -> dict[str, tuple[float, ...]]:
    """The figures that ``pins.toml`` expects, worked out of the netlist; of what is there twice, both."""

    def share(source: str, pin: str) -> float:
        """Volts at a pin for a volt at another."""
        return solve(netlist, {netlist.net_of(source): 1.0})[netlist.net_of(pin)]

    parts = netlist.components
    closed = solve(netlist, {"+12V": 12.0})
    sides = (("U801.6", "J801.T", "J803.T"), ("U801.7", "J802.T", "J803.R"))
    return {
        "buck_v": (BUCK_REFERENCE_V / share("L201.2", "U201.4"),),
        "out_vpp": tuple(DAC_VRMS * 2 * 2**0.5 * share(dac, out) for dac, out, _ in sides),
        "line_vrms": tuple(DAC_VRMS * share(dac, line) for dac, _, line in sides),
        "gate_ratio": tuple(1.0 / share(*gate) for gate in (("J601.T", "U601.1"), ("J602.T", "U601.3"))),
        "vref_uf": (
            sum(parts[pin.partition(".")[0]].number for pin in netlist.nets["VREF"] if pin[0] == "C") * 1e6,
        ),
        "enable_v": (closed[netlist.net_of("U201.5")],),
    }


def wrong_figures(netlist: Netlist, intended: Intended) -> list[str]:
    """Figures that are not what was expected."""
    found = figures(netlist)
    return [
        f"{name}: {value:.4g}, expected {expected:g} within {within:g}"
        for name, (expected, within) in intended.figures.items()
        for value in found[name]
        if abs(value - expected) > within
    ]


def line_of(netlist: Netlist, pin: str) -> int | None:
    """The header's line that reaches a pin, directly or through one resistor; None where none does."""
    net = netlist.net_of(pin)
    for candidate in (net, *sorted(netlist.beyond(net) - {*RAILS})):
        for line, header_pin in LINE_PINS.items():
            if f"{HEADER}.{header_pin}" in netlist.nets[candidate]:
                return line
    return None
