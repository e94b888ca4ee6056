"""`python -m hw_schematics budget`: every analysis, what is asked of it, and the page that says both.

``docs/error_budget.json`` keeps the figures, ``docs/error_budget.md`` is made from them and from nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device.files import atomic_path
from device.scan import SETTLE_NS
from hw_schematics import analyses, boards, models, survival
from hw_schematics.analyses import CENTS_PER_V, PITCH_GAIN, Linear
from hw_schematics.netlist import LINE_PINS, Intended, Netlist

DOCS = Path(__file__).with_name("docs")
FIGURES, PAGE = DOCS / "error_budget.json", DOCS / "error_budget.md"
PICTURES = ("boards.png", "margins.png")
MANY_BOARDS, BIT_BOARDS, CV_BOARDS = 1000, 100, 10_000
AIM_CENTS = 2.0
CV_ENDS_V = (-4.0, 4.0)

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Requirement:
    """What one figure has to be: its way, words, unit, what it is multiplied with, least and most in that unit."""

    path: str
    words: str
    unit: str
    scale: float
    least: float
    most: float
    why: str


_NONE = math.inf
REQUIREMENTS = (
    Requirement(
        "bits.within",
        "boards within 2 cents over five octaves, calibrated, bit by bit",
        "%",
        100,
        99,
        100,
        "",
    ),
    Requirement("many.within", "the same of more boards, without the wires", "%", 100, 99, 100, ""),
    Requirement(
        "many.drift_8_v",
        "drift from 15 to 40 C at 8 V, the worst board",
        "cents",
        1,
        0,
        5,
        "8 V: drawn on from 6.2 V",
    ),
    Requirement("pitch.gain", "V/oct: gain", "", 1, 0.4975, 0.5025, "the profiles' 0.5"),
    Requirement("pitch.offset_v", "V/oct: offset", "V", 1, 0.145, 0.155, "the profiles' 0.15 V"),
    Requirement("pitch.lowest_v", "V/oct: linear from", "V", 1, -_NONE, -0.2, ""),
    Requirement("pitch.highest_v", "V/oct: linear to", "V", 1, 6.2, _NONE, ""),
    Requirement("pitch.bend_cents", "V/oct: the most off a straight line", "cents", 1, 0, 0.5, ""),
    Requirement(
        "pitch.settle_s",
        "V/oct: 5 V up or down, to a cent",
        "ms",
        1e3,
        0,
        SETTLE_NS * 1e-6,
        "what the firmware lets a CV come after its gate (device.scan.SETTLE_NS)",
    ),
    Requirement("pitch.recover_s", "V/oct: from 12 V to 3 V, to a cent", "ms", 1e3, 0, SETTLE_NS * 1e-6, ""),
    Requirement("pitch.acquire_cents", "V/oct: what sampling leaves", "cents", 1, -0.1, 0.1, ""),
    Requirement("pitch.noise_cents", "V/oct: noise of the stage, rms", "cents", 1, 0, 0.2, ""),
    Requirement(
        "jacks.least_12_v",
        "every jack at ±12 V: the least margin",
        "times",
        1,
        1,
        _NONE,
        "over 1: it survives",
    ),
    Requirement("cv.lowest_v", "CV: every board reads from", "V", 1, -_NONE, -4.9, ""),
    Requirement("cv.highest_v", "CV: every board reads to", "V", 1, 4.9, _NONE, ""),
    Requirement("cv.zero_v", "CV: 0 V is off by at most", "mV", 1e3, 0, 150, "no calibration: a modulation"),
    Requirement("gates.1.on_most_v", "gate: surely on from", "V", 1, 0, 4, "5 V gates"),
    Requirement("gates.1.off_least_v", "gate: surely off below", "V", 1, 0.5, _NONE, ""),
    Requirement("gates.1.delay_s", "gate: late by", "us", 1e6, 0, 100, ""),
    Requirement(
        "audio.left.out_least_vpp",
        "OUT: full scale, the least over tolerances",
        "Vpp",
        1,
        9.5,
        _NONE,
        "10 Vpp",
    ),
    Requirement("audio.left.out_most_vpp", "OUT: the most", "Vpp", 1, 0, 10.5, ""),
    Requirement("audio.left.at_20_hz_db", "OUT: 20 Hz against 1 kHz", "dB", 1, -0.5, 0.5, ""),
    Requirement("audio.left.at_20_khz_db", "OUT: 20 kHz against 1 kHz", "dB", 1, -0.5, 0.5, ""),
    Requirement(
        "audio.left.thd_20_khz",
        "OUT: distortion of the stage, 20 kHz",
        "%",
        100,
        0,
        0.01,
        "clipping and slewing only",
    ),
    Requirement("audio.left.clip_vpp", "OUT: clips (1 %) at", "Vpp", 1, 12, _NONE, ""),
    Requirement("audio.left.noise_db", "OUT: noise under full scale", "dB", 1, -_NONE, -100, ""),
    Requirement("supply.inrush_a", "+12 V: switching on, in 10 ms", "A", 1, 0, 1.5, "F201 holds 1.5 A"),
    Requirement("supply.full_a", "+12 V: computer at 2 A", "A", 1, 0, 1.5, ""),
    Requirement(
        "supply.least_v",
        "+5 V: the least, at a step from 0.5 to 2 A",
        "V",
        1,
        4.75,
        _NONE,
        "a Pi 4 wants 4.75 V",
    ),
    Requirement("supply.pitch_droop_cents", "V/oct: moved by that step", "cents", 1, 0, 0.5, ""),
    Requirement(
        "supply.pitch_ripple_cents", "V/oct: 50 mV at 400 kHz on +5 V, peak to peak", "cents", 1, 0, 0.5, ""
    ),
    Requirement(
        "supply.pitch_hum_cents", "V/oct: 100 mV at 100 Hz on +5 V, peak to peak", "cents", 1, 0, 0.5, ""
    ),
)


def figure(figures: Figures, path: str) -> float | None:
    """A figure by its way; None where that analysis was not made."""
    here: Any = figures
    for key in path.split("."):
        if key not in here:
            return None
        here = here[key]
    return float(here)


def wrong(figures: Figures) -> list[str]:
    """What is not as it has to be, of the analyses that were made."""
    found = []
    for one in REQUIREMENTS:
        value = figure(figures, one.path)
        if value is not None and not one.least <= value * one.scale <= one.most:
            found.append(f"{one.words}: {value * one.scale:.4g} {one.unit}, asked for {_bounds(one)}")
    return found


# ---- the analyses, each as figures ----


def pitch(netlist: Netlist, intended: Intended) -> dict[str, Any]:
    """Figures of the V/oct stage."""
    found = dataclasses.asdict(analyses.pitch(netlist, intended.pitch))
    return {**found, "noise_cents": found["noise_v"] / PITCH_GAIN * CENTS_PER_V}


def pitch_linear(netlist: Netlist, intended: Intended) -> Linear:
    """How a board's parts move its V/oct."""
    return analyses.pitch_linear(netlist, intended.pitch)


