"""What each part of the module does, by ngspice on the exported netlist: pitch, control voltages, gates, audio, supply.

Each analysis takes the netlist and returns figures; nothing here says what they have to be (`hw_schematics.budget`).
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from device.adc import BAUDRATE_HZ
from device.errors import DarkrackError
from hw_schematics import models
from hw_schematics.netlist import Netlist, Way
from hw_schematics.spice import FINE, Array, Circuit, Table

CENTS_PER_V = 1200.0
REFERENCE_PART = "U301"
MINUS_PIN = "3"  # of the ADS8325
PITCH_GAIN = 0.5  # that a cent is told by at the converter: 1 / 1200 V at the jack
SUPPLY_V = 5.1  # of a computer's USB supply
VREF_LOAD_A = 2.5e-3  # U303 1.5 mA while it converts, U402 and U403 0.5 mA each: SBAS226, DS21733, DS21298
# What TL074 and OPA1679 live on: 12 V less a fuse and a ferrite, and the Schottky diode of the negative rail.
RAILS_V = {"+12VA": 11.9, "-12VA": -11.6}


def sheet_parts(netlist: Netlist, pin: str) -> list[str]:
    """All parts of the sheet that a pin's part is on."""
    sheet = netlist.components[pin.partition(".")[0]].sheet
    return [name for name, part in netlist.components.items() if part.sheet == sheet]


# ---- tolerances ----


@dataclass(frozen=True)
class Spread:
    """How far a part may be off: a share at 25 C, and a share for each kelvin."""

    tolerance: float
    drift_k: float


def spread_of(netlist: Netlist, reference: str) -> Spread:
    """A part's tolerance and temperature coefficient as the parts' list has them; C0G is 30 ppm/K (EIA-198)."""
    words = netlist.components[reference].fields.get("Tolerance", "")
    share, drift = re.search(r"([0-9.]+) %", words), re.search(r"([0-9.]+) ppm/K", words)
    if share is None:
        raise DarkrackError(reference, "a tolerance", repr(words))
    return Spread(float(share[1]) / 100, float(drift[1]) * 1e-6 if drift else 30e-6)


# ---- linear models of a way from a jack to a converter ----


@dataclass(frozen=True)
class Linear:
    """Volts at a converter's pin: gain and offset, and how both move with each parameter (all are 0 nominally).

    A resistor's parameter is its share off; an amplifier's offset and the reference's are in volts, a bias in amperes.
    """

    gain: float
    offset_v: float
    gain_by: Mapping[str, float]
    offset_by: Mapping[str, float]

    def of(self, off: Mapping[str, Array]) -> tuple[Array, Array]:
        """Gain and offset of boards whose parameters are off by so much."""
        gain = self.gain + sum(self.gain_by[name] * value for name, value in off.items())
        offset_v = self.offset_v + sum(self.offset_by[name] * value for name, value in off.items())
        return np.asarray(gain), np.asarray(offset_v)


def alter(circuit: Circuit, name: str, off: float) -> str:
    """The command that sets a parameter: "R302" by a share, "vos U302.1", "bias U302.1" or "vref" to so much more."""
    kind, _, where = name.rpartition(" ")
    device = where.replace(".", "_").lower()
    if kind == "vos":
        return f"alter v.x{device}.vos dc = {off:.12g}"
    if kind == "bias":
        return f"alter i.x{device}.ibias dc = {off:.12g}"
    if name == "vref":
        return f"alter vref dc = {models.REFERENCE.volts + off:.12g}"
    ohms = circuit.parts[name].number
    return f"alter {name.lower()} = {ohms * (1 + off):.12g}"


# A step of each kind for the differences: about what a board may be off by.
_STEPS = {"vos": 1e-3, "bias": 1e-9, "vref": 1e-3, "": 1e-3}


