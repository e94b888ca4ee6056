"""The build on the desk: breakouts and a breadboard instead of the module's board, and whether its wires are right.

``desk.toml`` is the one table of its parts and wires, for the drawing, the lists in docs/build.md and the checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from device.errors import DarkrackError
from device.profile import Profile
from device.toml_table import Table, read_page
from hw_schematics import symbols as look
from hw_schematics.netlist import LINE_PINS, POTS, Component, Intended, Netlist, Way, solve, stage

DESK = Path(__file__).with_name("desk.toml")
HEADER = "PI"
RAILS: Mapping[str, str] = {"3.3 V": "+3V3", "5 V": "+5V", "GND": "GND"}  # as the board's table calls them
KINDS = ("spi", "select", "gate", "light", "sound", "voltage")
I2S = {"LCK": 19, "BCK": 18, "DIN": 21}  # lines of the header: the kernel's, not ours
SPI = {"CLK": 11, "DIN": 10, "DOUT": 9}
REFERENCE_V = 3.3
JACK_MAX_V = 15.0  # what a patch cable may bring from a rack, either way
CLAMP_MAX_A = 0.002  # MCP6002, DS21733: into an input, beyond a supply
DIODE_V = 0.6
GAIN_WITHIN, OFFSET_WITHIN_V = 0.005, 0.005
GATE_ON_V = (1.5, 3.0)  # between them a gate has to switch, whatever the transistor
BASE_V, GAIN_LOW = 0.65, 50.0  # 2N3904 at a third of a milliampere: at least 50 is far below its least

Place = tuple[float, float]


@dataclass(frozen=True)
class Chip:
    """A block with pins on its sides: ``sides`` has side -> (pin, place along it)."""

    reference: str
    name: str
    note: str
    symbol: str
    box: tuple[float, float, float, float]
    sides: Mapping[str, tuple[tuple[str, float], ...]]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Small:
    """A pot, a jack, or a part with two ends; ``kind``: pot, jack, across or down."""

    reference: str
    name: str
    value: str
    kind: str
    at: Place


@dataclass(frozen=True)
class Wire:
    """One wire; ``by`` are the places where its drawing turns, by turns x and y."""

    begin: str
    end: str
    kind: str
    by: tuple[float, ...]


@dataclass(frozen=True)
class Desk:
    """``desk.toml``; ``rails``: rail -> pins."""

    profile: str
    header_at: Place
    chips: tuple[Chip, ...]
    smalls: tuple[Small, ...]
    rails: Mapping[str, tuple[str, ...]]
    wires: tuple[Wire, ...]

    def pins(self) -> set[str]:
        """Every pin that there is."""
        found = {f"{HEADER}.{number}" for number in range(1, 41)}
        for chip in self.chips:
            found |= {f"{chip.reference}.{pin}" for pin in chip.names}
        ends = {"pot": ("1", "2", "3"), "jack": ("T", "TN", "S"), "across": ("1", "2"), "down": ("1", "2")}
        return found | {f"{one.reference}.{end}" for one in self.smalls for end in ends[one.kind]}


# ---- reading ----


def read_desk(path: Path = DESK) -> Desk:
    """Read the table. DarkrackError names the key of what is unknown, and the pin that is not there or twice."""
    page = read_page(path, "the desk's table")
    headers, chips, rails = page.table("header"), page.table("chip"), page.table("rail")
    at = _place(headers.table(HEADER), "at")
    desk = Desk(
        profile=_text(page, "profile"),
        header_at=at,
        chips=tuple(_chip(name, chips.table(name)) for name in chips.content),
        smalls=(
            *(_small(name, table, "pot") for name, table in _tables(page, "pot")),
            *(_small(name, table, "jack") for name, table in _tables(page, "jack")),
            *(_small(name, table, "") for name, table in _tables(page, "two")),
        ),
        rails={name: tuple(_text(rails, name).split()) for name in rails.content},
        wires=tuple(_wire(table) for table in page.tables("wire")),
    )
    page.refuse_unknown()
    there = desk.pins()
    ends = [end for wire in desk.wires for end in (wire.begin, wire.end)]
    for pin in (*ends, *(pin for pins in desk.rails.values() for pin in pins)):
        if pin not in there:
            raise DarkrackError(f"{path.name}: {pin}", "a pin of a part", "none")
    if {*desk.rails} != {*RAILS}:
        raise DarkrackError(f"{path.name}: rail", f"{', '.join(RAILS)}", ", ".join(desk.rails))
    return desk


def _tables(page: Table, key: str) -> Iterator[tuple[str, Table]]:
    tables = page.table(key)
    yield from ((name, tables.table(name)) for name in tables.content)


def _text(table: Table, key: str) -> str:
    found = table.text(key)
    if found is None:
        raise DarkrackError(table.at(key), "a string", "none")
    return found


def _place(table: Table, key: str) -> Place:
    x, y = table.pair(key, 0.0, 297.0, (0.0, 0.0))
    return x, y


def _chip(reference: str, table: Table) -> Chip:
    box = table.numbers("box", 0.0, 297.0)
    sides = {
        side: tuple(
            (str(int(pin)), place) for pin, place in table.rows(side, ("pin", 1, 20), ("place", 0, 297))
        )
        if table.content.get(side)
        else ()
        for side in ("left", "right", "top", "bottom")
    }
    for side in sides:
        table.known.append(side)
    names = table.table("names")
    chip = Chip(
        reference=reference,
        name=_text(table, "name"),
        note=_text(table, "note"),
        symbol=_text(table, "symbol"),
        box=(box[0], box[1], box[2], box[3]),
        sides=sides,
        names={pin: _text(names, pin) for pin in names.content},
    )
    table.refuse_unknown()
    drawn = {pin for pins in sides.values() for pin, _ in pins}
    if drawn != {*chip.names}:
        raise DarkrackError(
            table.at("names"), "the pins of its sides", ", ".join(sorted(drawn ^ {*chip.names}))
        )
    return chip


def _small(reference: str, table: Table, kind: str) -> Small:
    kind = kind or table.choice("way", ("across", "down"))
    small = Small(reference, table.text("name") or "", table.text("value") or "", kind, _place(table, "at"))
    table.refuse_unknown()
    return small


def _wire(table: Table) -> Wire:
    by = table.numbers("by", 0.0, 297.0) if table.content.get("by") else ()
    table.known.append("by")
    wire = Wire(_text(table, "from"), _text(table, "to"), table.choice("kind", KINDS), by)
    table.refuse_unknown()
    return wire


# ---- what is connected ----


def netlist(desk: Desk) -> Netlist:
    """Parts and nets, as KiCad's netlist of the board; a rail has the board's name, any other net a pin's."""
    nets: dict[str, set[str]] = {RAILS[name]: {*pins} for name, pins in desk.rails.items()}
    for wire in desk.wires:
        ends = {wire.begin, wire.end}
        meets = [name for name, pins in nets.items() if pins & ends]
        name = next((one for one in meets if one in RAILS.values()), meets[0] if meets else min(ends))
        joined = ends.union(*(nets.pop(one) for one in meets)) if meets else ends
        nets[name] = joined
    taken = {pin for pins in nets.values() for pin in pins}
    for pin in sorted(desk.pins() - taken):
        nets[f"open {pin}"] = {pin}
    kinds = {"R": "R", "D": "D", "C": "C"}
    components = {
        **{chip.reference: Component(chip.reference, chip.name, chip.symbol, "", {}) for chip in desk.chips},
        **{
            one.reference: Component(
                one.reference,
                one.value,
                {"pot": "Pot", "jack": "Jack"}.get(one.kind) or kinds[one.reference[0]],
                "",
                {},
            )
            for one in desk.smalls
        },
    }
    return Netlist(components, {name: frozenset(pins) for name, pins in nets.items()})


