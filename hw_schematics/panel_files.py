"""The panel as files: DXF, SVG and PDF of one drawing, the picture of the face, and what to order beside the parts.

All are made from ``panel.toml`` and written by ``make schematic``. The drawing is at 1:1 in millimetres, y up. Its
layers: OUTLINE and HOLES for who drills, LEGEND for who prints, DIMENSIONS and TABLE for who reads, RAILS for what is
hidden in a rack.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from device.files import atomic_path
from hw_schematics.face import face
from hw_schematics.panel import Hole, Panel, art, read_panel

FOLDER = Path(__file__).with_name("panel")
MECHANICAL = Path(__file__).with_name("mechanical.csv")
FONT = "HankenGrotesk-Medium.otf"
LAYERS = {"OUTLINE": 7, "HOLES": 7, "LEGEND": 7, "DIMENSIONS": 8, "TABLE": 7, "RAILS": 9}  # name -> colour
PAGE_MM = (297.0, 210.0)  # A4, lying
CORNER_MM = (26.0, 48.0)  # of the panel, from the page's lower left corner
TEXT_MM, ROW_MM = 2.0, 3.9
COLUMNS_MM = (0.0, 18.0, 46.0, 62.0, 78.0, 94.0)  # of the table: reference, name, x, y, diameter, part
TABLE_MM = (126.0, 118.5)  # where it begins, from the panel's lower left corner
CROSS_MM = 1.2  # beyond a hole's edge
COLUMNS = ("what", "quantity", "mpn", "manufacturer", "alternates", "price", "price source", "price date")


@contextmanager
def _repeatable() -> Iterator[None]:
    """ezdxf without dates and random numbers, and with our typeface alone, whatever the machine has."""
    import ezdxf
    import font_hanken_grotesk
    from ezdxf.fonts import fonts

    before = ezdxf.options.write_fixed_meta_data_for_testing
    ezdxf.options.write_fixed_meta_data_for_testing = True
    fonts.font_manager.clear()
    fonts.font_manager.build([font_hanken_grotesk.font_directory], support_dirs=False)
    try:
        yield
    finally:
        ezdxf.options.write_fixed_meta_data_for_testing = before


def document(panel: Panel) -> Any:
    """The drawing as ezdxf's document."""
    import ezdxf
    from ezdxf import units

    doc = ezdxf.new("R2010", setup=["linetypes"])
    doc.units = units.MM
    doc.header["$MEASUREMENT"] = 1
    doc.styles.add("PANEL", font=FONT)
    doc.styles.get("Standard").dxf.font = FONT
    for name, colour in LAYERS.items():
        doc.layers.add(name, color=colour, lineweight=13 if name in {"DIMENSIONS", "RAILS"} else 25)
    _dimension_style(doc)
    space = doc.modelspace()
    high = panel.height_mm
    corners = [(0.0, 0.0), (panel.width_mm, 0.0), (panel.width_mm, high), (0.0, high)]
    space.add_lwpolyline(corners, close=True, dxfattribs={"layer": "OUTLINE"})
    for x, y, d in _circles(panel):
        space.add_circle((x, high - y), d / 2, dxfattribs={"layer": "HOLES"})
        reach = d / 2 + CROSS_MM
        for one, other in (((-reach, 0), (reach, 0)), ((0, -reach), (0, reach))):
            space.add_line(
                (x + one[0], high - y + one[1]),
                (x + other[0], high - y + other[1]),
                dxfattribs={"layer": "DIMENSIONS"},
            )
    for ink in art(panel):
        if ink.within < 0:
            hatch = space.add_hatch(color=256, dxfattribs={"layer": "LEGEND", "hatch_style": 0})
            for polygon in ink.polygons:
                hatch.paths.add_polyline_path([(x, high - y) for x, y in polygon], is_closed=True)
    for y in (panel.board[1], panel.board[3]):
        space.add_line(
            (0, high - y),
            (panel.width_mm, high - y),
            dxfattribs={"layer": "RAILS", "linetype": "DASHED", "ltscale": 8.0},
        )
    _dimensions(panel, space)
    _table(panel, space)
    doc.classes.add_required_classes(doc.dxfversion)  # out of a set, in another order every time
    doc.classes.classes = dict(sorted(doc.classes.classes.items()))
    return doc


