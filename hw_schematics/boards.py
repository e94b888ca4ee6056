"""Boards drawn by chance within the tolerances of their parts, and what the firmware makes of their V/oct.

What a board's resistors, amplifier and reference do to the voltage at the converter is linear in how far they are off
(`hw_schematics.analyses.linear`, from ngspice; a test holds it against ngspice itself). The converter and everything
behind it are the firmware's own: simulated chip, driver, follower, calibration.

Everything is drawn evenly between its limits, which is harder than what leaves a factory; the nonlinearity of every
converter is brought to its limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from device.calibrate import READINGS, Bench, measure_pitch
from device.jacks import open_inputs
from device.profile import Profile, read_profile
from device.scan import untuned
from device.simulation import Ads8325, Clock, Converter, Flaws, Mcp3x08
from device.voct import Calibration, Follower, Point, calibrate
from hw_schematics import models
from hw_schematics.analyses import CENTS_PER_V, Linear, spread_of
from hw_schematics.netlist import Netlist
from hw_schematics.spice import Array

PROFILE = "pi4"
ROOM_C, COLD_C, WARM_C = 25.0, 15.0, 40.0
TEMPERATURES_C = (COLD_C, ROOM_C, WARM_C)
SPAN_V, NOTES = 5.0, 61  # five octaves, every semitone
DRIFT_NOTES = 16  # and every fourth where it is warm or cold
TOP_V = 6.2  # the highest voltage that every board reads
STATED_V = 8.0  # where drift is asked for; the jack ends before
LISTENED = 50  # readings of a held note, a millisecond each
CALIBRATION_V = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)


@dataclass(frozen=True)
class Board:
    """What one board is off by, and by how much more for each kelvin: parameters of `Linear`, and of the converter."""

    off: Mapping[str, float]
    off_k: Mapping[str, float]
    converter: Flaws
    offset_k: float  # of the converter, V/K
    gain_k: float

    def at(self, celsius: float) -> Mapping[str, float]:
        """The parameters at a temperature."""
        return {name: value + self.off_k[name] * (celsius - ROOM_C) for name, value in self.off.items()}


def draw_board(netlist: Netlist, names: Sequence[str], noise_lsb: float, number: int) -> Board:
    """Board ``number``: always the same one. ``names``: parameters of its V/oct; ``noise_lsb``: rms of a reading."""
    chance = np.random.default_rng(number)

    def even(most: float) -> float:
        return float(chance.uniform(-most, most))

    amplifier, reference, chip = models.AMPLIFIERS["OPA388"], models.REFERENCE, models.PITCH_CONVERTER
    off, off_k = {}, {}
    for name in names:
        if name.startswith("vos"):
            off[name], off_k[name] = even(amplifier.offset_max_v), even(amplifier.offset_drift_max_v_k)
        elif name.startswith("bias"):
            off[name], off_k[name] = even(amplifier.bias_max_a), 0.0
        elif name == "vref":
            off[name] = even(reference.initial) * reference.volts
            off_k[name] = even(reference.drift_k) * reference.volts
        else:
            spread = spread_of(netlist, name)
            off[name], off_k[name] = even(spread.tolerance), even(spread.drift_k)
    flaws = Flaws(
        inl_lsb=chip.inl_lsb,
        dnl_lsb=chip.dnl_lsb,
        noise_lsb=noise_lsb,
        gain=even(chip.gain),
        offset_v=even(chip.offset_v),
        seed=number,
    )
    return Board(off, off_k, flaws, even(chip.offset_drift_v_k), even(chip.gain_drift_k))


def noise_lsb(stage_v: float) -> float:
    """Noise of one reading, rms in LSB at the top of the span: stage, converter, and reference."""
    lsb_v = models.REFERENCE.volts / (1 << models.PITCH_CONVERTER.bits)
    reference_v = np.hypot(models.REFERENCE.slow_noise_v, models.REFERENCE.wide_noise_v)
    return float(
        np.sqrt((stage_v / lsb_v) ** 2 + models.PITCH_CONVERTER.noise_lsb**2 + (reference_v / lsb_v) ** 2)
    )


def profile() -> Profile:
    """The module's profile, its chips simulated."""
    return dataclasses.replace(read_profile(PROFILE), board="simulated")


@dataclass(frozen=True)
class Stage:
    """A board's way from jack to converter at one temperature: volts at the pin, and the converter's flaws then."""

    gain: float
    offset_v: float
    flaws: Flaws

    def pin_v(self, jack_v: float) -> float:
        """Volts at the pin for volts at the jack."""
        return self.offset_v + self.gain * jack_v


