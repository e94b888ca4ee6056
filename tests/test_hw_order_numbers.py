"""Order numbers against values, and the bill of materials against the drawings."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter

import pytest

from hw_schematics import draw
from hw_schematics.netlist import Component
from hw_schematics.order_numbers import faults, second_source, told
from hw_schematics.parts import Part, read_parts
from hw_schematics.schematic import BOM, sheets_of

# How many pins a package has, as it is written in parts.toml.
PINS = {
    "0805": 2, "1206": 2, "1210": 2, "1812": 2, "2512": 2, "SOD-123": 2, "SOT-23": 3, "SOT-23-5": 5, "SOT-23-6": 6,
    "SMDIP-6": 6, "MSOP-8": 8, "SOIC-14": 14, "SOIC-16": 16, "TSSOP-20": 20,
}  # fmt: skip


def _number(value: str) -> float:
    return Component("R1", value, "R", "", {}).number


def _faults(parts: dict[str, Part]) -> list[str]:
    return faults(
        {key: (p.mpn, p.value, p.tolerance, p.package, p.footprint) for key, p in parts.items()},
        {key: _number(part.value) for key, part in parts.items() if key[:2] in {"R_", "C_"}},
    )


def test_every_order_number_is_of_its_value_tolerance_and_size() -> None:
    parts = dict(read_parts())
    assert _faults(parts) == []
    read = [key for key, part in parts.items() if told(part.mpn)]
    unread = [key for key in parts if key[:2] in {"R_", "C_"} and key not in read]
    assert sorted(unread) == ["C_47u_bulk", "R_220_midi", "R_560_midi"]  # of makers that are not read


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("R_13k7", {"mpn": "RC0805FR-0713K3L"}),
        ("R_100k_precise", {"mpn": "RC0805FR-07100KL"}),
        ("C_75p", {"mpn": "GRM2165C1H751JA01D"}),
        ("C_10u", {"package": "0805"}),
        ("C_22u", {"tolerance": "10 %, X7R 25 V"}),
    ],
)
def test_an_order_number_of_something_else_is_found(key: str, change: dict[str, str]) -> None:
    parts = {key: dataclasses.replace(read_parts()[key], **change)}
    assert len(_faults(parts)) >= 1


def test_a_second_maker_writes_the_same_value() -> None:
    assert second_source("RC0805FR-0747RL") == "ERJ-6ENF47R0V (Panasonic)"
    assert second_source("RC0805FR-077K68L") == "ERJ-6ENF7681V (Panasonic)"
    assert second_source("RC0805FR-07100KL") == "ERJ-6ENF1003V (Panasonic)"
    assert second_source("GRM21BR71E105KA99L") == "C0805C105K3RACTU (KEMET)"
    assert second_source("TPS54302DDCR") == ""


def test_what_counts_in_cents_is_of_a_tenth_of_a_percent() -> None:
    """The three resistors of V/oct: their ratio is gain and offset, their drift the pitch's."""
    pitch = next(sheet for sheet in sheets_of(draw.module()) if sheet.name == "pitch")
    precise = {one.reference: one.fields["Tolerance"] for one in pitch.placed if one.value.endswith("0.1%")}
    assert {*precise} == {"R302", "R303", "R304"}
    assert all(tolerance.startswith("0.1 %") for tolerance in precise.values())


def test_no_part_has_a_pin_that_its_package_has_not() -> None:
    wrong = []
    for sheet in sheets_of(draw.module()):
        for placed in sheet.placed:
            most = PINS.get(placed.fields.get("Package", ""))
            numbers = [pin.number for pin in placed.symbol.units[placed.unit].pins]
            if most and any(not number.isdigit() or int(number) > most for number in numbers):
                wrong.append(f"{placed.reference}: {numbers} on {placed.fields['Package']}")
    assert wrong == []


def test_the_bill_of_materials_has_every_part_of_the_drawings_once() -> None:
    with BOM.open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    drawn = {
        placed.reference: placed.fields["MPN"]
        for sheet in sheets_of(draw.module())
        for placed in sheet.placed
        if placed.fields.get("MPN", "-") != "-"
    }
    listed = Counter(reference for row in rows for reference in row["references"].split())
    assert set(listed.values()) == {1}
    assert {*listed} == {*drawn}
    for row in rows:
        references = row["references"].split()
        assert int(row["quantity"]) == len(references)
        assert {drawn[reference] for reference in references} == {row["mpn"]}
        assert all(row[name] for name in ("value", "description", "manufacturer", "package", "alternates")), (
            row["mpn"]
        )
        assert row["price"] == "not checked" or (row["price source"] and row["price date"])
    pads = {
        placed.reference
        for sheet in sheets_of(draw.module())
        for placed in sheet.placed
        if placed.fields.get("MPN") == "-"
    }
    assert pads
    assert all(reference.startswith("TP") for reference in pads)
