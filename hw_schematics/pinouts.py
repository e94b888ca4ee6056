"""Whether pin numbers are those of KiCad's own libraries: the one thing that drawings and pin table cannot tell.

Drawings and pin table were written by the same hands. KiCad's symbols and footprints were drawn by others, so a number
that both have is right, or wrong twice. They are read where KiCad is installed; nothing of them is in this repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from device.errors import DarkrackError
from device.toml_table import read_page
from hw_schematics.drawing import Placed
from hw_schematics.kicad import share
from hw_schematics.netlist import LINE_PINS, child, children, expressions
from hw_schematics.parts import read_parts

PINOUTS = Path(__file__).with_name("pinouts.toml")
HEADER_SYMBOL = "Connector:Raspberry_Pi_4"
# Kinds of pin that are one thing to whoever counts pins: what drives, and what takes.
ALIKE = {"open_collector": "output", "tri_state": "output", "power_out": "output"}
# Pads that a symbol has no pin for: one without a connection inside, and the lugs that hold an encoder.
BARE_PADS: Mapping[str, frozenset[str]] = {"74LVC1G17": frozenset({"1"}), "Encoder_switch": frozenset({"SH"})}


@dataclass(frozen=True)
class LibraryPin:
    """A pin of KiCad's: its unit of the part, name ("~" where it has none) and kind."""

    unit: int
    name: str
    kind: str


@dataclass(frozen=True)
class Pinout:
    """What a part is compared with: "library:symbol", and our words for KiCad's names of pins."""

    kicad: str
    names: Mapping[str, str]


def read_pinouts(path: Path = PINOUTS) -> Mapping[str, Pinout]:
    """The table by the keys of ``parts.toml``. DarkrackError names the key of what is unknown or missing."""
    page = read_page(path, "the pinouts")
    found = {}
    for key in page.content:
        table = page.table(key)
        names = table.table("names")
        ours = {name: names.text(name) or "" for name in names.content}
        library = table.text("kicad") or ""
        if ":" not in library:
            raise DarkrackError(table.at("kicad"), "a library and a symbol, as Device:LED", repr(library))
        table.refuse_unknown()
        found[key] = Pinout(library, ours)
    return found


def library_pins(name: str) -> Mapping[str, LibraryPin]:
    """The pins of a symbol ("library:symbol") by their numbers. DarkrackError where KiCad has none of that name."""
    library, _, symbol = name.partition(":")
    path = share("symbols") / f"{library}.kicad_sym"
    if not path.is_file():
        raise DarkrackError(name, "a library of KiCad", "none")
    symbols = {one[1]: one for one in children(expressions(path.read_text(encoding="utf-8")), "symbol")}
    if symbol not in symbols:
        raise DarkrackError(name, f"a symbol of {path.name}", "none")
    drawn = symbols[symbol]
    while (base := child(drawn, "extends")[1]) in symbols:  # a part that is drawn as another one
        drawn = symbols[base]
    return {
        child(pin, "number")[1]: LibraryPin(int(unit[1].split("_")[-2]), child(pin, "name")[1], pin[1])
        for unit in children(drawn, "symbol")
        for pin in children(unit, "pin")
    }


def _plain(name: str) -> str:
    return re.sub(r"[^A-Z0-9+-]", "", name.upper())


def pin_differences(placed: Iterable[Placed], pinouts: Mapping[str, Pinout]) -> list[str]:
    """Where the symbols of these parts number their pins otherwise than KiCad's.

    Pins are compared by name, where KiCad has one, otherwise by kind, and by the unit of the part that they belong to.
    """
    found = []
    by_value = {read_parts()[key].value: pinout for key, pinout in pinouts.items()}
    for part in {one.reference: one for one in placed}.values():
        pinout = by_value.get(part.value)
        if pinout is None:
            continue
        ours = {pin.number: (number, pin) for number, unit in part.symbol.units.items() for pin in unit.pins}
        theirs = library_pins(pinout.kicad)
        connected = {number for number, pin in theirs.items() if pin.kind != "no_connect"}
        if connected - {*ours} or {*ours} - {*theirs}:
            found.append(f"{part.reference}: pins {sorted(ours)}, {sorted(theirs)} in {pinout.kicad}")
        for number in {*ours} & {*theirs}:
            unit, pin = ours[number]
            their = theirs[number]
            name = pinout.names.get(their.name, their.name)
            same = _plain(pin.name) == _plain(name)
            if name == "~" and pin.kind != "passive":
                same = ALIKE.get(pin.kind, pin.kind) == ALIKE.get(their.kind, their.kind)
            elif name == "~":
                same = True  # a passive pin without a name: its number is there, and no more is said
            if not same or unit != their.unit:
                found.append(f"{part.reference}.{number}: {pin.name}, {their.name} in {pinout.kicad}")
    return found


def header_pin_differences(header: Placed) -> list[str]:
    """Where the 40-pin header, or the table of its lines, is not KiCad's Raspberry Pi."""
    lines = {pin: line for line, pin in LINE_PINS.items()}
    found = []
    for number, their in library_pins(HEADER_SYMBOL).items():
        (ours,) = (pin for unit in header.symbol.units.values() for pin in unit.pins if pin.number == number)
        line = re.search(r"GPIO(\d+)", their.name)
        want = f"GPIO{int(line[1])}" if line else their.name
        said = {27: "GPIO0", 28: "GPIO1"}.get(int(number), ours.name.split()[0])
        if said != want or lines.get(number) != (int(line[1]) if line else None):
            found.append(f"header {number}: {ours.name}, {their.name} in {HEADER_SYMBOL}")
    return found


def footprint_differences(placed: Iterable[Placed]) -> list[str]:
    """Footprints that KiCad has not, or whose pads are not the pins of their symbol."""
    pins: dict[tuple[str, str], set[str]] = {}
    for part in placed:
        if footprint := part.fields.get("Footprint", ""):
            ours = {pin.number for unit in part.symbol.units.values() for pin in unit.pins}
            pins.setdefault((footprint, part.symbol.name), set()).update(ours)
    found = []
    for (footprint, symbol), ours in sorted(pins.items()):
        library, _, name = footprint.partition(":")
        path = share("footprints") / f"{library}.pretty" / f"{name}.kicad_mod"
        if not path.is_file():
            found.append(f"{footprint}: not in KiCad's library")
            continue
        whole = expressions(path.read_text(encoding="utf-8"))
        pads = {pad[1] for pad in children(whole, "pad")} - {""} - BARE_PADS.get(symbol, frozenset())
        if pads != ours:
            found.append(f"{footprint}: pads {sorted(pads)}, pins {sorted(ours)} of {symbol}")
    return found
