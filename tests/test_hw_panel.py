"""The front panel: one hole for each control, room for hands and bodies, files that are of this table."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device.errors import DarkrackError
from hw_schematics import draw, panel_files
from hw_schematics.face import face
from hw_schematics.lettering import letter
from hw_schematics.panel import PANEL, Panel, art, controls, faults, read_panel
from hw_schematics.schematic import sheets_of

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def panel() -> Panel:
    return read_panel()


def _with_hole(panel: Panel, which: str, **changes: Any) -> Panel:
    hole = panel.named(which)
    changed = dataclasses.replace(hole, **changes)
    return dataclasses.replace(panel, holes=tuple(changed if one is hole else one for one in panel.holes))


def test_the_panel_can_be_made_mounted_and_played(panel: Panel) -> None:
    assert faults(panel) == []


def test_every_control_of_the_schematic_has_one_hole_and_the_other_way_round(panel: Panel) -> None:
    drawn = {
        placed.reference: placed.fields["Panel"]
        for sheet in sheets_of(draw.module())
        for placed in sheet.placed
        if "Panel" in placed.fields
    }
    assert len(drawn) == 28
    assert sorted((hole.reference, hole.name) for hole in panel.holes) == sorted(drawn.items())


PLANTED: dict[str, tuple[Callable[[Panel], Panel], str]] = {
    "a hole is forgotten": (
        lambda panel: dataclasses.replace(panel, holes=panel.holes[1:]),
        r"RV501 \(KNOB 1\): no hole",
    ),
    "two jacks are exchanged": (
        lambda panel: _with_hole(_with_hole(panel, "GATE 1", name="V/OCT"), "V/OCT", name="GATE 1"),
        "in the schematic",
    ),
    "a legend says something else": (
        lambda panel: _with_hole(panel, "OUT L", legend="OUT R"),
        "'OUT R' is printed at 'OUT L'",
    ),
    "a hole is too narrow": (lambda panel: _with_hole(panel, "KNOB 3", d=6.4), "RV503: a hole of 6.4 mm"),
    "a jack under the rail": (lambda panel: _with_hole(panel, "GATE 1", y=115.0), "GATE 1: off the board"),
    "two knobs too near": (lambda panel: _with_hole(panel, "KNOB 2", x=30.0), "KNOB 1 and KNOB 2: .* apart"),
    "one body in the other": (
        lambda panel: _with_hole(panel, "GATE 1 LED", x=36.0, y=106.0),
        "one body in the other",
    ),
    "a legend under a nut": (
        lambda panel: _with_hole(panel, "GATE 1 LED", x=38.0),
        "'GATE 1': under GATE 1 LED",
    ),
    "a light over the edge of a block": (
        lambda panel: _with_hole(panel, "STATUS", x=79.0),
        "at the edge of block",
    ),
    "a word printed on another": (
        lambda panel: dataclasses.replace(panel, words=(dataclasses.replace(panel.words[0], y=24.0),)),
        "printed on each other",
    ),
    "a width that no rack has": (
        lambda panel: dataclasses.replace(panel, width_mm=101.6),
        "20 HP: 101.6 mm",
    ),
    "a screw off the grid": (
        lambda panel: dataclasses.replace(panel, screws=((10.0, 3.0), *panel.screws[1:])),
        "not on the rack's grid",
    ),
    "an encoder with the short bush": (
        lambda panel: dataclasses.replace(
            panel,
            kinds={**panel.kinds, "encoder": dataclasses.replace(panel.kinds["encoder"], bush_mm=5.0)},
        ),
        "SELECT: its bush comes -0.5 mm out",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, panel: Panel) -> None:
    plant, expected = PLANTED[name]
    assert [line for line in faults(plant(panel)) if re.search(expected, line)]


def test_what_the_table_does_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "panel.toml"
    text = PANEL.read_text(encoding="utf-8")
    path.write_text(text.replace("thickness_mm", "thick_mm", 1), encoding="utf-8")
    with pytest.raises(DarkrackError, match="thickness_mm"):
        read_panel(path)
    path.write_text(text.replace('"KNOB 1", "KNOB 2"', '"KNOB 1", "KNOB 9"'), encoding="utf-8")
    with pytest.raises(DarkrackError, match="KNOB 9"):
        read_panel(path)


# ---- files ----


def test_files_are_of_this_table(panel: Panel) -> None:
    """Byte by byte, but for the PDF, which says what drawing it was made from: its writer is not pinned."""
    made = panel_files.files(panel, with_pdf=False)
    for path, content in made.items():
        assert path.read_bytes() == content, f"{path.name}: make schematic"
    pdf = (panel_files.FOLDER / "panel.pdf").read_bytes()
    digest = panel_files.digest_of(made[panel_files.FOLDER / "panel.dxf"].decode("utf-8"))
    assert digest.encode("ascii") in pdf, "panel.pdf: make schematic"
    assert sorted(path.name for path in panel_files.FOLDER.iterdir()) == [
        "face.svg", "panel.dxf", "panel.pdf", "panel.svg",
    ]  # fmt: skip


def test_the_drawing_has_every_hole_at_its_place(panel: Panel) -> None:
    """Read back from the DXF: a circle for every hole and screw, within the outline, nothing else on that layer."""
    import ezdxf

    doc = ezdxf.readfile(panel_files.FOLDER / "panel.dxf")
    assert doc.units == 4  # millimetres
    circles = {
        (
            round(one.dxf.center.x, 3),
            round(panel.height_mm - one.dxf.center.y, 3),
            round(2 * one.dxf.radius, 3),
        )
        for one in doc.modelspace().query('CIRCLE[layer=="HOLES"]')
    }
    holes = {(hole.x, hole.y, hole.d) for hole in panel.holes}
    assert circles == holes | {(x, y, panel.screw_hole_mm) for x, y in panel.screws}
    assert len(doc.modelspace().query('*[layer=="HOLES"]')) == len(panel.holes) + len(panel.screws)
    assert len(doc.modelspace().query('DIMENSION[layer=="DIMENSIONS"]')) > 15
    assert len(doc.modelspace().query('HATCH[layer=="LEGEND"]')) > len(panel.holes)
    assert doc.audit().errors == []


def test_the_pdf_is_at_one_to_one() -> None:
    pdf = (panel_files.FOLDER / "panel.pdf").read_bytes()
    found = re.search(rb"/MediaBox \[ 0 0 ([0-9.]+) ([0-9.]+) \]", pdf)
    assert found
    assert [float(side) * 25.4 / 72 for side in found.groups()] == pytest.approx(
        panel_files.PAGE_MM, abs=0.01
    )


def test_the_face_shows_every_control(panel: Panel) -> None:
    picture = face(panel)
    for hole in panel.holes:
        assert f'cx="{hole.x:g}" cy="{hole.y:g}"' in picture, hole.name


def test_capitals_are_as_high_as_asked_and_words_stand_where_they_should() -> None:
    for align, place in (("left", 0), ("right", 2)):
        words = letter("LEVEL", (10.0, 20.0), 2.2, align)
        assert words.box[place] == pytest.approx(10.0)
        assert words.box[3] - words.box[1] == pytest.approx(2.2, abs=0.05)
        assert words.box[3] == pytest.approx(20.0, abs=0.05)
    middle = letter("LEVEL", (10.0, 20.0), 2.2)
    assert (middle.box[0] + middle.box[2]) / 2 == pytest.approx(10.0)


def test_no_capital_is_under_two_millimetres(panel: Panel) -> None:
    words = [ink for ink in art(panel) if ink.words]
    assert len(words) == len([hole for hole in panel.holes if hole.legend]) + 1
    assert min(ink.box[3] - ink.box[1] for ink in words) >= 2.0


# ---- what is ordered beside the board ----


def test_quantities_of_knobs_and_nuts_are_those_of_the_holes(panel: Panel) -> None:
    rows = list(csv.DictReader(io.StringIO(panel_files.mechanical(panel))))
    count = {row["what"].split(",")[0]: 0 for row in rows}
    for row in rows:
        count[row["what"].split(",")[0]] += int(row["quantity"])
    letters = [control.part for control in controls().values()]
    turned = [part for part in letters if part.startswith("Pot") or part == "Encoder"]
    assert count["knob"] == count["nut M7 x 0.75"] == len(turned) == 13
    assert count["nut M6 x 0.5"] == len([part for part in letters if part.startswith("Jack")]) == 11
    assert count["panel"] == 1
    assert all(row["price"] == "not checked" and row["mpn"] and row["manufacturer"] for row in rows)