def linear(
    circuit: Circuit, source: str, what: str, names: Sequence[str], ends_v: tuple[float, float]
) -> Linear:
    """Gain, offset and their derivatives by central differences, at two voltages of ``source``."""
    low, high = ends_v
    steps = {
        name: _STEPS[name.rpartition(" ")[0] if " " in name else name if name == "vref" else ""]
        for name in names
    }
    changes = [["alter " + f"{source} dc = {low:g}"], [f"alter {source} dc = {high:g}"]]
    for name, step in steps.items():
        for sign in (-1, 1):
            changes.append([alter(circuit, name, sign * step), f"alter {source} dc = {low:g}"])
            changes.append([f"alter {source} dc = {high:g}"])
        changes.append([alter(circuit, name, 0.0)])
    found = circuit.points(what, changes)
    gain = float(found[1] - found[0]) / (high - low)
    offset_v = float(found[0]) - gain * low
    gain_by, offset_by = {}, {}
    for number, (name, step) in enumerate(steps.items()):
        a, b, c, d = found[2 + 5 * number : 6 + 5 * number]
        if max(abs(c + a - 2 * found[0]), abs(d + b - 2 * found[1])) > 1e-4 * (high - low):
            raise DarkrackError(
                f"{what} by {name}", "a circuit that is almost linear", f"{a:g}, {found[0]:g}, {c:g} V"
            )
        below, above = (b - a) / (high - low), (d - c) / (high - low)
        gain_by[name] = float(above - below) / (2 * step)
        offset_by[name] = float((c - above * low) - (a - below * low)) / (2 * step)
    return Linear(gain, offset_v, gain_by, offset_by)


# ---- pitch ----


@dataclass(frozen=True)
class Pitch:
    """The V/oct stage as drawn. Cents are those of 1 V per octave at the jack."""

    gain: float
    offset_v: float
    lowest_v: float  # at the jack, from where on it is linear within a cent
    highest_v: float
    bend_cents: float  # the most off a straight line between
    corner_hz: float
    at_500_hz_db: float
    settle_s: float  # to a cent of 5 V, whichever way
    recover_s: float  # to a cent, from 12 V at the jack to 3 V
    acquire_cents: float  # what the converter's own capacitor leaves behind, from 0 V to full scale
    noise_v: float  # rms at the pin, 0.1 Hz to 10 MHz, of resistors and amplifier
    input_ohm: float
    source_cents: float  # what 100 Ohm in a source cost at 5 V
    lift_cents: float  # what a ground 10 mV over the rack's costs at 5 V


def pitch_circuit(netlist: Netlist, way: Way, source_ohm: float = 0.0, *, reference: bool = False) -> Circuit:
    """The sheet with the V/oct jack, a source ``vj`` there, and a source for the reference, or U301 with a load."""
    parts = [name for name in sheet_parts(netlist, way.pin) if reference or name != REFERENCE_PART]
    circuit = Circuit(netlist, parts, options=FINE)
    if reference:
        circuit.add(
            f"Vsupply {circuit.node('+5V')} 0 dc {SUPPLY_V} ac 0",
            f"Iload {circuit.node('VREF')} 0 {VREF_LOAD_A}",
        )
    else:
        circuit.add(f"Vref {circuit.node('VREF')} 0 {models.REFERENCE.volts}")
    circuit.add(
        "Vj jack 0 dc 0 ac 1",
        f"Rj jack0 {circuit.node(way.jack)} {max(source_ohm, 1e-3):g}",
        # both are against the rack's ground, which may lie beside ours
        f"Vground {circuit.node('GNDS')} 0 dc 0",
        f"Bj jack0 0 V=V(jack)+V({circuit.node('GNDS')})",
    )
    return circuit


def read_of(circuit: Circuit, way: Way) -> tuple[str, str]:
    """The names of the voltages that the pitch converter compares: its two inputs."""
    return circuit.voltage(way.pin), circuit.voltage(f"{way.pin.partition('.')[0]}.{MINUS_PIN}")


def _reading(found: Table, names: tuple[str, str]) -> Array:
    """What the converter reads."""
    return np.asarray(found[names[0]] - found[names[1]])


def pitch_parameters(netlist: Netlist, way: Way) -> list[str]:
    """What a board's V/oct can be off by: the resistors of its sheet up to the amplifier, reference, amplifier."""
    jack = netlist.net_of(way.jack)
    node = next(iter(netlist.beyond(jack)))
    resistors = sorted(
        pin.rpartition(".")[0]
        for pin in netlist.nets[node]
        if pin.startswith("R") and not pin.startswith("RV")
    )
    return [*resistors, "vref", "vos U302.1", "bias U302.1"]


def pitch_linear(netlist: Netlist, way: Way) -> Linear:
    """How the parts of a board move what its pitch converter reads."""
    circuit = pitch_circuit(netlist, way)
    return linear(circuit, "vj", "-".join(read_of(circuit, way)), pitch_parameters(netlist, way), (0.0, 6.0))


