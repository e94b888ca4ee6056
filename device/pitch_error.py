"""What the V/oct input is off by, source by source: simulated boards, calibrated and swept over five octaves.

Every reading takes the way that it takes in the module: the simulated converter's bits through the real driver, the
follower, the calibration. Only the hands and the voices are left out, which keep f0 exactly (`device.voct`).
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from device import adc
from device.calibrate import Bench, measure_pitch, open_bench
from device.errors import DarkrackError
from device.files import atomic_path, write_json
from device.machine import processor
from device.profile import Chip, CvInput, Profile, read_profile
from device.scan import untuned
from device.simulation import Clock, Flaws, Mcp3x08, open_spi
from device.voct import Calibration, Follower, calibrate

# Of the board: resistors of 1 % in the input stage, an operational amplifier's offset and bias, a reference of .2 %.
GAIN, OFFSET_V, REFERENCE = 0.02, 0.02, 0.002
# After calibration: a reference of 25 ppm/K that is 10 K warmer.
DRIFT = 25e-6 * 10
# (INL, noise) in LSB of the converter. MCP3208-B: DS21298, table "DC accuracy": INL and DNL at most 1 LSB; half an LSB
# of noise is what a quiet front end has. ADS8325: SBAS226 says 1.5 LSB typical and 3 LSB of noise from peak to peak;
# 6 LSB is four times its typical INL.
LIMITS = {"MCP3208": (1.0, 0.5), "ADS8325": (6.0, 0.5)}
WAYS: dict[str, tuple[float, ...]] = {
    "none": (),
    "two points": (1.0, 4.0),
    "six points": (0.0, 1.0, 2.0, 3.0, 4.0, 5.0),
}
SPAN_V, NOTES = 5.0, 61  # five octaves, every semitone
LISTENED = 50  # readings of a held note, a millisecond each
ALONE = 10  # boards for a source alone
STAGE = CvInput(0, 0.5, 0.15)  # of the profiles
AIM_CENTS = 2.0
COST_READINGS = 2000
# Three bytes at 1 MHz; the MCP parts send 17 and 19 clocks in as many.
WIRE_US = {"MCP3008": 24.0, "MCP3208": 24.0, "ADS8325": 24.0}


@dataclass(frozen=True)
class Source:
    """One thing that a board does wrong; ``flaws`` of a board by its number and its converter's (INL, noise)."""

    name: str
    size: str
    scales: tuple[
        float, float, float, float, float
    ]  # INL, noise, gain, offset, reference: 1 for those that count
    drift: float = 0.0


SOURCES = (
    Source("quantization", "the converter, ideal", (0, 0, 0, 0, 0)),
    Source("nonlinearity", "INL at its limit, DNL at most 1 LSB", (1, 0, 0, 0, 0)),
    Source("noise", "rms of a reading", (0, 1, 0, 0, 0)),
    Source("gain", f"{GAIN:.0%} either way", (0, 0, 1, 0, 0)),
    Source("offset", f"{OFFSET_V * 1e3:g} mV either way, at the pin", (0, 0, 0, 1, 0)),
    Source("reference", f"{REFERENCE:.1%} either way", (0, 0, 0, 0, 1)),
    Source("drift after calibration", f"{DRIFT * 1e6:g} ppm of the reference", (0, 0, 0, 0, 0), DRIFT),
)
TOGETHER = Source("all but drift", "", (1, 1, 1, 1, 1))


def profile_with(model: str) -> Profile:
    """The module's profile with V/oct on this converter."""
    profile = dataclasses.replace(read_profile("sim"), pitch=STAGE)
    if model == "ADS8325":
        return dataclasses.replace(profile, pitch_chip=Chip(model, 16, "D13", 3.3))
    return profile