def stage_of(board: Board, linear: Linear, celsius: float) -> Stage:
    """The board at a temperature."""
    off = board.at(celsius)
    gain, offset_v = linear.of({name: np.asarray(value) for name, value in off.items()})
    kelvin = celsius - ROOM_C
    flaws = dataclasses.replace(
        board.converter,
        gain=board.converter.gain + board.gain_k * kelvin,
        offset_v=board.converter.offset_v + board.offset_k * kelvin,
        reference=off.get("vref", 0.0) / models.REFERENCE.volts,
    )
    return Stage(float(gain), float(offset_v), flaws)


@dataclass(frozen=True)
class Reader:
    """Readings of a V/oct jack: ``lay`` a voltage there, ``measure`` what `calibrate` wants, ``code`` of a reading."""

    codes: int
    lay: Callable[[float], None]
    measure: Callable[[], Sequence[Point]]
    code: Callable[[], int]


def bit_by_bit(stage: Stage) -> Reader:
    """Through the simulated ADS8325, bit by bit over SPI, and the real driver."""
    clock = Clock()
    held = [0.0]
    module = profile()
    assert module.pitch_chip is not None
    chip = Ads8325(clock, [lambda _now_s: stage.pin_v(held[0])], module.pitch_chip.reference_v, stage.flaws)
    inputs = open_inputs(module, Mcp3x08(clock, [], bits=10), Mcp3x08(clock, [], bits=12), chip)

    def lay(jack_v: float) -> None:
        held[0] = jack_v

    def wait(seconds: float) -> None:
        clock.now_s += seconds

    bench = Bench(module, inputs, lay, lambda _end: None, wait)
    return Reader(inputs.pitch_codes, lay, lambda: measure_pitch(bench, CALIBRATION_V), inputs.pitch)


def at_once(stage: Stage) -> Reader:
    """The same chip without the wires: whole arrays of readings, for many boards. Its noise is drawn otherwise."""
    flaws = stage.flaws
    bits = models.PITCH_CONVERTER.bits
    reference_v = models.REFERENCE.volts * (1 + flaws.reference)
    transitions = Converter(reference_v, bits, flaws)._transitions
    assert transitions is not None
    chance = np.random.default_rng((flaws.seed, 1))
    held = [0.0]
    left: list[int] = []

    def readings(count: int) -> Array:
        pin_v = stage.pin_v(held[0]) * (1 + flaws.gain) + flaws.offset_v
        lsb = pin_v / reference_v * (1 << bits) + chance.normal(0.0, flaws.noise_lsb, count)
        return np.maximum(np.searchsorted(transitions, lsb, side="right") - 1, 0).astype(np.float64)

    def lay(jack_v: float) -> None:
        held[0] = jack_v
        left.clear()

    def measure() -> Sequence[Point]:
        points = []
        for volts in CALIBRATION_V:
            lay(volts)
            codes = readings(READINGS)
            points.append(Point(volts, float(codes.mean()), float(codes.std())))
        return points

    def code() -> int:
        if not left:
            left.extend(int(value) for value in readings(LISTENED))
        return left.pop()

    return Reader(1 << bits, lay, measure, code)


@dataclass(frozen=True)
class Result:
    """One board, cents: the most it is off over five octaves, and how far temperature moves it at three voltages."""

    before: float  # as the profile promises, at 25 C
    after: float  # calibrated at 25 C with six points
    after_any: float  # the same calibration, from 15 to 40 C
    drift_top: float  # from 25 C, at the top of the span, the colder or the warmer end
    drift_5_v: float
    drift_8_v: float  # the line through 0 V and the top of the span, drawn on


def _sweep(reader: Reader, calibrations: Sequence[Calibration], notes: int, seed: int) -> list[float]:
    """The most cents that each calibration is off over five octaves, at voltages that are no codes in particular."""
    beside = np.random.default_rng((seed, 2)).uniform(-0.04, 0.04, notes)
    worst = [0.0] * len(calibrations)
    for volts in np.linspace(0.0, SPAN_V, notes) + beside:
        code = _listen(reader, float(volts))
        off = [abs(calibration.jack_v(code) - float(volts)) * CENTS_PER_V for calibration in calibrations]
        worst = [max(pair) for pair in zip(worst, off, strict=True)]
    return worst


def _listen(reader: Reader, jack_v: float) -> float:
    """The code, with its fraction, that the firmware follows a held note to."""
    reader.lay(jack_v)
    follower = Follower(reader.codes, 1e-3)
    for _ in range(LISTENED):
        code = follower.hear(reader.code())
    return code


