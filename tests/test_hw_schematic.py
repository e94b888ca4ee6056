"""The schematic: netlist, pin table, profiles and pictures belong together, and each planted fault is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from device.profile import Profile, read_profile
from hw_schematics import check, draw, schematic
from hw_schematics.drawing import Pin, Placed, Sheet, with_value
from hw_schematics.netlist import (
    Intended,
    Netlist,
    differences,
    figures,
    line_of,
    read_intended,
    solve,
    stage,
    wrong_figures,
)

pytestmark = pytest.mark.program("kicad-cli")


@pytest.fixture(scope="module")
def intended() -> Intended:
    return read_intended()


@pytest.fixture(scope="module")
def board() -> tuple[Netlist, list[str]]:
    """The netlist and the violations of the drawings as they are."""
    return schematic.exported(draw.module())


@pytest.fixture(scope="module")
def netlist(board: tuple[Netlist, list[str]]) -> Netlist:
    return board[0]


# ---- as it is ----


def test_kicads_rules_find_neither_error_nor_warning(board: tuple[Netlist, list[str]]) -> None:
    assert board[1] == []


def test_the_netlist_is_as_intended(netlist: Netlist, intended: Intended) -> None:
    assert differences(netlist, intended) == []


def test_every_pin_of_the_header_is_in_the_table(netlist: Netlist, intended: Intended) -> None:
    assert sorted(intended.header) == list(range(1, 41))
    assert check.header_differences(netlist, intended) == []


def test_figures_follow_from_the_resistors(netlist: Netlist, intended: Intended) -> None:
    assert {*figures(netlist)} == {*intended.figures}
    assert wrong_figures(netlist, intended) == []


@pytest.mark.parametrize("name", check.PROFILES)
def test_a_profile_is_as_the_board(name: str, netlist: Netlist, intended: Intended) -> None:
    assert check.profile_differences(read_profile(name), netlist, intended) == []


def test_pictures_and_parts_are_of_this_schematic() -> None:
    root = draw.module()
    with schematic.open_kicad(schematic.kicad_files(root), draw.PROJECT) as kicad:
        drawn = schematic.pictures(kicad, root)
        parts = schematic.bom(schematic.read_netlist(kicad.netlist()))
    there = {path.name: path.read_text(encoding="utf-8") for path in schematic.PICTURES.iterdir()}
    assert {*drawn} == {*there}
    assert [name for name in drawn if drawn[name] != there[name]] == [], "make schematic"
    assert parts == schematic.BOM.read_text(encoding="utf-8"), "make schematic"


def test_every_part_can_be_ordered(netlist: Netlist) -> None:
    pads = {reference for reference in netlist.components if reference.startswith("TP")}
    lacking = [
        reference
        for reference, part in netlist.components.items()
        if reference not in pads
        and not all(part.fields.get(name) for name in ("MPN", "Manufacturer", "Package"))
    ]
    assert lacking == []


# ---- planted faults: in the drawing, then the way that everything goes ----


def _sheet(root: Sheet, name: str) -> Sheet:
    return next(sheet for sheet in schematic.sheets_of(root) if sheet.name == name)


def _replace(sheet: Sheet, reference: str, change: Callable[[Placed], Placed]) -> None:
    assert any(placed.reference == reference for placed in sheet.placed)
    sheet.placed = [change(one) if one.reference == reference else one for one in sheet.placed]


def _swap_pins(sheet: Sheet, reference: str, one: str, other: str) -> None:
    """The part's symbol with two pins' numbers exchanged, as a wrong library would have it."""
    numbers = {one: other, other: one}

    def swapped(pin: Pin) -> Pin:
        return dataclasses.replace(pin, number=numbers.get(pin.number, pin.number))

    def change(placed: Placed) -> Placed:
        units = {
            number: dataclasses.replace(unit, pins=tuple(map(swapped, unit.pins)))
            for number, unit in placed.symbol.units.items()
        }
        symbol = dataclasses.replace(placed.symbol, name=f"{placed.symbol.name}_swapped", units=units)
        return dataclasses.replace(placed, symbol=symbol)

    _replace(sheet, reference, change)


def _cut(sheet: Sheet, reference: str, pin: str) -> None:
    """Take away the wires at a pin."""
    placed = next(one for one in sheet.placed if one.reference == reference)
    kept = [wire for wire in sheet.wires if placed.pin(pin) not in wire]
    assert len(kept) < len(sheet.wires)
    sheet.wires = kept


def _swapped_inputs(root: Sheet) -> None:
    _swap_pins(_sheet(root, "pitch"), "U302", "3", "4")


def _swapped_supplies(root: Sheet) -> None:
    _swap_pins(_sheet(root, "audio"), "U803", "4", "11")


def _missing_wire(root: Sheet) -> None:
    _cut(_sheet(root, "pitch"), "R303", "2")


def _missing_wire_between_sheets(root: Sheet) -> None:
    end = next(box for box in root.subsheets if box.sheet.name == "cv").pin("CS_CV")
    root.wires = [wire for wire in root.wires if end not in wire]


def _shorted_output(root: Sheet) -> None:
    sheet = _sheet(root, "audio")
    one, other = (next(one for one in sheet.placed if one.reference == name) for name in ("J801", "J802"))
    sheet.wire(one.pin("T"), other.pin("T"))


def _crossing_channels(root: Sheet) -> None:
    """CV 1 and CV 2 reach each other's channel, as after one wrong wire."""
    _swap_pins(_sheet(root, "cv"), "U403", "2", "3")