def flaws_of(source: Source, model: str, board: int) -> Flaws:
    """What one board does wrong."""
    chance = np.random.default_rng(board).uniform(-1.0, 1.0, 3)
    inl, noise, gain, offset, reference = source.scales
    most_inl, most_noise = LIMITS[model]
    return Flaws(
        inl_lsb=inl * most_inl,
        noise_lsb=noise * most_noise,
        gain=gain * GAIN * chance[0],
        offset_v=offset * OFFSET_V * chance[1],
        reference=reference * REFERENCE * chance[2],
        seed=board,
    )


def bench_of(profile: Profile, flaws: Flaws) -> Bench:
    """A simulated board with these flaws, whose V/oct jack obeys."""
    return open_bench(dataclasses.replace(profile, flaws=flaws))


def sweep(bench: Bench, calibration: Calibration, seed: int) -> float:
    """The largest error in cents over five octaves, from voltages that are no codes in particular."""
    worst = 0.0
    for volts in np.linspace(0.0, SPAN_V, NOTES) + np.random.default_rng(seed).uniform(-0.04, 0.04, NOTES):
        bench.lay(float(volts))
        follower = Follower(bench.inputs.pitch_codes, 1e-3)
        for _ in range(LISTENED):
            code = follower.hear(bench.inputs.pitch())
        worst = max(worst, abs(calibration.jack_v(code) - float(volts)) * 1200.0)
    return worst


def errors(profile: Profile, source: Source, volts: Sequence[float], boards: range) -> list[float]:
    """The largest error of every board, calibrated at ``volts`` (none: as the profile promises)."""
    found = []
    for board in boards:
        flaws = flaws_of(source, profile.chip_of_pitch.model, board)
        bench = bench_of(profile, flaws)
        calibration = untuned(profile).calibration
        if volts:
            points = measure_pitch(bench, volts)
            calibration = calibrate(points, calibration, bench.inputs.pitch_codes, "simulated board")
        if source.drift:
            bench = bench_of(profile, dataclasses.replace(flaws, reference=flaws.reference + source.drift))
        found.append(sweep(bench, calibration, board))
    return found


class _Idle:
    """An SPI bus without wires: what a reading costs the drivers alone."""

    frequency = 1_000_000

    def init(self, **_: int) -> None:
        """Settings make no difference."""

    def write_readinto(self, _out: bytes, into: bytearray, *_: int) -> None:
        """Zeros, at once."""
        into[:] = bytes(len(into))


def reading_us(model: str) -> float:
    """What one reading takes through Blinka and the chip's driver, without the bits on the wire: median, in us."""
    spi, select = open_spi(Mcp3x08(Clock(), []))
    spi._spi = _Idle()
    driver = adc.driver(model, spi, select)
    times_ns = []
    for _ in range(COST_READINGS):
        begin_ns = time.perf_counter_ns()
        driver.read(0)
        times_ns.append(time.perf_counter_ns() - begin_ns)
    return float(np.median(times_ns)) / 1000


def readings_a_second(profile: Profile) -> dict[str, float]:
    """How many readings a profile asks for, by chip."""
    cvs = profile.cv_scan_hz * len(profile.cvs)
    found = {
        profile.knob_chip.model: profile.knob_scan_hz * len(profile.knob_channels),
        profile.cv_chip.model: cvs,
    }
    pitch = profile.chip_of_pitch.model
    found[pitch] = found.get(pitch, 0.0) + profile.pitch_scan_hz
    return found


def run(args: argparse.Namespace) -> None:
    """Work out the table; print it, or write the page."""
    from tqdm import tqdm

    if not 1 <= args.boards <= 10_000:
        raise DarkrackError("--boards", "1 to 10000", str(args.boards))
    begin_s = time.monotonic()
    cells = [(model, source, way) for model in LIMITS for source in (*SOURCES, TOGETHER) for way in WAYS]
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for model, source, way in tqdm(cells, desc="boards", disable=None):
        boards = args.boards if source is TOGETHER else min(ALONE, args.boards)
        worst = errors(profile_with(model), source, WAYS[way], range(boards))
        found.setdefault(model, {}).setdefault(source.name, {})[way] = worst
    page = render(found, args.boards, time.monotonic() - begin_s)
    if args.out is None:
        print(page)
    else:
        with atomic_path(args.out) as temporary:
            temporary.write_text(page, encoding="utf-8")
        print(args.out)
    if args.json:
        write_json(args.json, {"boards": args.boards, "errors_cents": found})