def drawn(
    netlist: Netlist, linear: Linear, stage_noise_v: float, numbers: Iterable[int], *, bits: bool
) -> dict[str, Any]:
    """Boards through the firmware: figures over all, and of each."""
    noise = boards.noise_lsb(stage_noise_v)
    way = boards.bit_by_bit if bits else boards.at_once
    found = [
        dataclasses.asdict(
            boards.judge(boards.draw_board(netlist, [*linear.gain_by], noise, number), linear, way)
        )
        for number in numbers
    ]
    each = {name: [round(result[name], 3) for result in found] for name in found[0]}
    return {
        "boards": len(found),
        "within": float(np.mean(np.array(each["after"]) <= AIM_CENTS)),
        "within_before": float(np.mean(np.array(each["before"]) <= AIM_CENTS)),
        "within_any": float(np.mean(np.array(each["after_any"]) <= AIM_CENTS)),
        **{name: max(values) for name, values in each.items()},
        "medians": {name: float(np.median(values)) for name, values in each.items()},
        "each": each,
    }


def cv(netlist: Netlist, intended: Intended) -> dict[str, Any]:
    """Figures of a control voltage over boards."""
    way, names = intended.cvs[1], analyses.cv_parameters(1)
    circuit = analyses.cv_circuit(netlist, way)
    linear = analyses.linear(circuit, "vj", circuit.voltage(way.pin), names, CV_ENDS_V)
    spread = boards.cv_spread(netlist, linear, names, CV_BOARDS)
    return {"linear_gain": linear.gain, "linear_offset_v": linear.offset_v, **dataclasses.asdict(spread)}


