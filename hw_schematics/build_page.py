"""The two tables of docs/build.md that are made: the desk's wires and the module's first measurements."""

from __future__ import annotations

import re
from pathlib import Path

from device.errors import DarkrackError
from device.files import atomic_path
from device.profile import read_profile
from hw_schematics import first_power
from hw_schematics.desk import read_desk
from hw_schematics.desk_drawing import wiring_table
from hw_schematics.netlist import read_intended

PAGE = Path(__file__).resolve().parent.parent / "docs" / "build.md"


def with_tables(text: str) -> str:
    """The page with both tables as they are now, each found by its first line. DarkrackError where one is not there."""
    for table in (wiring_table(read_desk()), first_power.table(read_intended(), read_profile("pi4"))):
        first = table.splitlines()[0]
        there = re.findall(rf"^{re.escape(first)}\n(?:\|.*\n)+", text, flags=re.MULTILINE)
        if len(there) != 1:
            raise DarkrackError(PAGE.name, f"one table that begins with {first!r}", str(len(there)))
        text = text.replace(there[0], f"{table}\n")
    return text


def write() -> list[Path]:
    """Write the tables into the page; its path."""
    text = with_tables(PAGE.read_text(encoding="utf-8"))
    with atomic_path(PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return [PAGE]
