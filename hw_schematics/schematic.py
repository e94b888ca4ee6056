"""The schematic as files: what is committed, what KiCad makes of it, and whether the two still belong together.

The drawings (`hw_schematics.draw`) are the source. ``schematic/`` holds KiCad's files, ``sheets/`` the pictures,
``bom.csv`` the parts; all are written by ``make schematic`` and compared with the drawings by the tests.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from device.files import atomic_path
from hw_schematics import draw
from hw_schematics.drawing import Sheet
from hw_schematics.kicad import Kicad, open_kicad
from hw_schematics.kicad_file import LIBRARY, library_text, project_text, sheet_text, table_text
from hw_schematics.netlist import Netlist, read_netlist
from hw_schematics.parts import read_parts

HERE = Path(__file__).parent
SCHEMATIC, PICTURES, BOM = HERE / "schematic", HERE / "sheets", HERE / "bom.csv"
TITLE_BLOCK = {"date": draw.DATE, "rev": draw.REVISION, "company": draw.COMPANY}
COLUMNS = (
    "references", "quantity", "value", "description", "mpn", "manufacturer", "package", "tolerance", "alternates",
    "note", "price", "price source", "price date",
)  # fmt: skip


def sheets_of(root: Sheet) -> list[Sheet]:
    """The uppermost sheet and those below it, in the order of their pages."""
    return sorted([root, *(box.sheet for box in root.subsheets)], key=lambda sheet: sheet.page)


def kicad_files(root: Sheet) -> dict[str, str]:
    """Every file of KiCad's project: name -> text."""
    sheets = sheets_of(root)
    symbols = {placed.symbol.name: placed.symbol for sheet in sheets for placed in sheet.placed}
    return {
        **{f"{sheet.name}.kicad_sch": sheet_text(sheet, draw.PROJECT, root, TITLE_BLOCK) for sheet in sheets},
        f"{draw.PROJECT}.kicad_pro": project_text(draw.PROJECT),
        f"{LIBRARY}.kicad_sym": library_text(symbols[name] for name in sorted(symbols)),
        "sym-lib-table": table_text(),
    }


def committed_files() -> dict[str, str]:
    """The same files as they lie in the clone."""
    return {path.name: path.read_text(encoding="utf-8") for path in SCHEMATIC.iterdir() if path.is_file()}


def exported(root: Sheet) -> tuple[Netlist, list[str]]:
    """What KiCad makes of the drawings: the netlist, and the violations of its electrical rules check."""
    with open_kicad(kicad_files(root), draw.PROJECT) as kicad:
        return read_netlist(kicad.netlist()), kicad.violations()


# ---- pictures ----

_PATHS = re.compile(r'(?:<path d="[^"]*"\s*/>\s*)+')
_STEPS = re.compile(r'd="([^"]*)"')


def smaller(svg: str) -> str:
    """KiCad's SVG without the date and the version of KiCad, with strokes that join drawn in one.

    So the same drawing makes the same file, of a third of the size. Numbers keep two decimals: 0.01 mm.
    """
    svg = re.sub(r"\.svg date [^<]*</title>", "</title>", svg)
    svg = re.sub(
        r'<g class="stroked-text"><desc>KiCad E\.D\.A\.[^<]*</desc>.*?</g>', "", svg, flags=re.DOTALL
    )
    svg = re.sub(r'<text [^>]*opacity="0"[^>]*>[^<]*</text>\s*', "", svg)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r"[ \t]*\n\s*", " ", svg)
    svg = _PATHS.sub(_joined, svg)
    return (
        re.sub(r"(<(?:g|/g|path|circle|rect|title|desc)\b)", r"\n\1", svg).replace("\n\n", "\n").strip()
        + "\n"
    )


def _joined(paths: re.Match[str]) -> str:
    """Paths in a row as one: a stroke that begins where the last one ended needs no beginning of its own."""
    steps: list[str] = []
    for path in _STEPS.findall(paths[0]):
        points = re.sub(r"[ML]\s*", " L", path).split(" L")[1:]
        if re.search(r"[^ML0-9. \-]", path):
            return paths[0]  # a curve or a closed shape: left as it is
        points = [point.strip() for point in points]
        if steps and steps[-1] == points[0]:
            points = points[1:]
        elif points:
            points[0] = "M" + points[0]
        steps += points
    return f'<path d="{" ".join(steps)}"/>' if steps else ""


def pictures(kicad: Kicad, root: Sheet) -> dict[str, str]:
    """Every sheet as SVG: file name -> text."""
    names = {}
    for sheet in sheets_of(root):
        ending = "" if sheet is root else f"-{sheet.title}"  # as KiCad names it
        names[f"{draw.PROJECT}{ending}.svg"] = f"{sheet.page:02d}-{sheet.name}.svg"
    return {names[name]: smaller(text) for name, text in kicad.svg().items()}


# ---- parts ----


def bom(netlist: Netlist) -> str:
    """The bill of materials as CSV, one line for each order number, from the fields of the netlist.

    Prices are nobody's guess: they say "not checked" until someone fills them in with source and date.
    """
    lines: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    described = {part.mpn: part.description for part in read_parts().values()}
    for part in netlist.components.values():
        fields = part.fields
        if fields.get("MPN", "-") != "-":
            key = (part.value, described[fields["MPN"]], *(fields.get(name, "") for name in (
                "MPN", "Manufacturer", "Package", "Tolerance", "Alternates", "Note")))  # fmt: skip
            lines[key].append(part.reference)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for key, references in sorted(lines.items(), key=lambda line: _order(min(line[1], key=_order))):
        ordered = sorted(references, key=_order)
        writer.writerow([" ".join(ordered), len(ordered), *key, "not checked", "", ""])
    return text.getvalue()


def _order(reference: str) -> tuple[str, int]:
    letters = reference.rstrip("0123456789")
    return letters, int(reference[len(letters) :])


def write() -> list[Path]:
    """Write everything that is committed; the paths written."""
    root = draw.module()
    files: dict[Path, str] = {SCHEMATIC / name: text for name, text in kicad_files(root).items()}
    with open_kicad(kicad_files(root), draw.PROJECT) as kicad:
        files |= {PICTURES / name: text for name, text in pictures(kicad, root).items()}
        files[BOM] = bom(read_netlist(kicad.netlist()))
    _write(files)
    return sorted(files)


def _write(files: Mapping[Path, str]) -> None:
    """Write these, and remove what else lies in the two folders."""
    for path, text in files.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for folder in (SCHEMATIC, PICTURES):
        for path in folder.iterdir():
            if path not in files:
                path.unlink()
