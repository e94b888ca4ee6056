"""What has to hold between drawings, KiCad, pin table and profiles; each check returns what is wrong."""

from __future__ import annotations

from device.errors import DarkrackError
from device.profile import Chip, CvInput, Profile, read_profile
from hw_schematics import draw
from hw_schematics.drawing import collisions
from hw_schematics.netlist import (
    HEADER,
    LINE_PINS,
    RAILS,
    Intended,
    Netlist,
    differences,
    figures,
    line_of,
    read_intended,
    stage,
    wrong_figures,
)
from hw_schematics.panel import faults as panel_faults
from hw_schematics.panel import read_panel
from hw_schematics.pinouts import (
    footprint_differences,
    header_pin_differences,
    pin_differences,
    read_pinouts,
)
from hw_schematics.schematic import committed_files, exported, kicad_files, sheets_of

PROFILES = ("pi4", "pi5", "jetson-orin")
GAIN_WITHIN = 0.005  # of the profile's; the nearest of the E96 series come to 0.2 %
OFFSET_WITHIN_V = 0.005  # at the pin


def stale() -> list[str]:
    """KiCad's files in the clone that are not what is drawn."""
    drawn, there = kicad_files(draw.module()), committed_files()
    return [
        f"{name}: not as drawn" for name in sorted({*drawn, *there}) if drawn.get(name) != there.get(name)
    ]


def in_the_way() -> list[str]:
    """Whatever lies on something else, on any sheet."""
    return [line for sheet in sheets_of(draw.module()) for line in collisions(sheet)]


def library_differences() -> list[str]:
    """Where pin numbers and pads are not those of KiCad's own libraries."""
    placed = [
        one
        for sheet in sheets_of(draw.module())
        for one in sheet.placed
        if not one.symbol.power  # a supply is no part
    ]
    (header,) = (one for one in placed if one.reference == HEADER)
    return [
        *pin_differences(placed, read_pinouts()),
        *header_pin_differences(header),
        *footprint_differences(placed),
    ]


def _chip(name: str, chip: Chip | None, netlist: Netlist, intended: Intended) -> list[str]:
    want = intended.chips[name]
    if chip is None:
        return [f"chip.{name}: not in the profile"]
    found = []
    line = line_of(netlist, f"{want.part}.{want.select}")
    if chip.model != want.model or netlist.components[want.part].symbol != want.model:
        found.append(
            f"chip.{name}: {chip.model} in the profile, {netlist.components[want.part].symbol} on the board"
        )
    if chip.chip_select != f"D{line}":
        found.append(
            f"chip.{name}: selected by {chip.chip_select} in the profile, by GPIO{line} on the board"
        )
    if chip.reference_v != want.reference_v:
        found.append(f"chip.{name}: {chip.reference_v:g} V in the profile, {want.reference_v:g} V intended")
    return found


def _stage(name: str, way_of: CvInput, found: tuple[float, float]) -> list[str]:
    gain, offset_v = found
    wrong = []
    if abs(gain / way_of.gain - 1) > GAIN_WITHIN:
        wrong.append(f"{name}: gain {way_of.gain:g} in the profile, {gain:.4g} on the board")
    if abs(offset_v - way_of.offset_v) > OFFSET_WITHIN_V:
        wrong.append(f"{name}: offset {way_of.offset_v:g} V in the profile, {offset_v:.4g} V on the board")
    return wrong


def profile_differences(profile: Profile, netlist: Netlist, intended: Intended) -> list[str]:
    """Where a profile does not say what is on the board."""
    found = []
    for name, chip in (("knobs", profile.knob_chip), ("cv", profile.cv_chip), ("pitch", profile.pitch_chip)):
        found += _chip(name, chip, netlist, intended)
    channels = tuple(int(pin.partition(".")[2]) - 1 for _, (_, pin) in sorted(intended.knobs.items()))
    if profile.knob_channels != channels:
        found.append(f"knobs: channels {profile.knob_channels} in the profile, {channels} on the board")
    for number, (pot, pin) in intended.knobs.items():
        if netlist.net_of(f"{pot}.2") != netlist.net_of(pin):
            found.append(f"knob {number}: the wiper of {pot} is not at {pin}")
    pitch_v = intended.chips["pitch"].reference_v
    found += _stage("pitch", profile.pitch, stage(netlist, intended.pitch, pitch_v))
    if {*profile.cvs} != {*intended.cvs}:
        found.append(f"cv: {sorted(profile.cvs)} in the profile, {sorted(intended.cvs)} on the board")
    for number in {*profile.cvs} & {*intended.cvs}:
        cv, way = profile.cvs[number], intended.cvs[number]
        on_board = int(way.pin.partition(".")[2]) - 1
        if cv.channel != on_board:
            found.append(f"cv.{number}: channel {cv.channel} in the profile, {on_board} on the board")
        if cv.attenuverter is not None:
            found.append(
                f"cv.{number}: scaled by pot {cv.attenuverter} in the profile, by {way.attenuverter} on the board"
            )
        reference_v = intended.chips["cv"].reference_v
        found += _stage(f"cv.{number}", cv, stage(netlist, way, reference_v))
        gain, offset_v = stage(netlist, way, reference_v, place=0.0)
        found += _stage(f"cv.{number} turned round", cv, (-gain, offset_v))
    lines = {number: gate.line for number, gate in profile.gates.items()}
    if lines != {number: line for number, (_, line) in intended.gates.items()}:
        found.append(f"gate: lines {lines} in the profile, {intended.gates} on the board")
    if any(gate.inverted for gate in profile.gates.values()):
        found.append("gate: inverted in the profile, in phase on the board")
    if profile.led_line != intended.leds[1][1]:
        found.append(f"led: line {profile.led_line} in the profile, {intended.leds[1][1]} on the board")
    return found


