"""What of the schematic can be checked without KiCad: drawings against files, texts against each other, the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from device.errors import DarkrackError
from hw_schematics import check, draw, kicad, schematic
from hw_schematics import symbols as look
from hw_schematics.drawing import Sheet, collisions
from hw_schematics.kicad_file import sheet_text
from hw_schematics.netlist import PINS, read_intended
from hw_schematics.parts import PARTS, read_parts


def test_kicads_files_are_as_drawn() -> None:
    assert check.stale() == [], "make schematic"


def test_nothing_lies_on_anything_else() -> None:
    assert check.in_the_way() == []


def test_two_texts_on_each_other_are_found() -> None:
    sheet = Sheet("try", "Try")
    sheet.say("one", (20, 20))
    sheet.say("two", (20.5, 20.2))
    assert collisions(sheet) == ["try: text 'one' and text 'two'"]


def test_a_text_on_a_wire_and_one_off_the_sheet_are_found() -> None:
    sheet = Sheet("try", "Try")
    sheet.wire((20, 20), (30, 20))
    sheet.say("on it", (22, 19.8))
    sheet.say("a long way to the right", (110, 30))
    assert collisions(sheet) == [
        "try: text 'on it' and wire 'a wire'",
        "try: 'a long way to the right' leaves the frame",
    ]


def test_a_wire_that_ends_on_another_is_joined_and_one_that_crosses_is_not() -> None:
    sheet = Sheet("try", "Try")
    sheet.wire((20, 20), (30, 20))
    sheet.wire((25, 20), (25, 30))
    sheet.wire((22, 15), (22, 25))
    assert sheet.junctions() == [(25, 20)]
    assert sheet.segments() == [
        ((20, 20), (25, 20)),
        ((25, 20), (30, 20)),
        ((25, 20), (25, 30)),
        ((22, 15), (22, 25)),
    ]


def test_the_same_drawing_makes_the_same_file_and_every_identifier_once() -> None:
    one, other = (schematic.kicad_files(draw.module()) for _ in range(2))
    assert one == other
    found = [name for text in one.values() for name in re.findall(r'\(uuid "([^"]+)"\)', text)]
    assert len(found) == len(set(found)) > 1000


def test_a_reference_is_given_once_for_each_unit() -> None:
    placed = [
        (one.reference, one.unit) for sheet in schematic.sheets_of(draw.module()) for one in sheet.placed
    ]
    assert len(placed) == len(set(placed))


def test_words_with_quotes_and_lines_stay_one_string() -> None:
    sheet = Sheet("try", "Try")
    sheet.say('a "quoted"\nline', (20, 20))
    sheet.place(look.RESISTOR, "R1", "1k", (40, 20))
    text = sheet_text(sheet, "try", sheet, schematic.TITLE_BLOCK)
    assert r'(text "a \"quoted\"\nline"' in text


def test_strokes_that_join_are_drawn_in_one() -> None:
    svg = """<svg><title>SVG Image created as x.svg date 2026/11/21 20:58:42 </title>
<g><path d="M1.0000 2.0000
L3.1234 2.0000
" />
<path d="M3.1234 2.0000
L4.0000 2.0000
" />
<path d="M9.0000 9.0000
L8.0000 8.0000
" />
</g><g class="stroked-text"><desc>KiCad E.D.A. 9.0.2</desc>
<path d="M0.0000 0.0000
L1.0000 1.0000
" />
</g></svg>"""
    small = schematic.smaller(svg)
    assert "2026" not in small
    assert "E.D.A." not in small
    assert "M1.00 2.00 3.12 2.00 4.00 2.00 M9.00 9.00 8.00 8.00" in small.replace("L", "")


def test_a_pin_that_is_given_away_twice_is_refused(tmp_path: Path) -> None:
    text = PINS.read_text(encoding="utf-8").replace('"R206.2 D202.2"', '"R206.2 D202.2 U201.5"')
    path = tmp_path / "pins.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DarkrackError, match=r"U201\.5"):
        read_intended(path)


def test_an_unknown_key_of_a_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "parts.toml"
    path.write_text(PARTS.read_text(encoding="utf-8") + '\n[R_1]\nvalue = "1"\nmnp = "X"\n', encoding="utf-8")
    with pytest.raises(DarkrackError, match="mnp"):
        read_parts(path)


def test_every_part_of_the_list_is_used() -> None:
    drawn = {one.fields.get("MPN") for sheet in schematic.sheets_of(draw.module()) for one in sheet.placed}
    assert [key for key, part in read_parts().items() if part.mpn not in drawn] == []


def test_without_kicad_and_without_root_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kicad, "_path_version", lambda: 0)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not kicad.is_there()
    with pytest.raises(DarkrackError, match=r"root on Debian(.|\n)*kicad\.org"):
        kicad.install()
    with pytest.raises(DarkrackError, match="make hardware"), kicad.open_kicad({}, "darkrack"):
        pass


def test_readme_has_every_pin_of_the_header_and_every_control() -> None:
    readme = (schematic.HERE / "README.md").read_text(encoding="utf-8")
    intended = read_intended()
    rows = {
        int(number): words for number, words in re.findall(r"^\| (\d+) \| ([^|]+?) \|$", readme, re.MULTILINE)
    }
    assert rows == intended.header
    panel = {
        (one.fields["Panel"], one.reference)
        for sheet in schematic.sheets_of(draw.module())
        for one in sheet.placed
        if "Panel" in one.fields
    }
    told = set(re.findall(r"^\| `([^`]+)` \| ([A-Z]+\d+) \|", readme, re.MULTILINE))
    assert told == panel