def jack_of(desk: Desk, name: str) -> str:
    """The tip of a jack by its name."""
    return next(f"{one.reference}.T" for one in desk.smalls if one.name == name)


def chip_of(desk: Desk, symbol: str) -> Chip:
    """The chip of this symbol."""
    return next(chip for chip in desk.chips if chip.symbol == symbol)


def ways(desk: Desk) -> dict[str, tuple[float, float]]:
    """Gain and offset in volts from each jack that carries a voltage to the converter's pin."""
    nets, chip = netlist(desk), chip_of(desk, "MCP3208")
    found = {}
    for name, channel in (("V/OCT", "1"), ("CV 1", "2")):
        way = Way(jack_of(desk, name), f"{chip.reference}.{channel}")
        found[name] = stage(_as_board(nets), way, REFERENCE_V)
    return found


def _as_board(nets: Netlist) -> Netlist:
    """The same with its supply called as the board's reference, which `stage` holds."""
    return Netlist(
        nets.components, {"VREF" if name == "+3V3" else name: pins for name, pins in nets.nets.items()}
    )


def gate_on_v(desk: Desk) -> float:
    """Volts at the gate's jack at which the transistor, of the least gain that is allowed, pulls the line down."""
    nets = netlist(desk)
    ohms = {
        name: part.number
        for name, part in nets.components.items()
        if name.startswith("R") and part.symbol == "R"
    }
    base = nets.net_of("Q1.2")
    to_jack = next(name for name in ohms if nets.net_of(f"{name}.2") == nets.net_of(jack_of(desk, "GATE 1")))
    to_ground = next(
        name for name in ohms if nets.net_of(f"{name}.1") == base and nets.net_of(f"{name}.2") == "GND"
    )
    pull_up = next(name for name in ohms if nets.net_of(f"{name}.2") == nets.net_of("Q1.3"))
    base_a = REFERENCE_V / ohms[pull_up] / GAIN_LOW
    return BASE_V + ohms[to_jack] * (base_a + BASE_V / ohms[to_ground])