def pitch(netlist: Netlist, way: Way) -> Pitch:
    """All figures of the V/oct stage but those that differ from board to board."""
    circuit = pitch_circuit(netlist, way)
    pins = read_of(circuit, way)
    # from the middle up and down: each point begins where the last one ended
    sweeps = [
        circuit.run(f"dc vj 3 {end} {step}", keep=(*pins, "i(bj)")) for end, step in ((7, 0.05), (-1, -0.05))
    ]
    order = np.argsort(np.concatenate([sweep["v(v-sweep)"] for sweep in sweeps]), kind="stable")
    volts, drawn = (
        np.concatenate([sweep[name] for sweep in sweeps])[order] for name in ("v(v-sweep)", "i(bj)")
    )
    found = np.concatenate([_reading(sweep, pins) for sweep in sweeps])[order]
    inner = (volts >= 0.5) & (volts <= 5.5)
    ends_v = (0.5, 5.5)
    low, high = circuit.points("-".join(pins), [[f"alter vj dc = {end}"] for end in ends_v])
    gain = (high - low) / (ends_v[1] - ends_v[0])
    offset_v = low - gain * ends_v[0]
    if abs(gain) < 0.01:  # an amplifier at its rail: nothing else can be told
        nothing = {field.name: float("nan") for field in dataclasses.fields(Pitch)}
        return Pitch(**{**nothing, "gain": float(gain), "offset_v": float(offset_v)})
    off_cents = (found - (offset_v + gain * volts)) / gain * CENTS_PER_V
    straight = np.abs(off_cents) <= 1.0
    lowest_v, highest_v = (
        (float(volts[straight].min()), float(volts[straight].max())) if straight.any() else (0.0, 0.0)
    )
    used = (volts >= lowest_v) & (volts <= highest_v)

    answer = circuit.run("ac dec 50 0.1 1e7", keep=pins)
    level_db = 20 * np.log10(answer[pins[0]] / answer[pins[0]][0])
    settles = [_settle_s(netlist, way, begin, end) for begin, end in ((0.0, 5.0), (5.0, 0.0))]
    noise = circuit.numbers(
        "alter vj dc = 3", f"noise {pins[0][:-1]},{pins[1][2:]} vj dec 20 0.1 1e7", "print onoise_total"
    )
    loaded = _reading(pitch_circuit(netlist, way, 100.0).run("dc vj 3 5 1", keep=pins), pins)[-1]
    lifted = _reading(circuit.run("alter vground dc = -10m", "dc vj 3 5 1", keep=pins), pins)[-1]
    bare = float(np.interp(5.0, volts, found))
    return Pitch(
        gain=float(gain),
        offset_v=float(offset_v),
        lowest_v=lowest_v,
        highest_v=highest_v,
        bend_cents=float(np.abs(off_cents[used]).max(initial=0.0)),
        corner_hz=float(np.interp(3.0103, -level_db, answer["frequency"])),
        at_500_hz_db=float(np.interp(500.0, answer["frequency"], level_db)),
        settle_s=max(settles),
        recover_s=_settle_s(netlist, way, 12.0, 3.0),
        acquire_cents=_acquire_v(netlist, way) / PITCH_GAIN * CENTS_PER_V,
        noise_v=noise["onoise_total"],
        input_ohm=float(1 / abs(np.polyfit(volts[inner], drawn[inner], 1)[0])),
        source_cents=float((loaded - bare) / gain * CENTS_PER_V),
        lift_cents=float((lifted - bare) / gain * CENTS_PER_V),
    )


def _settle_s(netlist: Netlist, way: Way, begin_v: float, end_v: float) -> float:
    """How long after a step at the jack the converter's pin stays within a cent of where it comes to rest."""
    at_s, end_s = 2e-3, 20e-3  # it begins at rest
    circuit = pitch_circuit(netlist, way)
    circuit.lines = [line for line in circuit.lines if not line.startswith("Vj ")]
    circuit.add(f"Vj jack 0 PWL(0 {begin_v} {at_s} {begin_v} {at_s + 1e-7:.9g} {end_v})")
    pins = read_of(circuit, way)
    found = circuit.run(f"tran 2e-6 {end_s} {at_s - 1e-5} 2e-6", keep=pins)
    reading = _reading(found, pins)
    off = np.abs(reading - reading[-1])
    late = found["time"][off > PITCH_GAIN / CENTS_PER_V]
    return max(float(late.max(initial=at_s)) - at_s, 0.0)