def _circles(panel: Panel) -> list[tuple[float, float, float]]:
    """Every hole and screw: x, y from above, diameter."""
    holes = [(hole.x, hole.y, hole.d) for hole in panel.holes]
    return holes + [(x, y, panel.screw_hole_mm) for x, y in panel.screws]


def _dimension_style(doc: Any) -> None:
    style = doc.dimstyles.add("PANEL")
    style.dxf.dimtxsty = "PANEL"
    style.dxf.dimclrd = style.dxf.dimclre = LAYERS["DIMENSIONS"]
    style.dxf.dimlwd = style.dxf.dimlwe = 13
    style.dxf.dimtxt = TEXT_MM
    style.dxf.dimasz = 1.5
    style.dxf.dimexo = 1.0
    style.dxf.dimexe = 0.8
    style.dxf.dimgap = 0.6
    style.dxf.dimtad = 1  # above the line
    style.dxf.dimdec = 2
    style.dxf.dimzin = 8  # no zeros at the end
    style.dxf.dimdsep = ord(".")
    style.dxf.dimtih = 0  # along the line
    style.dxf.dimtoh = 0


def _dimensions(panel: Panel, space: Any) -> None:
    """From the left edge to every column, from the lower edge to every row, and the outline."""
    high, wide = panel.height_mm, panel.width_mm
    xs = sorted({x for x, _, _ in _circles(panel)})
    ys = sorted({high - y for _, y, _ in _circles(panel)})
    attributes = {"layer": "DIMENSIONS"}

    for x in xs:
        space.add_ordinate_x_dim((x, 0), (0, -6.0), dimstyle="PANEL", dxfattribs=attributes).render()
    for y in ys:
        space.add_ordinate_y_dim((0, y), (-6.0, 0), dimstyle="PANEL", dxfattribs=attributes).render()
    for base, p1, p2, angle in (
        ((0, -20), (0, 0), (wide, 0), 0),
        ((wide + 8, 0), (wide, 0), (wide, high), 90),
    ):
        space.add_linear_dim(
            base=base, p1=p1, p2=p2, angle=angle, dimstyle="PANEL", dxfattribs=attributes
        ).render()


def _table(panel: Panel, space: Any) -> None:
    """The holes as a table, and what else a workshop has to know."""

    def say(words: str, column: float, row: float, height: float = TEXT_MM) -> None:
        text = space.add_text(words, height=height, dxfattribs={"layer": "TABLE", "style": "PANEL"})
        text.set_placement((TABLE_MM[0] + column, TABLE_MM[1] - row * ROW_MM))

    def row(number: int, cells: tuple[str, ...]) -> None:
        for column, cell in zip(COLUMNS_MM, cells, strict=True):
            say(cell, column, number)

    say(f"DARKRACK: front panel, 3U, {panel.hp} HP", 0.0, -1.6, 3.0)
    row(0, ("part", "control", "x", "y", "hole", "for"))
    number = 0
    for number, hole in enumerate(panel.holes, start=1):
        row(number, _cells(panel, hole))
    for x, y in panel.screws:
        number += 1
        row(
            number,
            ("-", "rail", f"{x:.2f}", f"{panel.height_mm - y:.2f}", f"{panel.screw_hole_mm:.1f}", "M3"),
        )
    for line in (
        "Millimetres, from the lower left corner, seen from the front; 1:1. Holes and places within 0.1.",
        f"{panel.width_mm:g} x {panel.height_mm:g} x {panel.thickness_mm:g}, aluminium, black anodised; "
        "layer LEGEND printed in white.",
        f"Depth behind the face: {panel.depth_mm:g}. The board keeps between the dashed lines.",
    ):
        number += 1
        say(line, 0.0, number + 0.6)


