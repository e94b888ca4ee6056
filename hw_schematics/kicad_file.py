"""Sheets written in KiCad 9's format (`sexpr-schematic`, version 20250114), byte by byte the same every time.

KiCad gives everything an identifier; here it is a hash of what the thing is and where it stands, so that a change of
one wire changes one line of the file.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping

from hw_schematics.drawing import GRID_MM, TEXT_MM, Box, Pin, Placed, Point, Shape, Sheet, Subsheet, Symbol

LIBRARY = "darkrack"
VERSION = "20250114"
ANGLES = {"right": 0, "up": 90, "left": 180, "down": 270}  # of a pin's line, from its end towards the body
JUSTIFY = {"left": " (justify left)", "right": " (justify right)", "centre": ""}
# Checks of KiCad that are switched off, and why. The others are as KiCad sets them.
SEVERITIES = {
    # Footprints are named for whoever lays out a board; their library is not installed where the checks run.
    "footprint_link_issues": "ignore",
    # The simulation is fed from the netlist, not from models in the symbols.
    "simulation_model_issue": "ignore",
}


def identifier(*words: object) -> str:
    """The identifier of what these words describe."""
    return str(uuid.UUID(hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()[:32]))


def _text(words: str) -> str:
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _mm(value: float) -> str:
    return f"{round(value * GRID_MM, 4):g}"


def _at(point: Point) -> str:
    return f"{_mm(point[0])} {_mm(point[1])}"


def _effects(size_mm: float = TEXT_MM, justify: str = "", *, bold: bool = False, hide: bool = False) -> str:
    font = f"(font (size {size_mm:g} {size_mm:g}){' (bold yes)' if bold else ''})"
    return f"(effects {font}{justify}{' (hide yes)' if hide else ''})"


# ---- symbols ----


def _shape(shape: Shape) -> str:
    """A stroke; in a library y points upwards."""
    stroke = f"(stroke (width 0.2032) (type default)) (fill (type {shape.filled}))"
    points = [(x, -y) for x, y in shape.points]
    if shape.kind == "box":
        return f"(rectangle (start {_at(points[0])}) (end {_at(points[1])}) {stroke})"
    if shape.kind == "circle":
        return f"(circle (center {_at(points[0])}) (radius {_mm(shape.size)}) {stroke})"
    if shape.kind == "text":
        return f"(text {_text(shape.words)} (at {_at(points[0])} 0) {_effects(shape.size or TEXT_MM)})"
    return f"(polyline (pts {' '.join(f'(xy {_at(point)})' for point in points)}) {stroke})"


def _pin(pin: Pin) -> str:
    return (
        f"(pin {pin.kind} line (at {_at((pin.x, -pin.y))} {ANGLES[pin.body]}) (length {_mm(pin.length)})"
        f" (name {_text(pin.name)} {_effects(1.1)}) (number {_text(pin.number)} {_effects(0.9)}))"
    )


def symbol_text(symbol: Symbol, library: str = "") -> str:
    """One symbol of a library; ``library`` with a colon goes before its name inside a schematic."""
    hide_numbers = "" if symbol.pin_numbers else "(pin_numbers (hide yes)) "
    names = "(pin_names (offset 0.508))" if symbol.pin_names else "(pin_names (offset 0) (hide yes))"
    first = next(iter(symbol.units.values()))
    lines = [
        f"(symbol {_text(library + symbol.name)} {'(power) ' if symbol.power else ''}{hide_numbers}{names}"
        f" (exclude_from_sim no) (in_bom {'no' if symbol.power else 'yes'})"
        f" (on_board {'no' if symbol.power else 'yes'})",
        f'  (property "Reference" {_text(symbol.prefix)} (at {_at(_up(first.reference_at))} 0)'
        f" {_effects(justify=JUSTIFY[first.justify], hide=symbol.power)})",
        f'  (property "Value" {_text(symbol.name)} (at {_at(_up(first.value_at))} 0)'
        f" {_effects(justify=JUSTIFY[first.justify])})",
        *(
            f'  (property "{name}" "" (at 0 0 0) {_effects(hide=True)})'
            for name in ("Footprint", "Datasheet", "Description")
        ),
    ]
    for number, unit in symbol.units.items():
        lines.append(f"  (symbol {_text(f'{symbol.name}_{number}_1')}")
        lines += [f"    {_shape(shape)}" for shape in unit.shapes]
        lines += [f"    {_pin(pin)}" for pin in unit.pins]
        lines.append("  )")
    lines += ["  (embedded_fonts no)", ")"]
    return "\n".join(lines)


def _up(point: Point) -> Point:
    return (point[0], -point[1])


def library_text(symbols: Iterable[Symbol]) -> str:
    """The library with these symbols, for whoever opens the sheets in KiCad."""
    body = "\n".join(symbol_text(symbol) for symbol in symbols)
    return (
        f'(kicad_symbol_lib (version 20241209) (generator "darkrack") (generator_version "9.0")\n{body}\n)\n'
    )


# ---- sheets ----


def _placed(placed: Placed, sheet: Sheet, project: str, path: str) -> str:
    own = identifier(sheet.name, "symbol", placed.reference, placed.unit, placed.x, placed.y)
    yes, no = ("no", "no") if placed.symbol.power else ("yes", "yes")
    lines = [
        f"(symbol (lib_id {_text(f'{LIBRARY}:{placed.symbol.name}')}) (at {_at((placed.x, placed.y))} 0)"
        f" (unit {placed.unit}) (exclude_from_sim no) (in_bom {yes}) (on_board {no}) (dnp no) (uuid {_text(own)})"
    ]
    shown = [
        ("Reference", placed.reference, placed.reference_at, placed.symbol.power),
        ("Value", placed.value, placed.value_at, not placed.show_value),
    ]
    lines += [
        f'  (property "{name}" {_text(words)} (at {_at(where)} 0)'
        f" {_effects(justify=JUSTIFY[placed.justify], hide=hide)})"
        for name, words, where, hide in shown
    ]
    hidden = {"Footprint": "", "Datasheet": "", "Description": "", **placed.fields}
    lines += [
        f"  (property {_text(name)} {_text(words)} (at {_at((placed.x, placed.y))} 0) {_effects(hide=True)})"
        for name, words in hidden.items()
    ]
    lines += [
        f"  (pin {_text(pin.number)} (uuid {_text(identifier(own, pin.number))}))"
        for unit in placed.symbol.units.values()
        for pin in unit.pins
    ]
    lines.append(
        f"  (instances (project {_text(project)} (path {_text(path)} (reference {_text(placed.reference)})"
        f" (unit {placed.unit})))))"
    )
    return "\n".join(lines)


def _subsheet(box: Subsheet, sheet: Sheet, project: str, root: str, page: int) -> str:
    own = identifier(sheet.name, "sheet", box.sheet.name)
    lines = [
        f"(sheet (at {_at((box.x, box.y))}) (size {_mm(box.width)} {_mm(box.height)})"
        " (exclude_from_sim no) (in_bom yes) (on_board yes) (dnp no)"
        f" (stroke (width 0.2032) (type solid)) (fill (color 0 0 0 0)) (uuid {_text(own)})",
        f'  (property "Sheetname" {_text(box.sheet.title)} (at {_at((box.x, box.y - 0.4))} 0)'
        f" {_effects(1.5, JUSTIFY['left'], bold=True)})",
        f'  (property "Sheetfile" {_text(f"{box.sheet.name}.kicad_sch")}'
        f" (at {_at((box.x, box.y + box.height + 0.4))} 0) {_effects(1.0, JUSTIFY['left'])})",
    ]
    for pin in box.pins:
        angle, justify = (180, "left") if pin.side == "left" else (0, "right")
        lines.append(
            f"  (pin {_text(pin.name)} {pin.shape} (at {_at(box.pin(pin.name))} {angle})"
            f" (uuid {_text(identifier(own, pin.name))}) {_effects(justify=JUSTIFY[justify])})"
        )
    lines.append(
        f"  (instances (project {_text(project)} (path {_text(f'/{root}')} (page {_text(str(page))})))))"
    )
    return "\n".join(lines)


def sheet_text(sheet: Sheet, project: str, root: Sheet, title_block: Mapping[str, str]) -> str:
    """The file of one sheet. ``title_block``: date, rev and company."""
    root_id = identifier(root.name, "root")
    own_id = root_id if sheet is root else identifier(sheet.name, "root")
    path = f"/{root_id}" if sheet is root else f"/{root_id}/{identifier(root.name, 'sheet', sheet.name)}"
    symbols = {placed.symbol.name: placed.symbol for placed in sheet.placed}
    lines = [
        f'(kicad_sch (version {VERSION}) (generator "darkrack") (generator_version "9.0")',
        f"(uuid {_text(own_id)})",
        '(paper "A4")',
        f"(title_block (title {_text(sheet.title)}) (date {_text(title_block['date'])})"
        f" (rev {_text(title_block['rev'])}) (company {_text(title_block['company'])})"
        f" (comment 1 {_text(sheet.comment)}))",
        "(lib_symbols",
        *(symbol_text(symbols[name], f"{LIBRARY}:") for name in sorted(symbols)),
        ")",
    ]
    for point in sheet.junctions():
        lines.append(
            f"(junction (at {_at(point)}) (diameter 0) (color 0 0 0 0)"
            f" (uuid {_text(identifier(sheet.name, 'junction', point))}))"
        )
    for point in sheet.unconnected:
        lines.append(
            f"(no_connect (at {_at(point)}) (uuid {_text(identifier(sheet.name, 'nothing', point))}))"
        )
    for begin, end in sheet.segments():
        lines.append(
            f"(wire (pts (xy {_at(begin)}) (xy {_at(end)})) (stroke (width 0) (type default))"
            f" (uuid {_text(identifier(sheet.name, 'wire', begin, end))}))"
        )
    for words in sheet.words:
        box: Box = (*words.at, 0.0, 0.0)
        lines.append(
            f"(text {_text(words.words)} (exclude_from_sim no) (at {_at((box[0], box[1]))} 0)"
            f" {_effects(words.size_mm, ' (justify left top)', bold=words.bold)}"
            f" (uuid {_text(identifier(sheet.name, 'words', words.at))}))"
        )
    for label in sheet.labels:
        angle, justify = (0, "left") if label.to == "right" else (180, "right")
        lines.append(
            f"(hierarchical_label {_text(label.name)} (shape {label.shape}) (at {_at(label.at)} {angle})"
            f" {_effects(justify=JUSTIFY[justify])} (uuid {_text(identifier(sheet.name, 'label', label.name))}))"
        )
    lines += [_placed(placed, sheet, project, path) for placed in sheet.placed]
    lines += [_subsheet(box, sheet, project, root_id, box.sheet.page) for box in sheet.subsheets]
    if sheet is root:
        lines.append('(sheet_instances (path "/" (page "1")))')
    lines += ["(embedded_fonts no)", ")"]
    return "\n".join(lines) + "\n"


def project_text(project: str) -> str:
    """The project's file: nothing but which checks are switched off."""
    content = {
        "erc": {"rule_severities": SEVERITIES},
        "meta": {"filename": f"{project}.kicad_pro", "version": 3},
    }
    return json.dumps(content, indent=2) + "\n"


def table_text() -> str:
    """The project's table of symbol libraries: ours beside it."""
    uri = "${KIPRJMOD}/" + f"{LIBRARY}.kicad_sym"
    return (
        "(sym_lib_table\n  (version 7)\n"
        f'  (lib (name "{LIBRARY}") (type "KiCad") (uri "{uri}") (options "") (descr ""))\n)\n'
    )