def _acquire_v(netlist: Netlist, way: Way) -> float:
    """What the converter's capacitor lacks when it is let go, having been empty, from a pin at almost full scale."""
    chip = models.PITCH_CONVERTER
    at_s = 2e-5
    until_s = at_s + chip.sample_clocks / BAUDRATE_HZ
    circuit = pitch_circuit(netlist, way)
    circuit.add(
        f"Ssample {circuit.node(way.pin)} held0 gate 0 SAMPLE",
        f"Rsample held0 held {chip.sample_ohm}",
        f"Csample held 0 {chip.sample_f}",
        "Rempty held 0 1e10",
        ".model SAMPLE SW(VT=0.5 VH=0 RON=0.1 ROFF=1e13)",
        f"Vgate gate 0 PWL(0 0 {at_s} 0 {at_s + 1e-9:.12g} 1)",
    )
    pin = circuit.voltage(way.pin)
    found = circuit.run(
        "alter vj dc = 6", f"tran 5e-9 {until_s:.9g} {at_s / 2:.9g} 5e-9", keep=(pin, "v(held)")
    )
    before = found["time"] < at_s
    return float(found[pin][before].mean() - found["v(held)"][-1])


# ---- control voltages ----


def cv_parameters(number: int) -> list[str]:
    """What a control voltage can be off by."""
    base = 400 + 10 * number
    return [*(f"R{base + n}" for n in range(1, 7)), f"vos U401.{number}", f"vos U402.{number}", "vref"]


def cv_circuit(netlist: Netlist, way: Way) -> Circuit:
    """The sheet of control voltages: sources for the reference and, ``vj``, at a jack; the attenuverter fully up."""
    circuit = Circuit(netlist, sheet_parts(netlist, way.pin), options=FINE, places={way.attenuverter: 1.0})
    # all come up within 0.2 ms; direct and small-signal analyses see them up
    circuit.add("Vup up 0 dc 1 PWL(0 0 2e-4 1)", f"Vref reference 0 {models.REFERENCE.volts}", "Vj jack 0 0")
    for net, source in (
        ("VREF", "V(reference)"),
        (way.jack, "V(jack)"),
        *((r, f"{v:g}") for r, v in RAILS_V.items()),
    ):
        node = circuit.node(net)
        circuit.add(f"B{node} {node} 0 V={source}*V(up)")
    return circuit


# ---- gates ----


@dataclass(frozen=True)
class Gates:
    """Thresholds at a gate's jack over all corners, and how late an edge of 5 V is."""

    on_v: tuple[float, float]
    off_v: tuple[float, float]
    delay_s: float


def gates(netlist: Netlist, jack: str, line: str) -> Gates:
    """Ramp a gate's jack up and down at every corner of trigger and resistors, at 40 C."""
    parts = sheet_parts(netlist, jack)
    series = [pin.rpartition(".")[0] for pin in netlist.nets[netlist.net_of(jack)] if pin.startswith("R")]
    node = next(iter(netlist.beyond(netlist.net_of(jack))))
    down = [
        pin.rpartition(".")[0] for pin in netlist.nets[node]
        if pin.startswith("R") and pin.rpartition(".")[0] not in series
    ]  # fmt: skip
    on, off, delays = [], [], []
    corners = zip(models.SCHMITT_RISING_V, models.SCHMITT_FALLING_V, (-1, 1), strict=True)
    for rising, falling, sign in corners:
        values = {}
        for names, way in ((series, sign), (down, -sign)):
            for name in names:
                spread = spread_of(netlist, name)
                values[name] = netlist.components[name].number * (
                    1 + way * (spread.tolerance + 15 * spread.drift_k)
                )
        up_s = 0.4
        circuit = Circuit(netlist, parts, values=values, thresholds=(rising, falling))
        circuit.lines = [line_ if line_ != ".temp 27" else ".temp 40" for line_ in circuit.lines]
        circuit.add(
            f"Vs {circuit.node('+3V3')} 0 3.3",
            f"Vj {circuit.node(jack)} 0 PWL(0 -5 0.05 -5 {up_s} 12 {2 * up_s} -5)",
            f"Rin {circuit.node(line)} 0 1e6",
        )
        out, entry = circuit.voltage(line), circuit.voltage(jack)
        found = circuit.run(f"tran 2e-4 {2 * up_s} 0 2e-4", keep=(out, entry))
        high = found[out] > 1.65
        if not high.any() or high.all():
            raise DarkrackError(f"gate at {jack}", "a line that follows it", "one that does not")
        rises, falls = np.flatnonzero(~high[:-1] & high[1:]), np.flatnonzero(high[:-1] & ~high[1:])
        on.append(float(found[entry][rises[0] + 1]))
        off.append(float(found[entry][falls[-1] + 1]))
        circuit.lines = [line_ for line_ in circuit.lines if not line_.startswith("Vj ")]
        circuit.add(f"Vj {circuit.node(jack)} 0 PWL(0 0 1e-4 0 {1e-4 + 1e-8:.10g} 5)")
        edge = circuit.run("tran 1e-7 5e-4 0 1e-7", keep=(out,))
        late = edge["time"][edge[out] > 1.65]
        delays.append(float(late[0]) - 1e-4 if len(late) else float("inf"))
    return Gates((min(on), max(on)), (min(off), max(off)), max(delays))


