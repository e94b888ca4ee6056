"""Parts of the exported netlist as a circuit for ngspice, and ngspice itself.

`Circuit` takes parts from the netlist with the values that stand there and writes them down as `hw_schematics.models`
has them; sources and loads are added by whoever analyses. `Circuit.run` calls ``ngspice -b`` and reads what it wrote.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError
from hw_schematics import models
from hw_schematics.netlist import AMPLIFIERS, POTS, Component, Netlist

LIMIT_S = 120.0
SHORT_OHM = 1e-3
POT_LEAST = 1e-5  # of a pot's track is left at its ends
SERIES_OHM = {"FB": 0.03, "Polyfuse": 0.1, "L": 0.03}  # MF-MSMF150: 0.12 Ohm at most; SRN8040TA-100M: 33 mOhm
ROUGH = "reltol=1e-3 abstol=1e-9 vntol=1e-5 itl4=200"
TOLERANCES = "reltol=1e-5 abstol=1e-12 vntol=1e-8"
# Far tighter than what it has to tell: a cent is 0.4 mV at the converter, a share of 1e-3 of one is looked for.
FINE = "reltol=1e-7 abstol=1e-14 vntol=1e-10"
STRAY_F = 20e-12  # from every net to ground where there are no capacitors, so that nothing is infinitely fast
LEAK_OHM = 1e12  # from every net to ground, so that one that hangs on nothing has a voltage

Array = npt.NDArray[np.float64]
Table = Mapping[str, Array]


def is_there() -> bool:
    """Whether ngspice can be called."""
    return shutil.which("ngspice") is not None


class Circuit:
    """Parts of a netlist for ngspice.

    ``parts``: references, all if None. ``values``: other numbers for some of them, in ohms and farads. ``places``:
    where pots stand, 0 counterclockwise to 1 (otherwise 1). Without ``capacitors`` there is what is left in the end.
    ``thresholds``: (rising, falling) of the Schmitt triggers in volts. Nodes are called by `node`; the current into pin
    p of an active part U is ``i(v.u.p)`` in ngspice's words, `pin_current` in ours.
    """

    def __init__(
        self,
        netlist: Netlist,
        parts: Iterable[str] | None = None,
        *,
        values: Mapping[str, float] | None = None,
        places: Mapping[str, float] | None = None,
        capacitors: bool = True,
        thresholds: tuple[float, float] = (1.75, 1.05),
        options: str = TOLERANCES,
    ) -> None:
        self.netlist = netlist
        self.parts = {
            name: netlist.components[name] for name in (netlist.components if parts is None else parts)
        }
        self._values, self._places = values or {}, places or {}
        self._nodes = {net: f"n{number}" for number, net in enumerate(sorted(netlist.nets))}
        self._nodes["GND"] = "0"
        self._models: dict[str, Sequence[str]] = {"": models.COMMON}
        self._thresholds, self._capacitors = thresholds, capacitors
        self.lines = [f".options {options} gmin=1e-13", ".temp 27"]
        for part in self.parts.values():
            if capacitors or not part.symbol.startswith("C"):
                self.lines += self._lines(part)

    def node(self, pin_or_net: str) -> str:
        """The node of a net, or of a pin's net."""
        if pin_or_net in self._nodes:
            return self._nodes[pin_or_net]
        return self._nodes[self.netlist.net_of(pin_or_net)]

    def add(self, *lines: str) -> None:
        """Sources and loads, in SPICE's words."""
        self.lines += lines

    def voltage(self, pin_or_net: str) -> str:
        """The name of a voltage among the results."""
        return f"v({self.node(pin_or_net)})"

    def pin_node(self, pin: str) -> str:
        """The node inside an active part, behind the ammeter of a pin."""
        return f"p_{pin.replace('.', '_')}".lower()

    def pin_current(self, pin: str) -> str:
        """The name of the current into a pin of an active part among the results."""
        return f"i(v_{pin.replace('.', '_')})".lower()

    # ---- parts ----

    def _pins(self) -> list[str]:
        return [
            pin for pins in self.netlist.nets.values() for pin in pins if pin.rpartition(".")[0] in self.parts
        ]

    def _number(self, part: Component) -> float:
        return self._values.get(part.reference, part.number)

    def _resistor(self, name: str, one: str, other: str, ohms: float) -> str:
        return f"{name} {one} {other} {max(ohms, SHORT_OHM):.10g}"

    def _metered(self, part: Component, pins: Sequence[str]) -> tuple[list[str], list[str]]:
        """The ammeters of these pins, and the nodes behind them."""
        lines, inside = [], []
        for pin in pins:
            name = f"{part.reference}.{pin}"
            inside.append(self.pin_node(name))
            lines.append(f"V_{part.reference}_{pin} {self.node(name)} {inside[-1]} 0")
        return lines, inside

    def _lines(self, part: Component) -> list[str]:
        name, kind = part.reference, part.symbol
        family = kind.split("_")[0]
        ends = ("", "")
        if family in _TWO_ENDS:
            ends = (self.node(f"{name}.1"), self.node(f"{name}.2"))
        if family == "R":
            return [self._resistor(name, *ends, self._number(part))]
        if family == "C":
            return [f"{name} {ends[0]} {ends[1]} {self._number(part):g}"]
        if family in SERIES_OHM:
            return [self._resistor(f"R_{name}", *ends, SERIES_OHM[family])]
        if family == "Jumper":
            closed = self._places.get(name, 0.0)
            return [self._resistor(f"R_{name}", *ends, SHORT_OHM if closed else 1e12)]
        if kind in POTS:
            return self._pot(part)
        if family in {"D", "LED"}:
            return self._diodes(part)
        if family in {"NMOS", "PMOS"}:
            self._models[part.value] = models.transistor_text(part.value, models.TRANSISTORS[part.value])
            lines, (gate, source, drain) = self._metered(part, ("1", "2", "3"))
            return [*lines, f"X{name} {drain} {gate} {source} {part.value}"]
        if kind in AMPLIFIERS:
            return self._amplifiers(part)
        if kind == "REF3433":
            self._models[kind] = models.reference_text()
            lines, (supply, out) = self._metered(part, ("4", "6"))
            return [*lines, f"X{name} {supply} {out} {self.node(f'{name}.1')} {kind}"]
        if kind in _TRIGGERS:
            self._models[kind] = models.schmitt_text(f"S{kind}", *self._thresholds)
            supply_pin, ground_pin, ways = _TRIGGERS[kind]
            lines, inside = self._metered(
                part, [supply_pin, ground_pin, *(pin for way in ways for pin in way)]
            )
            for number in range(len(ways)):
                entry, out = inside[2 + 2 * number : 4 + 2 * number]
                lines.append(f"X{name}_{number} {entry} {inside[0]} {inside[1]} {out} S{kind}")
            return lines
        if kind in _CLAMPED:
            supply_pin, ground_pin, pins = _CLAMPED[kind]
            lines, (supply, ground, *entries) = self._metered(part, [supply_pin, ground_pin, *pins])
            for number, entry in enumerate(entries):
                lines += [
                    f"Dh_{name}_{number} {entry} {supply} CLAMP",
                    f"Dl_{name}_{number} {ground} {entry} CLAMP",
                ]
            return lines
        if kind == "H11L1":  # its light-emitting diode; the output is a bus line's
            self._models[kind] = [models.diode_text(kind, models.DIODES[kind])]
            lines, (anode, cathode) = self._metered(part, ("1", "2"))
            return [*lines, f"D{name} {anode} {cathode} {kind}"]
        return []  # connectors, and chips that an analysis stands in for

    def _pot(self, part: Component) -> list[str]:
        place = min(max(self._places.get(part.reference, 1.0), POT_LEAST), 1.0 - POT_LEAST)
        lines = []
        for number, ends in enumerate(POTS[part.symbol]):
            ccw, wiper, cw = (self.node(f"{part.reference}.{pin}") for pin in ends)
            ohms = self._number(part)
            lines += [
                self._resistor(f"R_{part.reference}_{number}a", ccw, wiper, ohms * place),
                self._resistor(f"R_{part.reference}_{number}b", wiper, cw, ohms * (1 - place)),
            ]
        return lines

    def _diodes(self, part: Component) -> list[str]:
        self._models[part.value] = [models.diode_text(f"D{part.value}", models.DIODES[part.value])]
        pair = part.symbol.startswith("D_pair")
        ways = (("1", "3"), ("3", "2")) if pair else (("2", "1"),)  # anode, cathode
        lines = []
        for number, (anode, cathode) in enumerate(ways):
            one, other = (self.node(f"{part.reference}.{pin}") for pin in (anode, cathode))
            inside = f"p_{part.reference}_d{number}".lower()
            lines += [
                f"V_{part.reference}_d{number} {one} {inside} 0",
                f"D{part.reference}_{number} {inside} {other} D{part.value}",
            ]
        return lines

    def _amplifiers(self, part: Component) -> list[str]:
        name, kind = part.reference, part.symbol
        self._models[kind] = models.amplifier_text(kind, models.AMPLIFIERS[kind])
        high, low = models.AMPLIFIER_SUPPLIES[kind]
        lines, (above, below) = self._metered(part, (high, low))
        for number, pins in enumerate(AMPLIFIERS[kind], start=1):
            more, (plus, minus, out) = self._metered(part, pins)
            lines += [*more, f"X{name}_{number} {plus} {minus} {above} {below} {out} {kind}"]
        return lines

    # ---- ngspice ----

    def text(self, control: Sequence[str] = ()) -> str:
        """The whole deck."""
        lines = [
            "* of the schematic",
            *(line for text in self._models.values() for line in text),
            *self.lines,
        ]
        used = sorted({self.node(pin) for pin in self._pins()} - {"0"})
        lines += [f"R_leak_{node} {node} 0 {LEAK_OHM:g}" for node in used]
        if not self._capacitors:
            lines += [f"C_stray_{node} {node} 0 {STRAY_F:g}" for node in used]
        return "\n".join([*lines, ".control", "set numdgt=15", *control, ".endc", ".end", ""])

    def run(self, *control: str, keep: Sequence[str] = ("all",)) -> Table:
        """Run one analysis ("tran 1u 1m"); ``keep``: results by SPICE's names. Name -> values, the axis among them."""
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "out.raw"
            words = ["set filetype=binary", *(f"save {word}" for word in keep), *control, f"write {raw}"]
            self._ask(Path(folder), words)
            if not raw.is_file():
                raise DarkrackError("ngspice", f"results of {control[-1]!r}", "none")
            return _read_raw(raw.read_bytes())

    def points(self, name: str, changes: Sequence[Sequence[str]], settled_s: float = 2e-3) -> Array:
        """One direct voltage, or a sum, after each of some changes, which stay: (len(changes),) float64.

        The circuit is switched on and waited for: Newton's method alone now and then stops at an amplifier's rail.
        """
        words: list[str] = []
        for change in changes:
            words += [*change, f"tran {settled_s / 50:g} {settled_s:g} uic"]
            words += [f"let course = {name}", "let last = course[length(course)-1]", "print last", "destroy"]
        with tempfile.TemporaryDirectory() as folder:
            said = self._ask(Path(folder), words)
        found = [float(value) for value in re.findall(r"^last = (\S+)", said, re.MULTILINE)]
        if len(found) != len(changes):
            raise DarkrackError("ngspice", f"{len(changes)} voltages", str(len(found)))
        return np.array(found)

    def numbers(self, *control: str) -> dict[str, float]:
        """What a control script prints or measures: name -> number."""
        with tempfile.TemporaryDirectory() as folder:
            said = self._ask(Path(folder), control)
        return {
            name: float(value)
            for name, value in re.findall(r"^(\S+)\s+=\s+([-+0-9.eE]+)", said, re.MULTILINE)
        }

    def _ask(self, folder: Path, control: Sequence[str]) -> str:
        if not is_there():
            raise DarkrackError(
                "ngspice", "a program of that name", "none", "make system (apt-get install ngspice)"
            )
        deck = folder / "deck.cir"
        deck.write_text(self.text(control), encoding="utf-8")
        try:
            done = subprocess.run(
                ["ngspice", "-b", str(deck)], capture_output=True, text=True, timeout=LIMIT_S, check=False,
                cwd=folder,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DarkrackError("ngspice", f"an answer within {LIMIT_S:g} s", "none") from None
        said = done.stdout + done.stderr
        wrong = [line for line in said.splitlines() if _WRONG.search(line)]
        if wrong:
            raise DarkrackError("ngspice", "a circuit that can be solved", "; ".join(wrong[:3]))
        return done.stdout


_WRONG = re.compile(r"(?i)\berror\b|fatal|timestep too small|aborted|unknown subckt")
_TWO_ENDS = {"R", "C", "FB", "Polyfuse", "L", "Jumper"}
# Supply, ground, (input, output) of each trigger.
_TRIGGERS = {
    "74LVC2G17": ("5", "2", (("1", "6"), ("3", "4"))),
    "74LVC1G17": ("5", "3", (("2", "4"),)),
}
# Supply, ground, and inputs with a clamp to both: converters.
_CLAMPED = {
    "ADS8325": ("8", "4", ("2",)),
    "MCP3208": ("16", "9", tuple("12345678")),
    "MCP3008": ("15", "9", tuple("12345678")),
}


def _read_raw(data: bytes) -> dict[str, Array]:
    """ngspice's binary raw file: a header of lines, then doubles point by point (complex: pairs)."""
    head, _, body = data.partition(b"Binary:\n")
    text = head.decode("ascii", "replace")
    columns = int(re.findall(r"No\. Variables: (\d+)", text)[-1])
    rows = int(re.findall(r"No\. Points: (\d+)", text)[-1])
    names = re.findall(r"^\s+\d+\s+(\S+)\s+\S+", text[text.index("Variables:\n") :], re.MULTILINE)
    is_complex = "complex" in re.findall(r"Flags: (.*)", text)[-1]
    kind = np.complex128 if is_complex else np.float64
    values = np.frombuffer(body, kind, rows * columns).reshape(rows, columns)
    sizes = np.abs(values) if is_complex else values  # a frequency is its own size
    return {name.lower(): np.asarray(sizes[:, number], np.float64) for number, name in enumerate(names)}