# ---- what could be wrong ----


def faults(desk: Desk, profile: Profile, intended: Intended) -> list[str]:
    """Where wires, pin table, profile and what parts stand do not fit; empty where a person may wire it."""
    nets = netlist(desk)
    return [
        *_supplies(desk, nets),
        *_bus(desk, nets, profile),
        *_header(nets, intended),
        *_inputs(desk, nets, profile),
        *_survives(desk, nets),
    ]


def _at(nets: Netlist, pin: str, net: str, why: str) -> Iterator[str]:
    if nets.net_of(pin) != net:
        yield f"{pin}: {why} wants {net}, it is at {nets.net_of(pin)}"


def _line(nets: Netlist, pin: str, line: int, why: str) -> Iterator[str]:
    yield from _at(nets, pin, nets.net_of(f"{HEADER}.{LINE_PINS[line]}"), f"{why}, GPIO{line},")


def _supplies(desk: Desk, nets: Netlist) -> Iterator[str]:
    supplies = {
        "VDD": "+3V3",
        "VREF": "+3V3",
        "VSS": "GND",
        "AGND": "GND",
        "DGND": "GND",
        "GND": "GND",
        "VIN": "+5V",
    }
    for chip in desk.chips:
        for pin, name in chip.names.items():
            if name in supplies:
                yield from _at(nets, f"{chip.reference}.{pin}", supplies[name], name)
    yield from _at(nets, "U4.6", "GND", "SCK of the sound board, which makes its own clock,")
    for pin in sorted(nets.nets["+5V"] - {f"{HEADER}.2", f"{HEADER}.4", "U4.1"}):
        yield f"{pin}: at 5 V, which nothing but the sound board stands"


def _bus(desk: Desk, nets: Netlist, profile: Profile) -> Iterator[str]:
    for chip in desk.chips:
        if chip.symbol in {"MCP3008", "MCP3208"}:
            drawn = look.mcp3x08(chip.symbol, tuple(range(8)), 30).units[1]
            names = {pin.number: pin.name for pin in drawn.pins}
            for pin, name in chip.names.items():
                if _plain(names[pin]) != _plain(name):
                    yield f"{chip.reference}.{pin}: {name} here, {names[pin]} in the schematic"
            for pin, name in chip.names.items():
                if name in SPI:
                    yield from _line(nets, f"{chip.reference}.{pin}", SPI[name], name)
        if chip.symbol == "PCM5102 board":
            for pin, name in chip.names.items():
                if name in I2S:
                    yield from _line(nets, f"{chip.reference}.{pin}", I2S[name], name)
    for symbol, select in (("MCP3008", profile.knob_chip), ("MCP3208", profile.cv_chip)):
        chip = chip_of(desk, symbol)
        if select.model != symbol:
            yield f"{chip.reference}: {symbol} here, {select.model} in the profile"
        yield from _line(nets, f"{chip.reference}.10", int(select.chip_select.removeprefix("D")), "CS")
    if profile.pitch_chip is not None:
        yield "chip.pitch: in the profile, not on the desk"


def _plain(name: str) -> str:
    """A pin's name without the line that KiCad draws over it."""
    return name.replace("~{", "").replace("}", "").replace("/SHDN", "")


def _header(nets: Netlist, intended: Intended) -> Iterator[str]:
    """Every pin of the header that has a wire does on the board what it does here."""
    parts = {
        "SPI": {"U1", "U2"},
        "selects the knobs'": {"U1"},
        "selects the CVs'": {"U2"},
        "gate 1": {"Q1"},
        "status light": {"R7"},
        "I2S": {"U4"},
    }
    for number in range(1, 41):
        net = nets.net_of(f"{HEADER}.{number}")
        words = intended.header[number]
        others = {pin.partition(".")[0] for pin in nets.nets[net]} - {HEADER}
        if not others:
            continue
        if words in RAILS.values():
            if net != words:
                yield f"{HEADER}.{number}: {words} in the pin table, wired to {net}"
            continue
        meant = next((found for key, found in parts.items() if key in words), set[str]())
        if not others & meant or net in RAILS.values():
            yield f"{HEADER}.{number}: {words!r} in the pin table, wired to {', '.join(sorted(others))}"