# ---- audio ----


@dataclass(frozen=True)
class Audio:
    """One side of the output at a full-scale sine of the DAC, the level fully up."""

    out_vpp: float
    out_least_vpp: float  # over tolerances
    out_most_vpp: float
    line_vrms: float
    at_20_hz_db: float  # against 1 kHz
    at_20_khz_db: float
    thd_1_khz: float  # of the amplifiers' models, into 10 kOhm: a share
    thd_20_khz: float
    clip_vpp: float  # where 1 % of distortion is, into 10 kOhm
    noise_db: float  # 20 Hz to 20 kHz below a full-scale sine, the DAC's with it


SIDES = {"left": ("U801.6", "J801.T", "J803.T"), "right": ("U801.7", "J802.T", "J803.R")}
LOAD_OHM = 10e3  # the least that a rack's input has


def audio_circuit(
    netlist: Netlist, side: str, wave: str, load_ohm: float = LOAD_OHM, **options: object
) -> Circuit:
    """The audio sheet with a source ``vd`` for the DAC's output of one side, and rails."""
    dac, out, line = SIDES[side]
    circuit = Circuit(netlist, sheet_parts(netlist, out), **options)  # type: ignore[arg-type]
    for other, *_ in SIDES.values():
        circuit.add(
            f"Vd{'' if other == dac else '2'} {circuit.node(other)} 0 {wave if other == dac else '0'}"
        )
    for rail, volts in RAILS_V.items():
        circuit.add(f"V{circuit.node(rail)} {circuit.node(rail)} 0 {volts}")
    for pin in (out, line):
        circuit.add(f"R_load_{pin.replace('.', '_')} {circuit.node(pin)} 0 {load_ohm:g}")
    return circuit


def audio(netlist: Netlist, side: str) -> Audio:
    """All figures of one side."""
    _, out, line = SIDES[side]
    rough = {"options": "reltol=1e-5 abstol=1e-11 vntol=1e-8"}
    small = audio_circuit(netlist, side, "dc 0 ac 1", 1e6, **rough)
    answer = small.run("ac dec 40 10 1e5", keep=(small.voltage(out), small.voltage(line)))

    def db(hz: float) -> float:
        levels = np.interp((1000.0, hz), answer["frequency"], answer[small.voltage(out)])
        return float(20 * np.log10(levels[1] / levels[0]))

    ratio, line_ratio = (
        float(np.interp(1000.0, answer["frequency"], answer[small.voltage(pin)])) for pin in (out, line)
    )
    peak = models.DAC_PEAK_V
    clip_vpp = 0.0
    for gain in np.arange(1.0, 3.01, 0.1):
        vpp, thd = _tone(netlist, side, 1000.0, peak * gain)
        if thd > 0.01:
            break
        clip_vpp = vpp
    loudest = small.numbers(f"noise {small.voltage(out)} vd dec 20 20 20000", "print onoise_total")
    noise_v = float(np.hypot(loudest["onoise_total"], models.DAC_NOISE_V * ratio))
    least, most = _level_corners(netlist, side)
    return Audio(
        out_vpp=2 * peak * ratio,
        out_least_vpp=2 * peak * least,
        out_most_vpp=2 * peak * most,
        line_vrms=peak / 2**0.5 * line_ratio,
        at_20_hz_db=db(20.0),
        at_20_khz_db=db(20000.0),
        thd_1_khz=_tone(netlist, side, 1000.0, peak)[1],
        thd_20_khz=_tone(netlist, side, 20000.0, peak)[1],
        clip_vpp=clip_vpp,
        noise_db=float(20 * np.log10(noise_v / (peak / 2**0.5 * ratio))),
    )


