"""Every contact of every jack against the rack's supplies: what it does to each part, and what that part stands.

The whole board is one circuit, without its capacitors: what is left when the voltage stays. One after the other, each
contact is held at +12, +15, -12 and -15 V from a source without resistance, the other contact of a stereo jack at
ground (a mono plug). What has no supply is a floating rail with 100 kOhm, which lets voltages rise further than a real
one does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hw_schematics import models
from hw_schematics.netlist import Component, Netlist
from hw_schematics.spice import ROUGH, Array, Circuit, Table

VOLTS = (12.0, -12.0, 15.0, -15.0)
# What has its supply: (rack, computer).
STATES: Mapping[str, tuple[bool, bool]] = {
    "all on": (True, True),
    "rack on, computer off": (True, False),
    "rack off, computer on": (False, True),
    "all off": (False, False),
}
FLOATING_OHM = 100e3
STEP_S, EDGE_S = 1e-3, 0.5e-3  # for each voltage and the way to it; without capacitors only the path matters
RAMP_S = 5e-3
SOURCE_S = 100.0  # siemens: 10 mOhm
PANEL = {
    "J301": "V/OCT", "J401": "CV 1", "J402": "CV 2", "J403": "CV 3", "J601": "GATE 1", "J602": "GATE 2",
    "J701": "MIDI IN", "J702": "MIDI OUT", "J801": "OUT L", "J802": "OUT R", "J803": "LINE",
}  # fmt: skip
CONTACT = {"T": "tip", "R": "ring"}
REVERSED_V = 0.3  # that a supply may be the wrong way round: what the data sheets say
CHANGED = 0.01  # of a stress, at least, has to come from the jack, or it is no matter of the jack
MOST_MARGIN = 1e3


@dataclass(frozen=True)
class Stress:
    """What one part bears: ``what`` in words with its unit, as much as ``value`` of ``limit``."""

    jack: str
    volts: float
    state: str
    part: str
    what: str
    value: float
    limit: float

    @property
    def margin(self) -> float:
        """How many times the value fits into the limit."""
        return self.limit / max(abs(self.value), self.limit / MOST_MARGIN)


def contacts(netlist: Netlist) -> list[tuple[str, str]]:
    """(jack, contact) of every contact that a plug touches, the sleeve left out."""
    found = []
    for reference in sorted(name for name in netlist.components if name in PANEL):
        found += [(reference, end) for end in CONTACT if f"{reference}.{end}" in _pins(netlist)]
    return found


def _pins(netlist: Netlist) -> set[str]:
    return {pin for pins in netlist.nets.values() for pin in pins}


def _sequence(steps: list[float]) -> str:
    """A piecewise linear source: each value for STEP_S, after RAMP_S."""
    points = [(0.0, 0.0), (RAMP_S, 0.0)]
    for number, value in enumerate(steps):
        begin = RAMP_S + number * STEP_S
        points += [(begin + EDGE_S, value), (begin + STEP_S, value)]
    return "PWL(" + " ".join(f"{time:.6g} {value:g}" for time, value in points) + ")"


def bench(
    netlist: Netlist, state: str, only: Collection[str] = ()
) -> tuple[Circuit, list[tuple[str, str, float]]]:
    """The board in a state, with all sources; and (jack, contact, volts) of each step. ``only``: not every jack."""
    circuit = Circuit(netlist, capacitors=False, options=ROUGH)
    # The first one touches nothing: what is there anyway.
    steps = [
        ("", "", 0.0),
        *(
            (jack, end, volts)
            for jack, end in contacts(netlist)
            for volts in VOLTS
            if jack in (only or PANEL)
        ),
    ]
    rack, computer = STATES[state]
    if rack:
        circuit.add(f"V_gnds {circuit.node('GNDS')} 0 0")
    rails = {"J201.9": (12.0, rack), "J201.1": (-12.0, rack), "+5V": (5.1, computer), "+3V3": (3.3, computer)}
    for number, (pin, (volts, on)) in enumerate(rails.items()):
        if on:
            circuit.add(f"V_rail{number} {circuit.node(pin)} 0 PWL(0 0 {RAMP_S / 2:g} {volts:g})")
        else:
            circuit.add(f"R_rail{number} {circuit.node(pin)} 0 {FLOATING_OHM:g}")
    for name in ("+12VA", "-12VA", "VREF"):
        circuit.add(f"R_float_{circuit.node(name)} {circuit.node(name)} 0 {FLOATING_OHM:g}")
    for jack, end in contacts(netlist):
        other = {"T": "R", "R": "T"}[end]
        drive = [volts if (jack, end) == (j, e) else 0.0 for j, e, volts in steps]
        held = [float((jack, end) == (j, e) or (jack, other) == (j, e)) for j, e, _ in steps]
        node, name = circuit.node(f"{jack}.{end}"), f"{jack}_{end}"
        circuit.add(
            f"Vd_{name} d_{name} 0 {_sequence(drive)}",
            f"Vh_{name} h_{name} 0 {_sequence(held)}",
            f"B_{name} {node} 0 I={SOURCE_S:g}*V(h_{name})*(V({node})-V(d_{name}))",
        )
    circuit.add(f"R_sleeve {circuit.node('J701.S')} 0 1m")  # the other device's ground
    for pin in ("U801.6", "U801.7"):
        circuit.add(f"V_{pin.replace('.', '_')} {circuit.node(pin)} 0 0")  # silence
    for pin in ("J901.8", *(f"J901.{number}" for number in ("12", "35", "40"))):
        circuit.add(
            f"R_line_{pin.replace('.', '_')} {circuit.node(pin)} 0 50"
        )  # a line that the program holds low
    return circuit, steps


def stresses(
    netlist: Netlist, states: Collection[str] = tuple(STATES), only: Collection[str] = ()
) -> list[Stress]:
    """Every part's stress for every contact, voltage and state; ``only``: of these jacks."""
    found = []
    for state in states:
        circuit, steps = bench(netlist, state, only)
        end_s = RAMP_S + len(steps) * STEP_S
        table = circuit.run(f"tran {STEP_S / 20:g} {end_s:g} 0 {STEP_S / 2:g}")
        times = RAMP_S + (np.arange(len(steps)) + 0.95) * STEP_S
        sampled = {name: np.interp(times, table["time"], values) for name, values in table.items()}
        for part, what, values, limit in _loads(circuit, sampled):
            for (jack, end, volts), value in zip(steps[1:], values[1:], strict=True):
                if abs(value - values[0]) < CHANGED * abs(value):
                    continue
                name = PANEL[jack] + (f" ({CONTACT[end]})" if jack in {"J701", "J702", "J803"} else "")
                found.append(Stress(name, volts, state, part, what, float(value), limit))
    return found