def render(found: dict[str, dict[str, dict[str, list[float]]]], boards: int, seconds: float) -> str:
    """The page, Markdown."""
    lines = [
        "# What V/oct is off by",
        "",
        "Worked out by `darkrack calibrate --budget --out docs/pitch.md`"
        + (f" --boards {boards}" if boards != 100 else "")
        + f", {date.today().isoformat()}, in {seconds / 60:.0f} minutes; the errors do not depend on the machine.",
        "",
        f"Simulated boards, read bit by bit through the real drivers, calibrated, and swept over five octaves: {NOTES}",
        f"voltages, {LISTENED} readings each. The largest error of a board in cents; of several boards the largest. A",
        f"source alone: {ALONE} boards. `device/pitch_error.py` has the sizes of the errors, and where they come from.",
        "",
    ]
    for model, sources in found.items():
        bits = profile_with(model).chip_of_pitch.bits
        inl, noise = LIMITS[model]
        lines += [
            f"## {model}, {bits} bits: INL {inl:g} LSB, noise {noise:g} LSB",
            "",
            "| source | size | "
            + " | ".join(way if way == "none" else f"calibrated, {way}" for way in WAYS)
            + " |",
            "|---" * (2 + len(WAYS)) + "|",
        ]
        for source in (*SOURCES, TOGETHER):
            cells = [f"{max(sources[source.name][way]):.2f}" for way in WAYS]
            lines.append(f"| {source.name} | {source.size} | " + " | ".join(cells) + " |")
        shares = [
            f"{100 * np.mean(np.array(sources[TOGETHER.name][way]) <= AIM_CENTS):.0f} %" for way in WAYS
        ]
        medians = [f"{np.median(sources[TOGETHER.name][way]):.2f}" for way in WAYS]
        lines.append(f"| all but drift, the median board of {boards} | | " + " | ".join(medians) + " |")
        lines.append(f"| boards within {AIM_CENTS:g} cents everywhere | | " + " | ".join(shares) + " |")
        lines.append("")
    rates = readings_a_second(read_profile("pi4"))
    costs = {model: reading_us(model) for model in rates}
    busy = sum(rate * (costs[model] + WIRE_US[model]) for model, rate in rates.items()) * 1e-6
    lines += [
        "## What reading costs",
        "",
        f"Profile `pi4`, on {processor()}, {date.today().isoformat()}; on a board not measured. What a reading takes",
        "in Python (Blinka and the driver) and on the wire at 1 MHz; the kernel's SPI and GPIO calls are not in it:",
        "",
        "| chip | readings a second | Python, us | wire, us |",
        "|---|---|---|---|",
        *(
            f"| {model} | {rate:.0f} | {costs[model]:.1f} | {WIRE_US[model]:.0f} |"
            for model, rate in rates.items()
        ),
        "",
        f"Together {100 * busy:.0f} % of a core here. A pitch that moves is read twice a pass.",
        "",
    ]
    within = {
        model: int(np.sum(np.array(found[model][TOGETHER.name]["six points"]) <= AIM_CENTS))
        for model in found
    }
    lines += [
        "## What it says",
        "",
        "With everything at the limits of the datasheets and six points of calibration,",
        f"{within['MCP3208']} of {boards} boards hold {AIM_CENTS:g} cents with the MCP3208, {within['ADS8325']} with",
        "the ADS8325. What is left of the first is the nonlinearity between two points, which neither a few points of",
        "calibration nor averaging takes away. So the profiles of the module give V/oct a 16-bit converter of its own",
        "behind the same reader; the MCP parts keep knobs and other control voltages. Drift is the reference's alone.",
        "",
    ]
    return "\n".join(lines)