def gate(netlist: Netlist, intended: Intended, number: int) -> dict[str, Any]:
    """Figures of a gate."""
    jack, line = intended.gates[number]
    found = analyses.gates(netlist, jack, f"J901.{LINE_PINS[line]}")
    return {
        "on_least_v": found.on_v[0], "on_most_v": found.on_v[1],
        "off_least_v": found.off_v[0], "off_most_v": found.off_v[1], "delay_s": found.delay_s,
    }  # fmt: skip


def jacks(
    netlist: Netlist, states: Collection[str] = tuple(survival.STATES), only: Collection[str] = ()
) -> dict[str, Any]:
    """Margins of every jack, or only of some, and what has the least of them."""
    worst = survival.worst(survival.stresses(netlist, states, only))
    rows: list[dict[str, Any]] = [
        {
            "jack": jack, "volts": stress.volts, "state": stress.state, "part": stress.part, "what": stress.what,
            "value": stress.value, "limit": stress.limit, "margin": stress.margin, "at": amount,
        }
        for (jack, amount), stress in sorted(worst.items())
    ]  # fmt: skip
    least = {amount: min(row["margin"] for row in rows if row["at"] == amount) for amount in (12.0, 15.0)}
    return {"least_12_v": least[12.0], "least_15_v": least[15.0], "rows": rows}


def audio(netlist: Netlist, side: str) -> dict[str, Any]:
    """Figures of one side of the output."""
    return dataclasses.asdict(analyses.audio(netlist, side))


def supply(netlist: Netlist, intended: Intended) -> dict[str, Any]:
    """Figures of the supply."""
    return dataclasses.asdict(analyses.supply(netlist, intended.pitch))


def circuits(netlist: Netlist, intended: Intended) -> dict[str, Any]:
    """Everything that ngspice says, without the boards."""
    return {
        "pitch": pitch(netlist, intended),
        "cv": cv(netlist, intended),
        "gates": {str(number): gate(netlist, intended, number) for number in intended.gates},
        "audio": {side: audio(netlist, side) for side in analyses.SIDES},
        "supply": supply(netlist, intended),
        "jacks": jacks(netlist),
    }


def write(netlist: Netlist, intended: Intended) -> list[Path]:
    """Run everything and write figures, pictures and page; the paths written."""
    from tqdm import tqdm

    figures = circuits(netlist, intended)
    linear = pitch_linear(netlist, intended)
    stage_noise_v = figures["pitch"]["noise_v"]
    for name, count, bits in (("many", MANY_BOARDS, False), ("bits", BIT_BOARDS, True)):
        numbers = tqdm(range(count), desc=f"boards ({name})", disable=None)
        figures[name] = drawn(netlist, linear, stage_noise_v, numbers, bits=bits)
    text = json.dumps(_rounded(figures), indent=1) + "\n"
    DOCS.mkdir(exist_ok=True)
    _keep(FIGURES, text.encode())
    figures = json.loads(text)
    _keep(PAGE, render(figures).encode())
    for name, data in pictures(figures, text).items():
        _keep(DOCS / name, data)
    return [FIGURES, PAGE, *(DOCS / name for name in PICTURES)]


