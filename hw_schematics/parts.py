"""What each part is: value, order number, package; read from ``parts.toml`` for the fields of the schematic."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from device.toml_table import read_page
from hw_schematics.order_numbers import second_source

PARTS = Path(__file__).with_name("parts.toml")
# What a family has in common, by the first letter of a key.
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "R_": {
        "manufacturer": "Yageo",
        "description": "chip resistor",
        "tolerance": "1 %, 100 ppm/K",
        "package": "0805",
        "footprint": "Resistor_SMD:R_0805_2012Metric",
    },
    "C_": {
        "description": "ceramic capacitor",
        "manufacturer": "Murata",
        "package": "0805",
        "footprint": "Capacitor_SMD:C_0805_2012Metric",
    },
}
KEYS = (
    "value", "description", "mpn", "manufacturer", "package", "footprint", "tolerance", "alternates", "note",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One line of ``parts.toml``; ``tolerance``, ``alternates`` and ``note`` may be empty."""

    value: str
    description: str
    mpn: str
    manufacturer: str
    package: str
    footprint: str
    tolerance: str
    alternates: str
    note: str

    def fields(self) -> dict[str, str]:
        """The schematic's fields; KiCad's exports bring them into netlist and bill of materials."""
        return {
            "Footprint": self.footprint,
            "MPN": self.mpn,
            "Manufacturer": self.manufacturer,
            "Package": self.package,
            "Tolerance": self.tolerance,
            "Alternates": self.alternates,
            "Note": self.note,
        }


@functools.cache
def read_parts(path: Path = PARTS) -> Mapping[str, Part]:
    """All parts by their keys. DarkrackError names the key of what is unknown or missing."""
    page = read_page(path, "the parts")
    found = {}
    for key in page.content:
        table = page.table(key)
        family = next((family for start, family in FAMILIES.items() if key.startswith(start)), {})
        words = {name: table.text(name) or family.get(name, "") for name in KEYS}
        table.refuse_unknown()
        words["mpn"] = words["mpn"] or words["value"]  # an integrated circuit's value is its order number
        words["alternates"] = words["alternates"] or second_source(words["mpn"])
        found[key] = Part(**words)
    page.refuse_unknown()
    return found