FAULTS: dict[str, Callable[[Sheet], None]] = {
    "swapped inputs of an amplifier": _swapped_inputs,
    "swapped supplies": _swapped_supplies,
    "a missing wire": _missing_wire,
    "a missing wire between two sheets": _missing_wire_between_sheets,
    "a shorted output": _shorted_output,
    "two channels exchanged": _crossing_channels,
}
# What KiCad's own rules are blind to: that is what the pin table is for.
ONLY_THE_TABLE = {
    "swapped inputs of an amplifier",
    "swapped supplies",
    "two channels exchanged",
    "a shorted output",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, intended: Intended) -> None:
    root = draw.module()
    FAULTS[name](root)
    netlist, violations = schematic.exported(root)
    assert differences(netlist, intended) != []
    assert bool(violations) == (name not in ONLY_THE_TABLE)


@pytest.mark.parametrize(
    ("sheet", "reference", "value"),
    [
        ("pitch", "R304", "110k 0.1%"),  # gain
        ("pitch", "R303", "1.1M 0.1%"),  # offset
        ("cv", "R426", "390k"),
        ("cv", "R431", "110k"),
        ("power", "R205", "13.3k"),
        ("power", "R203", "100k"),
        ("audio", "R822", "6.8k"),
        ("audio", "R812", "6.8k"),
        ("gates", "R611", "100k"),
        ("gates", "R622", "47k"),
    ],
)
def test_a_wrong_resistor_is_found(sheet: str, reference: str, value: str, intended: Intended) -> None:
    root = draw.module()
    with_value(_sheet(root, sheet), reference, value)
    netlist, violations = schematic.exported(root)
    assert violations == []
    assert differences(netlist, intended) == []
    wrong = wrong_figures(netlist, intended)
    assert wrong + check.profile_differences(read_profile("pi4"), netlist, intended) != []


def _pi4(**changes: object) -> Profile:
    return dataclasses.replace(read_profile("pi4"), **changes)  # type: ignore[arg-type]


def _moved_profiles() -> Iterator[Profile]:
    profile = _pi4()
    yield _pi4(cvs={**profile.cvs, 1: dataclasses.replace(profile.cvs[1], channel=4)})
    yield _pi4(cvs={**profile.cvs, 2: dataclasses.replace(profile.cvs[2], gain=0.33)})
    yield _pi4(cvs={**profile.cvs, 3: dataclasses.replace(profile.cvs[3], attenuverter=8)})
    yield _pi4(cvs={1: profile.cvs[1], 2: profile.cvs[2]})
    yield _pi4(pitch=dataclasses.replace(profile.pitch, offset_v=0.0))
    yield _pi4(pitch_chip=None)
    yield _pi4(knob_chip=dataclasses.replace(profile.knob_chip, chip_select="D12"))
    yield _pi4(cv_chip=dataclasses.replace(profile.cv_chip, reference_v=5.0))
    yield _pi4(knob_channels=(1, 0, 2, 3, 4, 5, 6, 7))
    yield _pi4(gates={**profile.gates, 2: dataclasses.replace(profile.gates[2], line=23)})
    yield _pi4(gates={**profile.gates, 1: dataclasses.replace(profile.gates[1], inverted=True)})
    yield _pi4(led_line=26)


@pytest.mark.parametrize("profile", list(_moved_profiles()), ids=range(12))
def test_what_moves_in_a_profile_only_is_found(
    profile: Profile, netlist: Netlist, intended: Intended
) -> None:
    assert len(check.profile_differences(profile, netlist, intended)) >= 1


def test_what_moves_in_the_table_only_is_found(netlist: Netlist, intended: Intended) -> None:
    moved = dataclasses.replace(intended, gates={1: ("J601.T", 22), 2: ("J602.T", 17)})
    assert len(check.header_differences(netlist, moved)) == 2
    assert len(check.profile_differences(_pi4(), netlist, moved)) == 1
    header = dataclasses.replace(
        intended, header={**intended.header, 29: "GPIO6: selects the CVs' converter"}
    )
    assert len(check.header_differences(netlist, header)) == 1