def watts_of(part: Component) -> float:
    """What a resistor stands: the "... W:" of its note, or its package."""
    told = re.match(r"([0-9.]+) W:", part.fields.get("Note", ""))
    return float(told[1]) if told else models.PACKAGE_W[part.fields["Package"]]


def _loads(circuit: Circuit, table: Table) -> Iterator[tuple[str, str, Array, float]]:
    """(part, what, its values, its limit) for everything that has a limit."""
    nothing = np.zeros_like(table["time"])

    def volts(pin: str) -> Array:
        return table.get(circuit.voltage(pin), nothing)

    for name, part in circuit.parts.items():
        kind = part.symbol
        family = kind.split("_")[0]
        if family == "R":
            yield name, "W", (volts(f"{name}.1") - volts(f"{name}.2")) ** 2 / part.number, watts_of(part)
        elif family in {"D", "LED"}:
            limits = models.DIODES[part.value]
            ways = (("1", "3"), ("3", "2")) if kind.startswith("D_pair") else (("2", "1"),)
            for number, (anode, cathode) in enumerate(ways):
                forward = table[f"i(v_{name}_d{number})".lower()]
                across = volts(f"{name}.{cathode}") - volts(f"{name}.{anode}")
                yield name, "A forward", np.maximum(forward, 0), limits.forward_a
                yield name, "V reverse", np.maximum(across, 0), limits.reverse_v
        elif family in {"NMOS", "PMOS"}:
            gate, source, drain = (volts(f"{name}.{pin}") for pin in ("1", "2", "3"))
            current = table[circuit.pin_current(f"{name}.3")]
            bounds = models.TRANSISTORS[part.value]
            yield name, "V drain to source", np.abs(drain - source), bounds.drain_v
            yield name, "V gate to source", np.abs(gate - source), bounds.gate_v
            yield name, "A drain", np.abs(current), bounds.drain_a
            yield name, "W", np.abs(current * (drain - source)), bounds.watts
        elif kind == "H11L1":
            light = models.DIODES[kind]
            yield name, "A forward", np.maximum(table[circuit.pin_current(f"{name}.1")], 0), light.forward_a
            yield name, "V reverse", np.maximum(volts(f"{name}.2") - volts(f"{name}.1"), 0), light.reverse_v
        elif kind in models.CHIPS:
            chip = models.CHIPS[kind]
            above, below = (volts(f"{name}.{pin}") for pin in chip.supply)
            yield name, "V supply", np.maximum(above - below, 0), chip.supply_v
            yield name, "V supply reversed", np.maximum(below - above, 0), REVERSED_V
            for pin, most in chip.pins_a.items():
                yield name, f"A pin {pin}", np.abs(table[circuit.pin_current(f"{name}.{pin}")]), most
            for pin, most in chip.pins_v.items():
                beyond = np.maximum(volts(f"{name}.{pin}") - above, below - volts(f"{name}.{pin}"))
                yield name, f"V beyond the supply, pin {pin}", np.maximum(beyond, 0), most
            for pins, most in [models.TOLERANT_V[kind]] if kind in models.TOLERANT_V else []:
                for pin in pins:
                    yield name, f"V pin {pin}", np.maximum(volts(f"{name}.{pin}") - below, 0), most


def worst(found: list[Stress]) -> dict[tuple[str, float], Stress]:
    """For every jack and the amount of volts (12, 15): what has the least margin, whatever the sign and state."""
    least: dict[tuple[str, float], Stress] = {}
    for stress in found:
        key = (stress.jack, abs(stress.volts))
        if key not in least or stress.margin < least[key].margin:
            least[key] = stress
    return least
