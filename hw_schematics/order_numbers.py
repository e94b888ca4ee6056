"""What an order number says of a part, as its maker builds it.

Read: Yageo RC and RT resistors, Murata GRM and Yageo CC capacitors. Written, as second source: Panasonic ERJ, KEMET.
So a number that does not fit the value beside it is found, and a second maker's number is worked out, not looked up.
Sources: how to order, in the makers' data sheets and catalogues of these series.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PREFIX = {"": 1.0, "R": 1.0, "K": 1e3, "M": 1e6}
_MURATA_SIZE = {"21": "0805", "31": "1206", "32": "1210"}
_MURATA_DIELECTRIC = {"5C": "C0G", "R7": "X7R"}
_MURATA_VOLTS = {"1A": 10, "1C": 16, "1E": 25, "1H": 50}
_TOLERANCE = {"B": "0.1 %", "F": "1 %", "J": "5 %", "K": "10 %"}
_YAGEO_PPM = {"B": 10, "C": 15, "D": 25}
_KEMET_DIELECTRIC = {"C0G": "G", "X7R": "R"}
_KEMET_VOLTS = {10: "8", 16: "4", 25: "3", 50: "5"}
_PANASONIC = {"0805": "ERJ-6ENF", "1206": "ERJ-8ENF"}  # 1 %, 100 ppm/K


@dataclass(frozen=True)
class Told:
    """What a number says: ``number`` in ohms or farads, ``tolerance`` as parts.toml writes it, ``package``."""

    number: float
    tolerance: str
    package: str


def told(mpn: str) -> Told | None:
    """What an order number says, None for one of another make."""
    if found := re.fullmatch(r"RC(0805|1206)FR-07(\d+)([RKM])(\d*)L", mpn):
        size, whole, prefix, rest = found.groups()
        return Told(float(f"{whole}.{rest or 0}") * _PREFIX[prefix], "1 %, 100 ppm/K", size)
    if found := re.fullmatch(r"RT(0805)BR([BCD])07(\d+)([RKM])(\d*)L", mpn):
        size, drift, whole, prefix, rest = found.groups()
        number = float(f"{whole}.{rest or 0}") * _PREFIX[prefix]
        return Told(number, f"0.1 %, {_YAGEO_PPM[drift]} ppm/K", size)
    if found := re.fullmatch(r"GRM(21|31|32).(5C|R7)(1A|1C|1E|1H)(\d\d\d)([JK])[A-Z]\d\d[A-Z]", mpn):
        size, dielectric, volts, digits, tolerance = found.groups()
        kind = _MURATA_DIELECTRIC[dielectric]
        rating = "" if kind == "C0G" else f" {_MURATA_VOLTS[volts]} V"
        return Told(_picofarads(digits), f"{_TOLERANCE[tolerance]}, {kind}{rating}", _MURATA_SIZE[size])
    if found := re.fullmatch(r"CC(0805)([JK])RX7R9BB(\d\d\d)", mpn):
        size, tolerance, digits = found.groups()
        return Told(_picofarads(digits), f"{_TOLERANCE[tolerance]}, X7R 50 V", size)
    return None


def _picofarads(digits: str) -> float:
    return float(int(digits[:2]) * 10 ** int(digits[2])) * 1e-12


def second_source(mpn: str) -> str:
    """The same part by another maker, with its number; empty where that cannot be worked out."""
    if found := re.fullmatch(r"RC(0805|1206)FR-07(\d+)([RKM])(\d*)L", mpn):
        size, whole, prefix, rest = found.groups()
        return f"{_PANASONIC[size]}{_four(whole, prefix, rest)}V (Panasonic)"
    if found := re.fullmatch(r"GRM(21|31|32).(5C|R7)(1A|1C|1E|1H)(\d\d\d)([JK])[A-Z]\d\d[A-Z]", mpn):
        size, dielectric, volts, digits, tolerance = found.groups()
        kind = _MURATA_DIELECTRIC[dielectric]
        letters = f"{_KEMET_VOLTS[_MURATA_VOLTS[volts]]}{_KEMET_DIELECTRIC[kind]}ACTU"
        return f"C{_MURATA_SIZE[size]}C{digits}{tolerance}{letters} (KEMET)"
    return ""


def _four(whole: str, prefix: str, rest: str) -> str:
    """Panasonic's way to write a value of 1 %: three digits and how many zeros; under 100 Ohm with an R."""
    ohms = float(f"{whole}.{rest or 0}") * _PREFIX[prefix]
    if ohms < 100:
        return f"{ohms:.1f}".replace(".", "R")
    zeros = 0
    while ohms >= 1000:
        ohms /= 10
        zeros += 1
    return f"{round(ohms):03d}{zeros}"


def faults(parts: Mapping[str, tuple[str, str, str, str, str]], value_of: Mapping[str, float]) -> list[str]:
    """Where order number, value, tolerance, size and footprint of a part do not fit each other.

    ``parts``: key -> (mpn, value, tolerance, package, footprint); ``value_of``: key -> ohms or farads.
    """
    wrong = []
    for key, (mpn, value, tolerance, package, footprint) in parts.items():
        says = told(mpn)
        if says is None:
            continue
        if abs(says.number / value_of[key] - 1) > 1e-6:
            wrong.append(f"{key}: {mpn} is {says.number:g}, the value {value}")
        if says.tolerance != tolerance:
            wrong.append(f"{key}: {mpn} is {says.tolerance!r}, the list says {tolerance!r}")
        if says.package != package or f"_{package}_" not in footprint:
            wrong.append(f"{key}: {mpn} is {says.package}, the list says {package}, {footprint}")
    return wrong