# ---- the solver ----


def test_an_attenuverter_goes_from_minus_one_over_nothing_to_one(
    netlist: Netlist, intended: Intended
) -> None:
    way = intended.cvs[1]
    jack, pin = netlist.net_of(way.jack), netlist.net_of(way.pin)
    at = {
        place: solve(netlist, {"VREF": 3.3, jack: 5.0}, {way.attenuverter: place})[pin]
        for place in (0.0, 0.5, 1.0)
    }
    gain, offset_v = stage(netlist, way, 3.3)
    assert at[0.5] == pytest.approx(offset_v, abs=1e-4)
    assert at[1.0] - offset_v == pytest.approx(5 * gain, abs=1e-4)
    assert offset_v - at[0.0] == pytest.approx(5 * gain, abs=1e-4)


def test_the_pitch_stage_is_its_conductances(netlist: Netlist, intended: Intended) -> None:
    ohms = {name: netlist.components[name].number for name in ("R302", "R303", "R304", "R309")}
    jack, reference, ground = 1 / ohms["R302"], 1 / ohms["R303"], 1 / (ohms["R304"] + ohms["R309"])
    total = jack + reference + ground
    assert stage(netlist, intended.pitch, 3.3) == pytest.approx(
        (jack / total, 3.3 * reference / total), rel=1e-6
    )


def test_the_ground_of_the_ribbon_is_taken_off_the_pitch(netlist: Netlist, intended: Intended) -> None:
    """Jack and sense wire 9 mV off our ground, as while a Pi 4 draws 0.9 A through the ribbon: under 1 mV is left."""
    jack, sense = netlist.net_of(intended.pitch.jack), "GNDS"
    plus, minus = netlist.net_of("U303.2"), netlist.net_of("U303.3")
    still = solve(netlist, {"VREF": 3.3, sense: 0.0, jack: 2.0})
    lifted = solve(netlist, {"VREF": 3.3, sense: -0.009, jack: 2.0 - 0.009})
    shift_v = (lifted[plus] - lifted[minus]) - (still[plus] - still[minus])
    gain, _ = stage(netlist, intended.pitch, 3.3)
    assert abs(shift_v / gain) < 0.001


def test_a_converter_is_selected_through_its_resistor(netlist: Netlist, intended: Intended) -> None:
    lines = {name: line_of(netlist, f"{chip.part}.{chip.select}") for name, chip in intended.chips.items()}
    assert lines == {"knobs": 5, "cv": 6, "pitch": 13}
    assert line_of(netlist, "U301.6") is None


# ---- while the computer boots ----

# Raspberry Pi after reset: GPIO0 to 8 pulled up, 9 to 27 down (BCM2835 ARM Peripherals, page 102), by 50 kOhm.
PULLED_UP = range(9)
PULL_OHM = 50e3


@pytest.mark.parametrize("pin", ["U303.5", "U403.10", "U501.10", "U702.2"])
def test_a_line_that_idles_high_is_high_while_a_pi_boots(pin: str, netlist: Netlist) -> None:
    """No converter is selected and MIDI OUT is silent before a program has taken the lines.

    2.2 V is what every 74LVC1G17 takes for high at 3 V, and more than half of 3.3 V, where a converter's input turns.
    """
    line = line_of(netlist, pin)
    assert line is not None
    (pull_up,) = (
        part.number
        for reference, part in netlist.components.items()
        if part.symbol == "R"
        and netlist.net_of(f"{reference}.2") == netlist.net_of(pin)
        and netlist.net_of(f"{reference}.1") in {"VREF", "+3V3"}
    )
    level_v = 3.3 if line in PULLED_UP else 3.3 * PULL_OHM / (PULL_OHM + pull_up)
    assert level_v > 2.2


# ---- no output against another ----


def test_no_two_outputs_meet_without_a_resistor(netlist: Netlist) -> None:
    """On no net lie two pins that drive, a line of the header counted as one: whatever a program makes of it."""
    driving = {"output", "tri_state", "open_collector", "power_out"}
    kinds = {
        f"{placed.reference}.{pin.number}": pin.kind
        for sheet in schematic.sheets_of(draw.module())
        for placed in sheet.placed
        for pin in placed.symbol.units[placed.unit].pins
    }
    rails = {"+3V3", "+5V", "GND"}
    for net, pins in netlist.nets.items():
        drivers = {pin for pin in pins if kinds[pin] in driving}
        if net not in rails:
            drivers |= {pin for pin in pins if pin.startswith("J901.")}
        assert len(drivers) <= 1, f"{net}: {drivers}"