def _tone(netlist: Netlist, side: str, hz: float, peak_v: float) -> tuple[float, float]:
    """Volts from peak to peak at the rack output, and total harmonic distortion to the ninth, of a sine of the DAC."""
    circuit = audio_circuit(
        netlist, side, f"SIN(0 {peak_v:g} {hz:g})", options="reltol=1e-5 abstol=1e-9 vntol=1e-7"
    )
    out = circuit.voltage(SIDES[side][1])
    periods, points = 4, 400
    found = circuit.run(f"tran {1 / hz / points:g} {periods / hz:g} 0 {1 / hz / points:g}", keep=(out,))
    times = (periods - 1 + np.arange(points) / points) / hz
    wave = np.interp(times, found["time"], found[out])
    spectrum = np.abs(np.fft.rfft(wave))
    return float(np.ptp(wave)), float(np.sqrt((spectrum[2:10] ** 2).sum()) / spectrum[1])


def _level_corners(netlist: Netlist, side: str) -> tuple[float, float]:
    """The least and the most gain to the rack output, every resistor and the pot at its worst."""
    base = 810 if side == "left" else 820
    names = [f"R{base + 1}", "RV801", f"R{base + 2}", f"R{base + 3}"]
    found = []
    for signs in itertools.product((-1, 1), repeat=len(names)):
        values = {
            name: netlist.components[name].number * (1 + sign * spread_of(netlist, name).tolerance)
            for name, sign in zip(names, signs, strict=True)
        }
        circuit = audio_circuit(netlist, side, "dc 0", 1e6, values=values, capacitors=False)
        one = circuit.points(circuit.voltage(SIDES[side][1]), [["alter vd dc = 0"], ["alter vd dc = 1"]])
        found.append(float(one[1] - one[0]))
    return min(found), max(found)


# ---- supply ----


@dataclass(frozen=True)
class Supply:
    """Switching on, and a step of the computer's load."""

    inrush_a: float  # a rack's supply that rises within 10 ms
    inrush_hot_a: float  # the ribbon plugged into a rack that is on
    start_a: float  # of +12 V while 5 V come up, the computer drawing 0.5 A
    idle_a: float  # of +12 V after that
    full_a: float  # with the computer at 2 A
    droop_v: float  # of +5 V at a step from 0.5 to 2 A
    least_v: float  # what +5 V falls to
    rack_droop_v: float  # of +12 V behind Q201, from the same step
    pitch_droop_cents: float  # what the step does to a reading of 5 V
    pitch_ripple_cents: float  # what 50 mV of ripple on +5 V at 400 kHz do to it, from peak to peak
    pitch_hum_cents: float  # and 100 mV at 100 Hz, of a poor supply


RACK_OHM, RACK_H = 0.05, 0.3e-6  # assumed: a bus board and 15 cm of ribbon, two contacts in parallel
STEP_A = (0.5, 2.0)  # a Pi 4 that idles, and one that works with something on its USB
STEP_RISE_S = 10e-6
CERAMIC_LEFT = 0.7  # assumed: what 5 V leave of a 10 V X7R capacitor
BULK_OHM, CERAMIC_OHM = 0.36, 0.005  # EEE-FK1E470P: 0.36 Ohm at 100 kHz; a ceramic one, assumed


