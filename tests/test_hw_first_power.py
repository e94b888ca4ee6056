"""What docs/build.md says a meter shows: of the pin table, the profile and the panel."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from device.errors import DarkrackError
from device.profile import read_profile
from hw_schematics.build_page import with_tables
from hw_schematics.first_power import readings, table
from hw_schematics.netlist import read_intended
from hw_schematics.panel import read_panel

PAGE = Path(__file__).resolve().parent.parent / "docs" / "build.md"


def test_the_page_has_the_tables_as_they_are_now() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert table(read_intended(), read_profile("pi4")) in text
    assert with_tables(text) == text, "make schematic"
    old = text.replace("11.56 to", "11.50 to").replace("pin 10 (CS) of MCP3008", "pin 9")
    assert old != text
    assert with_tables(old) == text
    with pytest.raises(DarkrackError, match="when"):
        with_tables(text.replace("| when |", "| if |"))


def test_every_measurement_is_at_a_test_point_of_that_net_and_every_test_point_is_measured() -> None:
    intended = read_intended()
    found = readings(intended, read_profile("pi4"))
    for one in found:
        assert f"{one.point}.1" in intended.nets[one.net], one.point
        assert one.low_v < one.high_v
    points = {
        pin.partition(".")[0] for pins in intended.nets.values() for pin in pins if pin.startswith("TP")
    }
    assert points - {one.point for one in found} == {"TP204"}  # ground itself


def test_a_part_that_is_blamed_is_on_the_board() -> None:
    intended = read_intended()
    parts = {pin.partition(".")[0] for pins in intended.nets.values() for pin in pins}
    for one in readings(intended, read_profile("pi4")):
        blamed = re.findall(r"\b[A-Z]{1,2}\d{3,4}\b", one.otherwise)
        assert set(blamed) <= parts, one.otherwise


def test_a_voltage_that_moves_in_the_table_moves_on_the_page() -> None:
    intended = read_intended()
    moved = dataclasses.replace(intended, figures={**intended.figures, "buck_v": (5.2, 0.05)})
    assert table(moved, read_profile("pi4")) not in PAGE.read_text(encoding="utf-8")


def test_parts_and_depth_on_the_page_are_those_of_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    module = page[page.index("## The module") :]
    panel = read_panel()
    assert f"Depth behind the face: **{panel.depth_mm:g} mm**" in module
    assert f"{panel.width_mm:g} mm wide panel" in module
    width, height = panel.board[2] - panel.board[0], panel.board[3] - panel.board[1]
    assert f"board of at most {width:.0f} x {height:.0f} mm" in module
    encoder, thickness_mm, gap_mm = panel.kinds["encoder"], panel.thickness_mm, panel.kinds["pot"].seat_mm
    assert f"The encoder stands {gap_mm - encoder.seat_mm:g} mm short" in page
    assert f"its bush comes {encoder.seat_mm + encoder.bush_mm - gap_mm - thickness_mm:g} mm out" in page
    assert f"Jacks stand {gap_mm - panel.kinds['jack'].seat_mm:g} mm short" in page
    assert ["first five measurements" in page, readings(read_intended(), read_profile("pi4"))[4].point] == [
        True,
        "TP301",
    ]
    intended = read_intended()
    parts = {pin.partition(".")[0] for pins in intended.nets.values() for pin in pins}
    named = set(re.findall(r"\b(?:U|R|C|J|Q|D|F|FB|L|TP|JP)\d{3}\b", module))
    assert named
    assert named <= parts
