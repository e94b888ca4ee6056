"""Pin numbers are compared with KiCad's own libraries, and a wrong one is found; the rest is in a table, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from device.errors import DarkrackError
from hw_schematics import check, draw, kicad, schematic
from hw_schematics.drawing import Pin, Placed
from hw_schematics.parts import read_parts
from hw_schematics.pinouts import (
    PINOUTS,
    footprint_differences,
    header_pin_differences,
    library_pins,
    pin_differences,
    read_pinouts,
)

BY_HAND = schematic.HERE / "docs" / "parts_checked.md"


def _placed(reference: str) -> Placed:
    return next(
        one
        for sheet in schematic.sheets_of(draw.module())
        for one in sheet.placed
        if one.reference == reference
    )


def _swapped(part: Placed, one: str, other: str) -> Placed:
    """The part with two numbers exchanged."""
    numbers = {one: other, other: one}

    def pins(of: tuple[Pin, ...]) -> tuple[Pin, ...]:
        return tuple(dataclasses.replace(pin, number=numbers.get(pin.number, pin.number)) for pin in of)

    units = {
        number: dataclasses.replace(unit, pins=pins(unit.pins)) for number, unit in part.symbol.units.items()
    }
    return dataclasses.replace(part, symbol=dataclasses.replace(part.symbol, units=units))


@pytest.mark.program("kicad-cli")
def test_pin_numbers_and_pads_are_those_of_kicads_libraries() -> None:
    assert check.library_differences() == []


@pytest.mark.program("kicad-cli")
@pytest.mark.parametrize(
    ("reference", "one", "other"),
    [
        ("U201", "2", "3"),
        ("U202", "4", "6"),
        ("U401", "2", "3"),  # inputs of one amplifier
        ("U401", "1", "7"),  # outputs of two: the kind is the same, the unit is not
        ("U403", "12", "13"),
        ("U601", "2", "5"),
        ("U701", "4", "6"),
        ("U801", "13", "14"),
        ("Q701", "2", "3"),
        ("D601", "1", "2"),
        ("D702", "1", "2"),
    ],
)
def test_a_wrong_pin_number_is_found(reference: str, one: str, other: str) -> None:
    wrong = _swapped(_placed(reference), one, other)
    assert len(pin_differences([wrong], read_pinouts())) == 2


@pytest.mark.program("kicad-cli")
def test_a_pin_too_many_is_found() -> None:
    part = _placed("U802")
    unit = part.symbol.units[1]
    units = {1: dataclasses.replace(unit, pins=(*unit.pins, Pin("6", "X", "input", 0.0, 0.0, "right")))}
    more = dataclasses.replace(part, symbol=dataclasses.replace(part.symbol, units=units))
    assert len(pin_differences([more], read_pinouts())) == 1
    assert len(footprint_differences([more])) == 1


@pytest.mark.program("kicad-cli")
def test_exchanged_lines_of_the_header_are_found() -> None:
    assert len(header_pin_differences(_swapped(_placed("J901"), "29", "31"))) == 2


@pytest.mark.program("kicad-cli")
def test_a_footprint_that_is_not_there_is_found() -> None:
    part = _placed("U301")
    fields = {**part.fields, "Footprint": "Package_TO_SOT_SMD:SOT-23-7"}
    assert len(footprint_differences([dataclasses.replace(part, fields=fields)])) == 1


@pytest.mark.program("kicad-cli")
@pytest.mark.parametrize("name", ["Nothing:LED", "Device:Nothing"])
def test_a_symbol_that_kicad_has_not_is_refused(name: str) -> None:
    with pytest.raises(DarkrackError, match="Nothing"):
        library_pins(name)


def test_every_part_with_pins_that_differ_is_compared_or_in_the_table_by_hand() -> None:
    """A part is in pinouts.toml, or its order number stands in the table; two-pin parts that lie either way are not."""
    compared = {read_parts()[key].mpn for key in read_pinouts()}
    by_hand = BY_HAND.read_text(encoding="utf-8")
    lacking = {
        one.fields["MPN"]
        for sheet in schematic.sheets_of(draw.module())
        for one in sheet.placed
        if not one.symbol.power
        and one.symbol.prefix not in {"R", "C", "L", "FB", "F", "TP", "JP"}
        and one.fields["MPN"] not in compared
        and f"`{one.fields['MPN']}`" not in by_hand
    }
    assert lacking == set()


def test_a_key_that_is_no_part_and_a_word_that_is_no_library_are_refused(tmp_path: Path) -> None:
    text = PINOUTS.read_text(encoding="utf-8")
    path = tmp_path / "pinouts.toml"
    path.write_text(text + '\n[LED]\nkicad = "LED"\n', encoding="utf-8")
    with pytest.raises(DarkrackError, match=r"LED\.kicad"):
        read_pinouts(path)
    path.write_text(text + '\n[LED]\nkicad = "Device:LED"\nname = "x"\n', encoding="utf-8")
    with pytest.raises(DarkrackError, match="name"):
        read_pinouts(path)


def test_without_libraries_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KICAD9_SYMBOL_DIR", str(tmp_path / "none"))
    with pytest.raises(DarkrackError, match="KICAD9_SYMBOL_DIR"):
        kicad.share("symbols")
    (tmp_path / "none").mkdir()
    assert kicad.share("symbols") == tmp_path / "none"