def _cells(panel: Panel, hole: Hole) -> tuple[str, ...]:
    kind = panel.kind_of(hole)
    return (
        hole.reference,
        hole.name,
        f"{hole.x:.2f}",
        f"{panel.height_mm - hole.y:.2f}",
        f"{hole.d:.1f}",
        kind.name.replace("_", " "),
    )


# ---- files ----


def dxf(doc: Any) -> str:
    """The drawing as DXF."""
    text = io.StringIO()
    doc.write(text)
    return text.getvalue()


def svg(doc: Any) -> str:
    """The drawing as SVG, at 1:1."""
    from ezdxf.addons.drawing import Frontend, RenderContext, layout
    from ezdxf.addons.drawing.svg import SVGBackend
    from ezdxf.math import BoundingBox2d

    backend = SVGBackend()
    Frontend(RenderContext(doc), backend, config=_look()).draw_layout(doc.modelspace())
    page = layout.Page(*PAGE_MM, layout.Units.mm, margins=layout.Margins.all(0))
    settings = layout.Settings(fit_page=False, scale=1, output_layers=True)
    corner = (-CORNER_MM[0], -CORNER_MM[1])
    box = BoundingBox2d([corner, (corner[0] + PAGE_MM[0], corner[1] + PAGE_MM[1])])
    found: str = backend.get_string(page, settings=settings, render_box=box)
    return found + "\n"


def pdf(doc: Any, digest: str) -> bytes:
    """The drawing as PDF, at 1:1; ``digest`` of the DXF goes into its keywords, where a test finds it."""
    from ezdxf.addons.drawing import Frontend, RenderContext
    from ezdxf.addons.drawing.matplotlib import MatplotlibBackend
    from matplotlib.figure import Figure

    inches = tuple(mm / 25.4 for mm in PAGE_MM)
    figure = Figure(figsize=(inches[0], inches[1]))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    backend = MatplotlibBackend(axes, adjust_figure=False)
    Frontend(RenderContext(doc), backend, config=_look()).draw_layout(doc.modelspace(), finalize=False)
    axes.set_axis_off()
    axes.set_aspect("auto")
    axes.set_xlim(-CORNER_MM[0], PAGE_MM[0] - CORNER_MM[0])
    axes.set_ylim(-CORNER_MM[1], PAGE_MM[1] - CORNER_MM[1])
    page = io.BytesIO()
    figure.savefig(
        page,
        format="pdf",
        metadata={"Keywords": digest, "CreationDate": None, "Title": "Darkrack: front panel"},
    )
    return page.getvalue()


def _look() -> Any:
    from ezdxf.addons.drawing.config import BackgroundPolicy, ColorPolicy, Configuration

    return Configuration(background_policy=BackgroundPolicy.WHITE, color_policy=ColorPolicy.COLOR)


def mechanical(panel: Panel) -> str:
    """What to order beside the parts on the board, as CSV; prices are nobody's guess."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in panel.hardware:
        writer.writerow(
            (one.what, one.quantity, one.mpn, one.manufacturer, one.alternates, "not checked", "", "")
        )
    return text.getvalue()


def digest_of(text: str) -> str:
    """What the PDF's keywords say of the drawing that it was made from."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def files(panel: Panel, *, with_pdf: bool = True) -> dict[Path, bytes]:
    """Every file: path -> content."""
    with _repeatable():
        doc = document(panel)
        drawing = dxf(doc)
        found = {
            FOLDER / "panel.dxf": drawing.encode("utf-8"),
            FOLDER / "panel.svg": svg(doc).encode("utf-8"),
            FOLDER / "face.svg": face(panel).encode("utf-8"),
            MECHANICAL: mechanical(panel).encode("utf-8"),
        }
        if with_pdf:
            found[FOLDER / "panel.pdf"] = pdf(doc, digest_of(drawing))
    return found


def write() -> list[Path]:
    """Write all of them; the paths written."""
    found = files(read_panel())
    for path, content in found.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    return sorted(found)