def header_differences(netlist: Netlist, intended: Intended) -> list[str]:
    """Where the table of the header's 40 pins does not say what hangs there."""
    found = []
    lines = {pin: line for line, pin in LINE_PINS.items()}
    for number in range(1, 41):
        words = intended.header.get(number, "")
        net = netlist.net_of(f"{HEADER}.{number}")
        if str(number) in lines:
            if not words.startswith(f"GPIO{lines[str(number)]}: "):
                found.append(f"header {number}: {words!r}, which is GPIO{lines[str(number)]}")
        elif words not in RAILS or net != words:
            found.append(f"header {number}: {words!r} in the table, {net} on the board")
    for kind, places in (("gate", intended.gates), ("led", intended.leds)):
        for name, line in places.values():
            if not _reaches(netlist, line, name):
                found.append(f"{kind}: {name} does not hang on line {line}")
    return found


def _reaches(netlist: Netlist, line: int, name: str) -> bool:
    """Whether a line of the header leads to a part, through resistors, the parts on the way, and lights."""
    target = name.partition(".")[0]
    seen: set[str] = set()
    nets = {netlist.net_of(f"{HEADER}.{LINE_PINS[line]}")}
    for _ in range(5):  # resistor, Schmitt trigger or transistor, resistor, jack: never a rail
        nets = {net for net in nets if net not in RAILS} - seen
        seen |= nets
        parts = {pin.rpartition(".")[0] for net in nets for pin in netlist.nets[net]} - {HEADER}
        if target in parts:
            return True
        nets = {
            net
            for part in parts
            for net, pins in netlist.nets.items()
            for pin in pins
            if pin.startswith(f"{part}.") and _beside(netlist, part, pin, seen)
        }
    return False


def _beside(netlist: Netlist, part: str, pin: str, seen: set[str]) -> bool:
    """Whether a pin belongs to the same gate of a part as one that was seen."""
    if netlist.components[part].symbol != "74LVC2G17":
        return True
    pairs = {"1": "6", "6": "1", "3": "4", "4": "3"}
    other = pairs.get(pin.rpartition(".")[2])
    return other is not None and netlist.net_of(f"{part}.{other}") in seen


def report() -> str:
    """Run every check, and say what was found; DarkrackError where something does not hold."""
    intended = read_intended()
    netlist, violations = exported(draw.module())
    wrong = [
        *stale(),
        *in_the_way(),
        *panel_faults(read_panel()),
        *violations,
        *differences(netlist, intended),
        *header_differences(netlist, intended),
        *wrong_figures(netlist, intended),
        *library_differences(),
    ]
    for name in PROFILES:
        wrong += [f"{name}: {line}" for line in profile_differences(read_profile(name), netlist, intended)]
    if wrong:
        raise DarkrackError("the schematic", "one that is as intended", "\n  ".join(["", *wrong]))
    ways = {"pitch": (intended.pitch, "pitch"), **{f"cv {n}": (way, "cv") for n, way in intended.cvs.items()}}
    lines = [
        f"{len(netlist.components)} parts, {len(netlist.nets)} nets: as intended, no violation of KiCad's rules",
        *(
            "{}: gain {:.4f}, offset {:.4f} V".format(
                name, *stage(netlist, way, intended.chips[chip].reference_v)
            )
            for name, (way, chip) in ways.items()
        ),
        *(
            f"{name}: {', '.join(f'{value:.4g}' for value in values)}"
            for name, values in figures(netlist).items()
        ),
        f"profiles {', '.join(PROFILES)}: as the board",
    ]
    return "\n".join(lines)