def _inputs(desk: Desk, nets: Netlist, profile: Profile) -> Iterator[str]:
    knobs = chip_of(desk, "MCP3008").reference
    pots = [one for one in desk.smalls if one.kind == "pot"]
    if len(pots) != len(profile.knob_channels):
        yield f"{len(pots)} pots, {len(profile.knob_channels)} in the profile"
    for pot, channel in zip(pots, profile.knob_channels, strict=False):
        left, wiper, right = POTS["Pot"][0]
        yield from _at(nets, f"{pot.reference}.{wiper}", nets.net_of(f"{knobs}.{channel + 1}"), pot.name)
        yield from _at(nets, f"{pot.reference}.{left}", "GND", f"{pot.name}, left end,")
        yield from _at(nets, f"{pot.reference}.{right}", "+3V3", f"{pot.name}, right end,")
    if (profile.pitch.channel, {n: cv.channel for n, cv in profile.cvs.items()}) != (0, {1: 1}):
        yield "profile: V/oct on channel 0 and CV 1 on channel 1 are wired"
    for name, wanted in (("V/OCT", profile.pitch), ("CV 1", profile.cvs.get(1))):
        gain, offset_v = ways(desk)[name]
        if (
            wanted is None
            or abs(gain / wanted.gain - 1) > GAIN_WITHIN
            or abs(offset_v - wanted.offset_v) > OFFSET_WITHIN_V
        ):
            yield f"{name}: gain {gain:.4f}, offset {offset_v:.4f} V by its resistors, the profile says {wanted}"
    gate = profile.gates[1]
    if not gate.inverted:
        yield "gate 1: a transistor turns it round, the profile does not"
    if gate.line is not None:
        yield from _line(nets, "Q1.3", gate.line, "the gate's transistor")
    if profile.led_line is not None:
        yield from _line(nets, "R7.1", profile.led_line, "the light")
    if not GATE_ON_V[0] < gate_on_v(desk) < GATE_ON_V[1]:
        yield f"gate 1: on above {gate_on_v(desk):.2f} V"


def _survives(desk: Desk, nets: Netlist) -> Iterator[str]:
    """No jack reaches a pin of the computer or of a chip but through a resistor that limits its current enough."""
    for jack in (one for one in desk.smalls if one.kind == "jack"):
        tip = nets.net_of(f"{jack.reference}.T")
        for other in sorted(nets.nets[tip] - {f"{jack.reference}.T"}):
            part = nets.components.get(other.partition(".")[0])
            if part is None or part.symbol != "R":
                yield f"{jack.name}: its tip is wired to {other} without a resistor"
            elif (JACK_MAX_V - DIODE_V) / part.number > CLAMP_MAX_A:
                yield f"{jack.name}: {part.value} let {(JACK_MAX_V - DIODE_V) / part.number * 1e3:.1f} mA through"
    base = nets.net_of("Q1.2")
    if not any(nets.net_of(pin) == base for pin in ("D1.1",)) or nets.net_of("D1.2") != "GND":
        yield "Q1: no diode holds its base when the gate goes under 0 V"


def budget(desk: Desk) -> dict[str, float]:
    """Milliamperes into what stands behind each jack at the most that a rack brings."""
    nets = netlist(desk)
    found = {}
    for jack in (one for one in desk.smalls if one.kind == "jack"):
        tip = nets.net_of(f"{jack.reference}.T")
        part = next(
            name for name in (pin.partition(".")[0] for pin in nets.nets[tip]) if name.startswith("R")
        )
        found[jack.name] = (JACK_MAX_V - DIODE_V) / nets.components[part].number * 1e3
    return found


def idle_v(desk: Desk) -> dict[str, float]:
    """Volts at the converter's pin with nothing plugged in: the jack's switch holds its tip at ground."""
    nets, chip = netlist(desk), chip_of(desk, "MCP3208").reference
    sources = {
        "+3V3": REFERENCE_V,
        nets.net_of(jack_of(desk, "V/OCT")): 0.0,
        nets.net_of(jack_of(desk, "CV 1")): 0.0,
    }
    solved = solve(nets, sources)
    return {"V/OCT": solved[nets.net_of(f"{chip}.1")], "CV 1": solved[nets.net_of(f"{chip}.2")]}