def _supply_circuit(netlist: Netlist, rise_s: float, load: str) -> Circuit:
    """The power sheet with a rack's supply, JP201 closed, and a buck averaged over its switching."""
    parts = sheet_parts(netlist, "U201.1")
    circuit = Circuit(
        netlist,
        [name for name in parts if name not in {"L201", "C201", "C202", "C205", "C206", "C209"}],
        places={"JP201": 1.0},
        options="reltol=1e-4 abstol=1e-8 vntol=1e-5",
    )
    buck = models.BUCK
    for name, ohms, left in (
        ("C201", BULK_OHM, 1.0), ("C202", CERAMIC_OHM, CERAMIC_LEFT), ("C205", CERAMIC_OHM, CERAMIC_LEFT),
        ("C206", CERAMIC_OHM, CERAMIC_LEFT), ("C209", CERAMIC_OHM, CERAMIC_LEFT),
    ):  # fmt: skip
        plus, part = circuit.node(f"{name}.1"), netlist.components[name]
        circuit.add(f"{name} {plus} {name}_r {part.number * left:g}", f"R_{name} {name}_r 0 {ohms:g}")
    entry, feedback = (circuit.node(f"U201.{pin}") for pin in ("3", "4"))
    out = circuit.node("L201.2")
    # The loop: a proportional and an integral part ask for the inductor's current, which follows within its period.
    out_f = sum(netlist.components[name].number * CERAMIC_LEFT for name in ("C205", "C206", "C209"))
    upper, lower = (netlist.components[name].number for name in ("R204", "R205"))
    siemens = (
        2 * np.pi * buck.crossover_hz * out_f * (upper + lower) / lower
    )  # amperes for a volt at the feedback pin
    enable = netlist.components["R202"].number / netlist.components["R203"].number + 1
    begin_s = 1e-3 + rise_s * 1.2 * enable / 12.0  # U201 runs from 1.2 V at its enable pin on
    circuit.add(
        f"Vsoft soft 0 PWL(0 0 {begin_s:.9g} 0 {begin_s + buck.soft_start_s:.9g} {buck.reference_v})",
        f"Berror error 0 V=V(soft)-V({feedback})",
        f"Bint 0 int I={siemens * 2 * np.pi * buck.crossover_hz / 5:.6g}*V(error)",
        "Cint int 0 1 ic=0", "Rint int 0 1e6",
        "Dmost int most LIMIT", f"Vmost most 0 {buck.limit_a}", "Dleast least int LIMIT", "Vleast least 0 0",
        ".model LIMIT D(IS=1e-9 N=0.05)",
        f"Bwant want 0 V={buck.limit_a / 2}*(1+tanh((V(int)+{siemens:.6g}*V(error))/{buck.limit_a / 2}-1))",
        "Rlag want coil 1", f"Clag coil 0 {1 / (2 * np.pi * buck.switching_hz / 4):.6g} ic=0",
        f"Bout 0 {out} I=V(coil)",
        f"Bin {entry} 0 I=V(coil)*V({out})/((4+abs(V({entry})-4)*0.5+(V({entry})-4)*0.5)*{buck.efficiency})",
        # U202 turns Q202 on as soon as current flows forward.
        f"Bgate {circuit.node('U202.5')} 0 V=V({out})+5*(1+tanh(4*(V({out})-1.5)))",
        f"Vrack rack 0 PWL(0 0 1e-3 0 {1e-3 + rise_s:.9g} 12)",
        f"Rrack rack rack1 {RACK_OHM}", f"Lrack rack1 {circuit.node('J201.9')} {RACK_H} ic=0",
        f"Iload {circuit.node('+5V')} 0 {load}",
        # amplifiers of the other sheets, from both rails
        f"Bamps {circuit.node('+12VA')} 0 I=0.012*tanh(V({circuit.node('+12VA')}))",
    )  # fmt: skip
    return circuit


def supply(netlist: Netlist, way: Way) -> Supply:
    """Switching on with JP201 closed, and what a step of the load does."""
    idle, full = STEP_A
    slow = _supply_circuit(netlist, 10e-3, f"PWL(0 0 14e-3 0 20e-3 {idle})")
    pin12, plus5 = slow.voltage("+12V"), slow.voltage("+5V")
    keep = ("i(lrack)", pin12, plus5)
    on = slow.run("tran 2e-6 40e-3 0 2e-6 uic", keep=keep)
    current, times = on["i(lrack)"], on["time"]
    fast = _supply_circuit(netlist, 1e-6, "0")
    hot = fast.run("tran 1e-7 2e-3 0 1e-7 uic", keep=("i(lrack)",))
    at_s = 40e-3
    stepped = _supply_circuit(
        netlist, 10e-3, f"PWL(0 0 14e-3 0 20e-3 {idle} {at_s} {idle} {at_s + STEP_RISE_S:g} {full})"
    )
    step = stepped.run("tran 1e-6 60e-3 0 1e-6 uic", keep=keep)
    before = (step["time"] > at_s - 2e-3) & (step["time"] < at_s)
    after = step["time"] > at_s
    end = step["time"] > 58e-3
    supply5 = step[plus5][after]
    shape = np.interp(np.arange(0, 10e-3, 2e-6), step["time"][after] - at_s, supply5)
    return Supply(
        inrush_a=float(current[times < 11.5e-3].max()),
        inrush_hot_a=float(hot["i(lrack)"].max()),
        start_a=float(current[times > 11.5e-3].max()),
        idle_a=float(current[times > 38e-3].mean()),
        full_a=float(step["i(lrack)"][end].mean()),
        droop_v=float(step[plus5][before].mean() - supply5.min()),
        least_v=float(supply5.min()),
        rack_droop_v=float(step[pin12][before].mean() - step[pin12][after].min()),
        pitch_droop_cents=_into_pitch(netlist, way, shape, 2e-6),
        pitch_ripple_cents=_ripple(netlist, way, 400e3, 0.025),
        pitch_hum_cents=_ripple(netlist, way, 100.0, 0.05),
    )