def _keep(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _rounded(figures: Any) -> Any:
    """Numbers with six digits: what follows changes with ngspice's version."""
    if isinstance(figures, dict):
        return {key: _rounded(value) for key, value in figures.items()}
    if isinstance(figures, list):
        return [_rounded(value) for value in figures]
    return float(f"{figures:.6g}") if isinstance(figures, float) else figures


def read_figures() -> Figures:
    """The figures that are kept."""
    found: Figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


# ---- pictures ----


def pictures(figures: Figures, text: str) -> dict[str, bytes]:
    """The page's pictures; each carries the digest of the figures that it was drawn from."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ink, accent, pale = "#222222", "#c0392b", "#7f8c8d"
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    found = {}
    figure_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    each = figures["many"]["each"]
    edges = np.geomspace(0.08, 20, 45)
    for name, words, colour in (("before", "as the profile says", pale), ("after", "calibrated", accent)):
        left.hist(each[name], edges, color=colour, alpha=0.85, label=words)
    left.axvline(AIM_CENTS, color=ink, linewidth=1, linestyle="--")
    left.text(AIM_CENTS * 1.05, left.get_ylim()[1] * 0.95, "aim", va="top", color=ink)
    left.set(xscale="log", xlabel="most cents off over five octaves, 25 °C", ylabel="boards")
    left.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    left.minorticks_off()
    left.legend(frameon=False)
    for name, words, colour in (("drift_5_v", "at 5 V", pale), ("drift_8_v", "at 8 V, drawn on", accent)):
        right.hist(each[name], np.linspace(0, 5.5, 56), color=colour, alpha=0.75, label=words)
    right.axvline(5.0, color=ink, linewidth=1, linestyle="--")
    right.text(4.95, right.get_ylim()[1] * 0.6, "aim", ha="right", va="top", color=ink)
    right.set(xlabel="cents that 15 to 40 °C move it", ylabel="boards")
    right.legend(frameon=False)
    found["boards.png"] = _png(figure_, text)
    rows = figures["jacks"]["rows"]
    names = [name for name in dict.fromkeys(row["jack"] for row in rows)]
    figure_, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    for offset, amount, colour in ((-0.2, 12.0, accent), (0.2, 15.0, pale)):
        margins = {row["jack"]: row["margin"] for row in rows if row["at"] == amount}
        axes.barh([n + offset for n in range(len(names))], [margins[name] for name in names], 0.38,
                  color=colour, label=f"±{amount:.0f} V")  # fmt: skip
    axes.axvline(1.0, color=ink, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(
        xlim=(0, None), xlabel="limit over stress of the part that has the least; 1: at its absolute maximum"
    )
    axes.legend(frameon=False, loc="upper right")
    found["margins.png"] = _png(figure_, text)
    return found


def _png(drawing: Any, text: str) -> bytes:
    from matplotlib import pyplot as plt

    data = io.BytesIO()
    drawing.savefig(data, dpi=110, metadata={"Software": None, "Source": digest(text)})
    plt.close(drawing)
    return data.getvalue()


def digest(text: str) -> str:
    """What a picture carries of the figures."""
    return hashlib.sha256(text.encode()).hexdigest()


# ---- the page ----


def _bounds(one: Requirement) -> str:
    least, most = (f"{value:g}" for value in (one.least, one.most))
    if one.most == _NONE:
        return f"{least} or more"
    if one.least in {0, -_NONE}:
        return f"{most} or less"
    return f"{least} to {most}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def render(figures: Figures) -> str:
    """The page, Markdown."""
    asked = []
    for one in REQUIREMENTS:
        value = figure(figures, one.path)
        assert value is not None, one.path
        asked.append((one.words, f"{value * one.scale:.3g} {one.unit}".strip(), _bounds(one), one.why))
    lines = [
        "# What the module is off by, and what it stands",
        "",
        "Made by `make budget` (`python -m hw_schematics budget`) from the netlist that KiCad exports, by ngspice and",
        "the firmware's own code. [error_budget.json](error_budget.json) has the figures; a test makes them again.",
        "**Nothing here was measured: no board was built.** The models are ours, from figures of data sheets, which",
        "`hw_schematics/models.py` names; what is assumed is at the end.",
        "",
        "## What is asked, and what came out",
        "",
        *_table(("", "came out", "asked", ""), asked),
        *_pitch_lines(figures),
        *_jack_lines(figures),
        *_other_lines(figures),
        *_supply_lines(figures["supply"]),
        "## What this rests on",
        "",
        "- Models are behaviour, not transistors: nothing here says how a chip misbehaves beyond its data sheet.",
        "- U301's rejection over frequency, U201's loop (it crosses over at a tenth of 400 kHz), the ribbon (0.05 Ohm,",
        "  0.3 uH) and what a voltage leaves of ceramic capacitors (70 %) are assumed. U201 is averaged over its",
        "  switching: its ripple is given, not found.",
        "- Chips without a supply float; no model has a path that its data sheet does not name. Other modules hold a",
        "  rack's rails nearer to ground than 100 kOhm do, so what floats here has it harder than in a rack.",
        "- A layout adds what no schematic has: ground currents of a computer, warm air at one end, and whatever",
        "  couples into the pitch node.",
        "",
    ]
    return "\n".join(lines)


# A board's figure -> its words, and the share of boards that goes with it.
_BOARD_ROWS = {
    "before": ("off over five octaves, 25 °C, as the profile promises", "within_before"),
    "after": ("the same, calibrated", "within"),
    "after_any": ("the same calibration, at 15, 25 and 40 °C", "within_any"),
    "drift_5_v": ("moved at 5 V, 15 or 40 °C against 25 °C", ""),
    "drift_top": (f"moved at {boards.TOP_V:g} V", ""),
    "drift_8_v": (f"moved at {boards.STATED_V:g} V, by the line through 0 and {boards.TOP_V:g} V", ""),
}


def _pitch_lines(figures: Figures) -> list[str]:
    stage, many, bits = figures["pitch"], figures["many"], figures["bits"]
    amplifier, reference, chip = models.AMPLIFIERS["OPA388"], models.REFERENCE, models.PITCH_CONVERTER
    lsb_cents = reference.volts / (1 << chip.bits) / PITCH_GAIN * CENTS_PER_V
    hysteresis_cents = reference.hysteresis * (5 + 0.15 / PITCH_GAIN) * CENTS_PER_V
    rows = []
    for name, (words, share) in _BOARD_ROWS.items():
        cells = [words]
        for kind in (many, bits):
            within = f"{100 * kind[share]:.1f} %" if share else ""
            cells += [f"{kind['medians'][name]:.2f}", f"{kind[name]:.2f}", within]
        rows.append(cells)
    head = ["cents"]
    for kind, words in ((many, "without wires"), (bits, "bit by bit")):
        head += [f"median, {words}", f"worst of {kind['boards']}", f"within {AIM_CENTS:g}"]
    noise = f"{stage['noise_v'] * 1e6:.1f} uV, {stage['noise_cents']:.3f} cents"
    return [
        "## V/oct",
        "",
        "Boards are drawn evenly between the limits of their parts: resistors as in the parts' list,",
        f"{reference.initial:.2%} and {reference.drift_k * 1e6:.0f} ppm/K of the reference, "
        f"{amplifier.offset_max_v * 1e6:.0f} uV and {amplifier.bias_max_a * 1e12:.0f} pA of the amplifier, offset",
        f"and gain of the converter; the INL of every converter is {chip.inl_lsb:.0f} LSB, its DNL at most "
        f"{chip.dnl_lsb:.0f} LSB (of {lsb_cents:.2f} cents).",
        "They are calibrated at 25 °C at six voltages by the code of `darkrack calibrate` and read at 61 more.",
        f"{bits['boards']} boards go bit by bit through the simulated converter and the real driver, {many['boards']} "
        "through the same",
        "converter without wires. What a board's parts do comes from a linear model out of ngspice, which a test holds",
        "against ngspice itself.",
        "",
        *_table(head, rows),
        "The jack ends at 6.3 V, so 8 V cannot be read. Drift grows with the voltage; the line through 0 and 6.2 V",
        "says what it would be. Not in it are the reference's ageing and its hysteresis after heat",
        f"({reference.hysteresis * 1e6:.0f} ppm: {hysteresis_cents:.1f} cents at 5 V).",
        "",
        "![errors and drift of boards](boards.png)",
        "",
        *_table(
            ("the stage as drawn", ""),
            [
                ("gain, offset", f"{stage['gain']:.5f}, {stage['offset_v'] * 1e3:.2f} mV"),
                ("linear within a cent", f"{stage['lowest_v']:.2f} to {stage['highest_v']:.2f} V"),
                ("-3 dB; at 500 Hz", f"{stage['corner_hz']:.0f} Hz; {stage['at_500_hz_db']:.2f} dB"),
                ("5 V up or down, to a cent", f"{stage['settle_s'] * 1e3:.2f} ms"),
                ("noise of the stage, rms", noise),
                ("noise of a reading, rms", f"{boards.noise_lsb(stage['noise_v']) * lsb_cents:.2f} cents"),
                ("input", f"{stage['input_ohm'] / 1e3:.0f} kOhm"),
                ("our ground 10 mV over the rack's, at 5 V", f"{stage['lift_cents']:.1f} cents"),
                ("100 Ohm in the source, at 5 V", f"{stage['source_cents']:.1f} cents"),
            ],
        ),
        "**The source's resistance counts.** With 1 kOhm in a sequencer's output, as many have, five octaves are",
        f"{-10 * stage['source_cents']:.0f} cents flat, unless that sequencer was what the module was calibrated with.",
        "So calibrate with what will play.",
        "",
    ]


def _jack_lines(figures: Figures) -> list[str]:
    rows = []
    found = figures["jacks"]["rows"]
    for name in dict.fromkeys(row["jack"] for row in found):
        cells = [name]
        for amount in (12.0, 15.0):
            row = next(row for row in found if row["jack"] == name and row["at"] == amount)
            cells += [
                f"{row['margin']:.2f}",
                f"{row['part']}: {row['value']:.3g} of {row['limit']:g} {row['what']} "
                f"({row['volts']:+.0f} V, {row['state']})",
            ]
        rows.append(cells)
    return [
        "## Every jack against the rack's supplies",
        "",
        "The whole board without its capacitors, each contact for itself, with and without supplies of rack and",
        "computer (what has none floats with 100 kOhm). The part with the least margin, whatever sign and state: its",
        "limit over what it bears, 1 is its absolute maximum.",
        "",
        *_table(("jack", "±12 V", "", "±15 V", ""), rows),
        "Where a supply is reversed it is VREF, which floats 0.3 V below ground on a board without power: 3 uA through",
        "the 100 kOhm that are assumed. Such a margin says that little current flows, not that much is left.",
        "",
        "![margins of the jacks](margins.png)",
        "",
        "What the firmware can do to lines is in `tests/test_hw_schematic.py`: no two outputs meet without a resistor.",
        "",
    ]


def _other_lines(figures: Figures) -> list[str]:
    cv_, one = figures["cv"], figures["gates"]["1"]
    sides = [figures["audio"][side] for side in analyses.SIDES]
    rows = [
        ("OUT, no load", "{out_vpp:.2f} Vpp ({out_least_vpp:.2f} to {out_most_vpp:.2f})"),
        ("LINE", "{line_vrms:.2f} Vrms"),
        ("20 Hz; 20 kHz against 1 kHz", "{at_20_hz_db:.2f}; {at_20_khz_db:.2f} dB"),
        ("clips (1 % of distortion), into 10 kOhm", "{clip_vpp:.1f} Vpp"),
        ("noise, 20 Hz to 20 kHz, with the DAC's", "{noise_db:.0f} dB"),
    ]
    distortion = [f"{_percent(side['thd_1_khz'])}; {_percent(side['thd_20_khz'])}" for side in sides]
    return [
        "## Control voltages",
        "",
        f"Attenuverter fully up, {CV_BOARDS} boards, resistors of 1 %, not calibrated: 0 V reads within "
        f"{cv_['zero_v'] * 1e3:.0f} mV,",
        f"±5 V within {cv_['at_5_v'] * 1e3:.0f} mV, the gain is within {100 * cv_['gain']:.1f} %. Every board reads "
        f"{cv_['lowest_v']:.2f} to {cv_['highest_v']:.2f} V;",
        f"15 to 40 °C move 5 V by {cv_['drift_v'] * 1e3:.0f} mV.",
        "",
        "## Gates",
        "",
        f"Over trigger, resistors and temperature: on between {one['on_least_v']:.2f} and {one['on_most_v']:.2f} V, "
        f"off between {one['off_least_v']:.2f} and",
        f"{one['off_most_v']:.2f} V; {one['delay_s'] * 1e6:.0f} us late at 5 V.",
        "",
        "## Audio",
        "",
        *_table(
            ("at full scale, level fully up", *analyses.SIDES),
            [
                *((words, *(form.format(**side) for side in sides)) for words, form in rows),
                ("distortion of the stage, 1 kHz; 20 kHz, 10 kOhm", *distortion),
            ],
        ),
        "Distortion here is what clipping and slewing make, which is nothing; what the parts themselves add is in no",
        "model. The DAC's own -93 dB (SLAS859) will be what there is.",
        "",
    ]


def _supply_lines(found: Figures) -> list[str]:
    rows = [
        ("+12 V while the rack rises in 10 ms", "{inrush_a:.2f} A at most"),
        ("the ribbon plugged into a rack that is on", "{inrush_hot_a:.0f} A for microseconds: do not"),
        ("+12 V with 0.5 A; with 2 A for the computer", "{idle_a:.2f} A; {full_a:.2f} A"),
        ("+5 V at a step from 0.5 to 2 A in 10 us", "falls by {droop_v:.3f} V, to {least_v:.2f} V"),
        ("+12 V behind Q201, the same step", "falls by {rack_droop_v:.3f} V"),
        ("a reading of 5 V, the same step", "{pitch_droop_cents:.2f} cents"),
        ("the same, 50 mV at 400 kHz on +5 V", "{pitch_ripple_cents:.2f} cents"),
        ("the same, 100 mV at 100 Hz on +5 V", "{pitch_hum_cents:.2f} cents"),
    ]
    return [
        "## Supply, JP201 closed",
        "",
        *_table(("", ""), [(words, form.format(**found)) for words, form in rows]),
    ]


def _percent(share: float) -> str:
    return "under 0.0001 %" if share < 1e-6 else f"{100 * share:.4f} %"
