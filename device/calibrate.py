"""`darkrack calibrate`: which code stands for which voltage at the V/oct jack, and where the knobs' ends are.

Known voltages are laid at the jack one after the other, each is read for a second; what cannot be true is refused, what
is kept is written in one step and the calibration before it stays. A simulated board lays its voltages itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device import adc, state
from device.errors import DarkrackError
from device.files import write_json
from device.jacks import Inputs, open_inputs
from device.profile import Profile, read_profile
from device.render import aligned
from device.scan import Tuned, untuned
from device.simulation import Clock
from device.voct import AGREE_SHARE, CENTS_PER_V, Calibration, Point, calibrate, residual_cents

READINGS, READINGS_HZ = 1000, 1000.0
FEWEST_READINGS = READINGS * 3 // 4  # that agree, or something is wrong with the bus
VOLTS_MAX = 12.0
USUAL_VOLTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)  # those of them that the input takes
OFF_THE_RAIL_V = 0.05  # at the jack: where errors of the board cannot bring a reading to the converter's end
# Between a pot's ends lies at least half of the converter's range, or it was not turned from end to end.
TRAVEL_MIN_CODES = adc.FULL_SCALE / 2
KNOB_READINGS = 50


@dataclass(frozen=True)
class Measured:
    """What was kept for a profile: the points of V/oct, the codes at both ends of every pot; either may be missing."""

    made: str
    pitch_codes: int
    points: tuple[Point, ...] = ()
    knob_ends: tuple[tuple[float, float], ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack calibrate`."""
    parser.add_argument("--profile", default="sim", metavar="NAME", help="the module (default: sim)")
    parser.add_argument(
        "--volts",
        metavar="V,V,...",
        help="the voltages that are laid at the V/oct jack, two or more (default: the whole ones from 0 to 5)",
    )
    parser.add_argument("--knobs", action="store_true", help="learn the ends of the knobs instead")
    parser.add_argument("--show", action="store_true", help="show what is kept instead")
    parser.add_argument(
        "--undo", action="store_true", help="go back to the calibration before this one instead"
    )
    parser.add_argument(
        "--budget",
        action="store_true",
        help="work out by simulation what a board's errors cost in cents instead",
    )
    parser.add_argument(
        "--boards", type=int, default=100, metavar="N", help="with --budget: so many (default: 100)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="with --budget: write the page instead of printing it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured as well")


def run(args: argparse.Namespace) -> None:
    """Calibrate, or show, or undo; DarkrackError for what is wrong with options, board or readings."""
    chosen = [name for name in ("knobs", "show", "undo", "budget") if getattr(args, name)]
    if len(chosen) > 1:
        raise DarkrackError(" ".join(f"--{name}" for name in chosen), "one of them", "two", "leave one out")
    if args.budget:
        from device import pitch_error

        pitch_error.run(args)
        return
    profile = read_profile(args.profile)
    path = path_of(profile)
    if args.undo:
        state.take_back(path)
        print(f"{path}: as it was before")
        return
    if args.show:
        before = read_measured(profile)
        if before is None:
            hint = f"darkrack calibrate --profile {args.profile}"
            raise DarkrackError(str(path), "a calibration", "none", hint)
        measured = before
    else:
        bench = open_bench(profile)
        measured = _to_go_on_with(profile)
        if args.knobs:
            measured = dataclasses.replace(measured, knob_ends=measure_knobs(bench))
        else:
            volts = usual_volts(profile) if args.volts is None else parse_volts(args.volts)
            measured = dataclasses.replace(measured, points=measure_pitch(bench, volts))
        made = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        measured = dataclasses.replace(measured, made=made)
        state.keep(path, dataclasses.asdict(measured))
    print(table(profile, measured))
    print(path)
    if args.json:
        write_json(args.json, {"profile": profile.name, **dataclasses.asdict(measured)})


@dataclass(frozen=True)
class Bench:
    """A board ready to be measured.

    ``lay`` sees to it that a voltage lies at the jack, ``turn`` that all knobs stand at 0 or 1: they ask a person, or a
    simulated board does it itself. ``wait`` waits so many seconds.
    """

    profile: Profile
    inputs: Inputs
    lay: Callable[[float], None]
    turn: Callable[[float], None]
    wait: Callable[[float], None]


def open_bench(profile: Profile) -> Bench:
    """The converters of ``profile``, and somebody to ask; DarkrackError where there is no such board."""
    if profile.board != "simulated":

        def ask(what: str) -> None:
            try:
                input(f"{what}, then Enter: ")
            except EOFError:
                raise DarkrackError("calibrate", "somebody at the keyboard", "none") from None

        return Bench(
            profile,
            open_inputs(profile),
            lambda volts: ask(f"lay {volts:g} V at the V/oct jack"),
            lambda end: ask(f"turn all knobs fully {'right' if end else 'left'}"),
            time.sleep,
        )
    from device.script import read_script, wire

    clock = Clock()
    wires = wire(read_script("nobody"), profile, clock)

    def turn(end: float) -> None:
        for place in profile.knob_channels:
            wires.knob_chip.inputs[place] = lambda _now_s: end * profile.knob_chip.reference_v

    def wait(seconds: float) -> None:
        clock.now_s += seconds

    inputs = open_inputs(profile, wires.knob_chip, wires.cv_chip, wires.pitch_chip)
    return Bench(profile, inputs, lambda volts: wires.put_pitch(profile, volts), turn, wait)


def usual_volts(profile: Profile) -> tuple[float, ...]:
    """Whole volts from 0 to 5 that the input takes."""
    low, high = sorted(untuned(profile).calibration.volts)
    return tuple(v for v in USUAL_VOLTS if low + OFF_THE_RAIL_V <= v <= high - OFF_THE_RAIL_V)


def parse_volts(text: str) -> tuple[float, ...]:
    """The voltages of an option."""
    try:
        volts = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise DarkrackError("--volts", "numbers with commas between", repr(text), "0,1,2,3,4,5") from None
    if not all(abs(value) <= VOLTS_MAX for value in volts):
        raise DarkrackError("--volts", f"-{VOLTS_MAX:g} to {VOLTS_MAX:g}", repr(text))
    return volts


def measure_pitch(bench: Bench, volts: Sequence[float]) -> tuple[Point, ...]:
    """Read every voltage; DarkrackError where the readings cannot be true."""
    from tqdm import tqdm

    inputs = bench.inputs
    promised = untuned(bench.profile).calibration
    for value in volts:  # before anybody has to lay anything
        code = _code_of(promised, value)
        if not 0 < code < inputs.pitch_codes - 1:
            low, high = sorted((promised.jack_v(0), promised.jack_v(inputs.pitch_codes - 1)))
            raise DarkrackError(
                "--volts", f"voltages that the input takes ({low:.2f} to {high:.2f} V)", f"{value:g}"
            )
    points = []
    for value in volts:
        bench.lay(value)
        codes = []
        failed = 0
        for _ in tqdm(range(READINGS), desc=f"{value:g} V", unit=" readings", disable=None, leave=False):
            try:
                codes.append(inputs.pitch())
            except OSError:
                failed += 1
            bench.wait(1 / READINGS_HZ)
        points.append(_point(value, codes, inputs.pitch_codes, failed))
    calibrate(points, promised, inputs.pitch_codes, f"V/oct of {bench.profile.name}")
    return tuple(points)


def _code_of(calibration: Calibration, volts: float) -> float:
    """The code that a calibration of two points has for a voltage."""
    low, high = calibration.volts[0], calibration.volts[-1]
    return calibration.codes[0] + (volts - low) / (high - low) * (
        calibration.codes[-1] - calibration.codes[0]
    )


def _point(volts: float, codes: Sequence[int], most: int, failed: int) -> Point:
    """Mean and spread of the readings that agree with their median; DarkrackError where too few do."""
    agree = np.array([code for code in codes if abs(code - np.median(codes)) <= AGREE_SHARE * most])
    if len(agree) < FEWEST_READINGS:
        got = f"{len(agree)} of {READINGS} ({failed} were not answered at all)"
        hint = "wiring of the converter? a voltage that moves?"
        raise DarkrackError(f"V/oct at {volts:g} V", f"{FEWEST_READINGS} readings that agree", got, hint)
    return Point(volts, float(agree.mean()), float(agree.std()))


def measure_knobs(bench: Bench) -> tuple[tuple[float, float], ...]:
    """Codes of every pot at its left and right end; DarkrackError for one that was not turned all the way."""
    ends = []
    for end in (0.0, 1.0):
        bench.turn(end)
        found = []
        for pot in range(len(bench.profile.knob_channels)):
            codes = [bench.inputs.pot(pot) for _ in range(KNOB_READINGS)]
            found.append(float(np.median(codes)))
        ends.append(found)
    pairs = tuple(zip(*ends, strict=True))
    for number, (left, right) in enumerate(pairs, start=1):
        if abs(right - left) < TRAVEL_MIN_CODES:
            expected = f"{TRAVEL_MIN_CODES:.0f} codes or more from end to end"
            raise DarkrackError(
                f"knob {number}", expected, f"{left:.0f} to {right:.0f}", "turn it all the way"
            )
    return pairs


def path_of(profile: Profile) -> Path:
    """Where the calibration of a profile is kept."""
    return state.folder() / f"calibration-{profile.name}.json"


def read_measured(profile: Profile) -> Measured | None:
    """What was kept; None where nothing was. DarkrackError where it is of another converter or makes no sense."""
    path = path_of(profile)
    content = state.read(path)
    if content is None:
        return None
    hint = f"darkrack calibrate --profile {profile.name}"
    try:
        points = tuple(
            Point(**{key: float(value) for key, value in point.items()}) for point in content["points"]
        )
        ends = tuple((float(left), float(right)) for left, right in content["knob_ends"])
        measured = Measured(str(content["made"]), int(content["pitch_codes"]), points, ends)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DarkrackError(str(path), "a calibration", f"{type(error).__name__}: {error}", hint) from error
    codes = 1 << profile.chip_of_pitch.bits
    if measured.points and measured.pitch_codes != codes:
        raise DarkrackError(str(path), f"a calibration of {codes} codes", str(measured.pitch_codes), hint)
    if ends and len(ends) != len(profile.knob_channels):
        raise DarkrackError(
            str(path), f"the ends of {len(profile.knob_channels)} knobs", str(len(ends)), hint
        )
    return measured


def _to_go_on_with(profile: Profile) -> Measured:
    """What was kept, if it is of this module still: another converter or other knobs begin anew."""
    nothing = Measured("", 1 << profile.chip_of_pitch.bits)
    try:
        return read_measured(profile) or nothing
    except DarkrackError as error:
        print(f"note: {error.where}: {error.got} is not of this module any more")
        return nothing


def tuned(profile: Profile) -> Tuned:
    """How the module is tuned: as measured, where it was; the quantizer is a patch's."""
    plain, measured = untuned(profile), read_measured(profile)
    if measured is None:
        return plain
    calibration = plain.calibration
    if measured.points:
        try:
            calibration = calibrate(
                measured.points, plain.calibration, measured.pitch_codes, str(path_of(profile))
            )
        except DarkrackError as error:  # the profile has changed since
            hint = f"darkrack calibrate --profile {profile.name}"
            raise DarkrackError(error.where, error.expected, error.got, hint) from error
    return dataclasses.replace(plain, calibration=calibration, knob_ends=measured.knob_ends)


def table(profile: Profile, measured: Measured) -> str:
    """What was measured, for people."""
    rows: list[tuple[str, str]] = [("made", measured.made)]
    if measured.points:
        per_v = (measured.points[-1].code - measured.points[0].code) / (
            measured.points[-1].jack_v - measured.points[0].jack_v
        )
        off = residual_cents(measured.points)
        promised = untuned(profile).calibration
        for point, cents in zip(measured.points, off, strict=True):
            uncalibrated = (promised.jack_v(point.code) - point.jack_v) * CENTS_PER_V
            noise = point.noise_codes / abs(per_v) * CENTS_PER_V
            rows.append(
                (
                    f"{point.jack_v:g} V",
                    f"code {point.code:.2f}, noise {noise:.2f} cents, {uncalibrated:+.1f} cents before, "
                    f"{cents:+.2f} from the line through all",
                )
            )
        if len(measured.points) == 2:
            rows.append(("", "two points say nothing about what is between them: more points, --volts"))
    for number, (left, right) in enumerate(measured.knob_ends, start=1):
        rows.append((f"knob {number}", f"{left:.0f} to {right:.0f} of {adc.FULL_SCALE}"))
    return aligned(rows)