def _ripple(netlist: Netlist, way: Way, hz: float, peak_v: float) -> float:
    """Cents from peak to peak that a reading of 5 V moves while the supply has a small sine on it.

    For small signals U301 is what `hw_schematics.models` makes of it where it regulates: a source that lets a share of
    its supply through, and its output's resistance.
    """
    figures = models.REFERENCE
    circuit = pitch_circuit(netlist, way)
    circuit.lines = [line for line in circuit.lines if not line.startswith("Vref ")]
    entry, out = (circuit.node(f"{REFERENCE_PART}.{pin}") for pin in ("4", "6"))
    through_s = figures.line_v_v / (2 * np.pi * figures.corner_hz)
    circuit.add(
        f"Vsupply {circuit.node('+5V')} 0 dc {SUPPLY_V} ac {peak_v:g}",
        *(f"Cslope {entry} slope {through_s / 1e3:.6g}", "Rslope slope 0 1k"),
        f"Bset set 0 V={figures.volts}+{figures.line_v_v:.6g}*(V({entry})-5)+V(slope)",
        *(f"Rout set {out} {figures.output_ohm:.6g}", f"Iload {out} 0 {VREF_LOAD_A}"),
    )
    pins, reference = read_of(circuit, way), circuit.voltage("VREF")
    found = circuit.run(
        "alter vj dc = 5", "alter vj ac = 0", f"ac lin 1 {hz:g} {hz:g}", keep=(*pins, reference)
    )
    at_v = 0.15 + PITCH_GAIN * 5
    # The worst of all phases: pin and reference the opposite way.
    moved_v = found[pins[0]][0] + found[reference][0] * at_v / figures.volts
    return float(2 * moved_v / PITCH_GAIN * CENTS_PER_V)


def _into_pitch(netlist: Netlist, way: Way, supply_v: Array, period_s: float) -> float:
    """The most cents that a reading of 5 V moves while the supply takes this course from 5.1 V."""
    shape = (SUPPLY_V + supply_v - supply_v[0])[::5]
    points = " ".join(f"{UP_S + n * 5 * period_s:.9g} {v:.9g}" for n, v in enumerate(shape))
    end_s = UP_S + len(supply_v) * period_s
    cents = _course(netlist, way, f"PWL(0 {shape[0]:.9g} {points})", (UP_S * 0.95, end_s), 5e-6)
    return float(np.abs(cents - cents[0]).max())


UP_S = 10e-3  # U301 has filled its capacitors and come to rest


def _course(netlist: Netlist, way: Way, supply: str, times_s: tuple[float, float], step_s: float) -> Array:
    """A reading of 5 V in cents, from one time to another after U301 was switched on."""
    begin_s, end_s = times_s
    circuit = pitch_circuit(netlist, way, reference=True)
    circuit.lines = [line for line in circuit.lines if not line.startswith(("Vsupply ", "Vj "))]
    circuit.add("Vj jack 0 5", f"Vsupply {circuit.node('+5V')} 0 {supply}")
    pins, reference = read_of(circuit, way), circuit.voltage("VREF")
    found = circuit.run(f"tran {step_s:g} {end_s:.9g} {begin_s:.9g} {step_s:g} uic", keep=(*pins, reference))
    codes = _reading(found, pins) / found[reference]
    return np.asarray(codes * models.REFERENCE.volts / PITCH_GAIN * CENTS_PER_V)


def altered(netlist: Netlist, values: Mapping[str, str]) -> Netlist:
    """The netlist with other values for some parts, as the schematic would export them."""
    components = dict(netlist.components)
    for reference, value in values.items():
        components[reference] = dataclasses.replace(components[reference], value=value)
    return Netlist(components, netlist.nets)


def exchanged(netlist: Netlist, one: str, other: str) -> Netlist:
    """The netlist with the nets of two pins exchanged."""
    swap = {one: other, other: one}
    return Netlist(
        netlist.components,
        {name: frozenset(swap.get(pin, pin) for pin in pins) for name, pins in netlist.nets.items()},
    )