def judge(board: Board, linear: Linear, open_reader: Callable[[Stage], Reader]) -> Result:
    """Calibrate a board at 25 C as `darkrack calibrate` does, and read it at three temperatures."""
    promised = untuned(profile()).calibration
    readers = {celsius: open_reader(stage_of(board, linear, celsius)) for celsius in TEMPERATURES_C}
    room = readers[ROOM_C]
    seed = board.converter.seed
    calibration = calibrate(room.measure(), promised, room.codes, f"board {seed}")
    heard = {
        celsius: {v: calibration.jack_v(_listen(reader, v)) for v in (0.0, SPAN_V, TOP_V)}
        for celsius, reader in readers.items()
    }
    ends = [
        {v: (heard[celsius][v] - heard[ROOM_C][v]) * CENTS_PER_V for v in (0.0, SPAN_V, TOP_V)}
        for celsius in (COLD_C, WARM_C)
    ]
    before, after = _sweep(room, (promised, calibration), NOTES, seed)
    elsewhere = [
        _sweep(readers[celsius], (calibration,), DRIFT_NOTES, seed)[0] for celsius in (COLD_C, WARM_C)
    ]
    return Result(
        before=before,
        after=after,
        after_any=max(after, *elsewhere),
        drift_top=max(abs(end[TOP_V]) for end in ends),
        drift_5_v=max(abs(end[SPAN_V]) for end in ends),
        drift_8_v=max(abs(end[0.0] + (end[TOP_V] - end[0.0]) / TOP_V * STATED_V) for end in ends),
    )


# ---- control voltages ----


@dataclass(frozen=True)
class CvSpread:
    """A control voltage over boards, uncalibrated as the firmware reads it, the attenuverter fully up."""

    zero_v: float  # the most that 0 V is read as, at the jack
    gain: float  # the most that its gain is off, a share
    at_5_v: float  # the most that +-5 V are off by, in volts at the jack
    lowest_v: float  # what every board still converts
    highest_v: float
    drift_v: float  # of 5 V from 15 to 40 C, against 25 C


def cv_spread(netlist: Netlist, linear: Linear, names: Sequence[str], boards: int) -> CvSpread:
    """The spread of ``boards`` boards with every part between its limits, the converter's offset and gain with it."""
    chance = np.random.default_rng(0)
    chip, reference_v = models.CV_CONVERTER, models.REFERENCE.volts
    off, off_k = {}, {}
    for name in names:
        kind, _, where = name.rpartition(" ")
        if kind == "vos":
            figures = models.AMPLIFIERS[netlist.components[where.partition(".")[0]].symbol]
            most, most_k = figures.offset_max_v, figures.offset_drift_max_v_k
        elif name == "vref":
            most, most_k = models.REFERENCE.initial * reference_v, models.REFERENCE.drift_k * reference_v
        else:
            spread = spread_of(netlist, name)
            most, most_k = spread.tolerance, spread.drift_k
        off[name], off_k[name] = chance.uniform(-most, most, boards), chance.uniform(-most_k, most_k, boards)
    lsb_v = reference_v / (1 << chip.bits)
    offset_lsb = chance.uniform(-chip.offset_lsb, chip.offset_lsb, boards)
    scale = 1 + chance.uniform(-chip.gain_lsb, chip.gain_lsb, boards) / (1 << chip.bits)
    way = profile().cvs[1]

    def read(jack_v: float, celsius: float) -> Array:
        now = {name: off[name] + off_k[name] * (celsius - ROOM_C) for name in names}
        gain, offset_v = linear.of(now)
        share = (offset_v + gain * jack_v) / (reference_v + now["vref"]) * scale + offset_lsb / (
            1 << chip.bits
        )
        return np.asarray((share * reference_v - way.offset_v) / way.gain)

    gain, offset_v = linear.of(off)
    swing_v = models.AMPLIFIERS["MCP6004"].swing_v
    at_zero, plus, minus = read(0.0, ROOM_C), read(5.0, ROOM_C), read(-5.0, ROOM_C)
    drift = max(
        float(np.abs(read(v, t) - read(v, ROOM_C)).max()) for v in (5.0, -5.0) for t in (COLD_C, WARM_C)
    )
    return CvSpread(
        zero_v=float(np.abs(at_zero).max()),
        gain=float(np.abs((plus - minus) / 10 - 1).max()),
        at_5_v=float(max(np.abs(plus - 5).max(), np.abs(minus + 5).max())),
        lowest_v=float(((swing_v - offset_v) / gain).max() + chip.offset_lsb * lsb_v / way.gain),
        highest_v=float(
            ((reference_v - swing_v - offset_v) / gain).min() - chip.offset_lsb * lsb_v / way.gain
        ),
        drift_v=drift,
    )
