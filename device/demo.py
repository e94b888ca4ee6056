"""The command `demo`: a phrase through a bundle, turned by four simulated pots, played by a simulated gate.

The pots hang on a simulated MCP3008 behind Adafruit's real driver; a fifth input carries the pitch of a
sequencer, 1 V/oct, whose gate is a digital input. Around that line lie chords that the phrase itself plays.
Time is the song's: every scan of pots and gate happens when the song has come to it, however fast or slow
the machine is. What was heard is drawn and measured.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import statistics
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device import adc, bundle, recording, render, simulation
from device.errors import DarkrackError
from device.files import atomic_path, write_audio, write_json
from device.knobs import panel
from device.patch import Patch

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Curve = tuple[tuple[float, float], ...]  # (beat, position 0..1), straight between

POTS = 4
LEVEL_DB = -12.0  # of one note: at most four sound at once here, where a song may have sixteen
POT_PERIOD_MS = 10  # 100 scans of all pots a second; the gate is looked at every millisecond
# The module's input stage halves the 1 V/oct, so that five octaves fit under the ADC's reference; 0 V is C2.
# A semitone is 0.5 V / 12 = 41.7 mV, 13 codes of the chip's 3.3 V / 1024: enough to tell semitones apart.
CV_CHANNEL, CV_V_PER_OCTAVE, CV_ZERO_MIDI, REFERENCE_V = POTS, 0.5, 36, 3.3
LINE_VELOCITY = 0.85
LINE_CHANNEL, CHORD_CHANNEL = 0, 1
RING_OUT_MS = 300  # at the end everything is let go; a release of 150 ms to -60 dB is silent by then


@dataclass(frozen=True)
class Phrase:
    """What is played, in beats: a line for the sequencer, chords, and where the pots are turned.

    ``line`` has (beat, length, MIDI note), one after the other; ``chords`` (beat, length, MIDI notes,
    velocity 0..1); ``pots`` four curves; ``beats`` the length with the last tail.
    """

    beat_s: float
    beats: float
    line: tuple[tuple[float, float, int], ...]
    chords: tuple[tuple[float, float, tuple[int, ...], float], ...]
    pots: tuple[Curve, ...]

    @property
    def seconds(self) -> float:
        """How long the phrase lasts, its tail included."""
        return self.beats * self.beat_s


def _eighths(beat: float, *notes: int) -> tuple[tuple[float, float, int], ...]:
    """Notes half a beat apart, each a little shorter than that."""
    return tuple((beat + number / 2, 0.42, note) for number, note in enumerate(notes))


# Ten bars in D minor at 96 beats a minute. First one pot at a time under a running line (bars 1 to 4), then
# a low and some high notes with a chord held through a morph (5, 6), leaps over four octaves (7, 8), and a
# cadence into D major in which all four turn (9, 10).
PHRASE = Phrase(
    beat_s=60 / 96,
    beats=42,
    line=(
        *_eighths(0, 50, 57, 62, 65, 64, 62, 57, 53),
        *_eighths(4, 50, 57, 62, 65, 67, 65, 62, 57),
        *_eighths(8, 46, 53, 58, 62, 65, 62, 58, 53),
        *_eighths(12, 48, 55, 60, 64, 67, 64, 60, 55),
        (16, 3.8, 38),
        (20, 2.8, 45),
        (23, 0.9, 48),
        *_eighths(24, 43, 67, 50, 70, 55, 74, 58, 79),
        *_eighths(28, 41, 65, 48, 69, 53, 72, 57, 81),
        (32, 1.9, 45),
        (34, 1.9, 45),
        (36, 5.0, 38),
    ),
    chords=(
        (8, 3.8, (58, 65, 69), 0.5),
        (12, 3.8, (55, 64, 67), 0.5),
        (16, 7.6, (57, 62, 65), 0.55),
        (17, 0.9, (74,), 0.6),
        (18, 0.9, (77,), 0.6),
        (19, 0.9, (81,), 0.6),
        (20, 1.4, (84,), 0.65),
        (21.5, 1.4, (79,), 0.6),
        (32, 1.9, (57, 62, 64, 69), 0.6),
        (34, 1.9, (57, 61, 64, 69), 0.6),
        (36, 5.0, (57, 62, 66, 69, 74), 0.6),
    ),
    pots=(
        ((0, 0.1), (4, 1.0), (8, 0.3), (20, 0.3), (22, 1.0), (24, 0.3), (37, 0.3), (39, 0.9), (41, 0.5)),
        ((8, 0.2), (12, 1.0), (16, 0.3), (36, 0.3), (38, 0.9), (40, 0.3)),
        ((16, 0.2), (19, 1.0), (22, 0.2), (36, 0.2), (41, 1.0)),
        ((24, 0.2), (28, 1.0), (32, 0.2), (38, 0.2), (41, 0.7)),
    ),
)


@dataclass(frozen=True)
class Take:
    """What was played: sound, and what the device saw of pots and gate while it was."""

    audio: FloatArray  # (samples, 2), as it came from the voices
    sample_rate_hz: int
    knobs: FloatArray  # (scans, 4), smoothed, 0..1, one every POT_PERIOD_MS
    gate: npt.NDArray[np.bool_]  # (milliseconds,)
    generation_ms: tuple[float, ...]  # one per generated note or morph of a note
    notes: int
    ready_s: float  # wall time to load the network and compile the voices
    sounding_s: float  # wall time from gate and knobs to samples; the simulated wires not counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `darkrack demo`."""
    parser.add_argument(
        "--bundle", type=Path, default=Path("models/flagship.rack"), help="the bundle to play"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for demo.wav and demo.png")
    parser.add_argument(
        "--seconds", type=float, default=PHRASE.seconds, help="play only so much of the phrase (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to FILE")


def run(args: argparse.Namespace) -> None:
    """Play, write demo.wav and demo.png, print the table; DarkrackError for bad options or bundle."""
    if not 1.0 <= args.seconds <= PHRASE.seconds:
        expected = f"1 to {PHRASE.seconds:g}, the length of the phrase"
        raise DarkrackError("--seconds", expected, f"{args.seconds:g}", "leave it out to hear everything")
    rack = bundle.read(args.bundle)
    if len(rack.manifest.attributes) < POTS:
        raise DarkrackError("demo", f"a bundle with {POTS} attributes", str(len(rack.manifest.attributes)))
    names = panel(rack.manifest, POTS)
    take = play(rack, names, PHRASE, args.seconds)
    measured = measure(rack, take)

    wav, png = args.out / "demo.wav", args.out / "demo.png"
    audio, _ = render.turned_down(take.audio)
    write_audio(wav, audio, take.sample_rate_hz, "PCM_24")
    draw(png, take, names, title=f"{rack.manifest.name}: four pots, a gate, one neural voice")
    print(f"pots: {', '.join(names)}")
    print(table(measured))
    print(f"\n{wav}  {args.seconds:.1f} s\n{png}")
    if args.json:
        write_json(args.json, {**measured, "attributes": names})


def play(rack: bundle.Bundle, names: Sequence[str], phrase: Phrase, seconds: float) -> Take:
    """Play the first ``seconds`` of the phrase and let it end; pots turn ``names``, an attribute each."""
    from tqdm import tqdm

    from device.performance import SAMPLE_RATE_HZ, Performance

    begin = time.perf_counter()
    performance = Performance(rack, Patch(level_db=LEVEL_DB))
    ready_s = time.perf_counter() - begin

    clock = simulation.Clock()
    sequencer_v, sequencer_gate = _sequencer(phrase)
    pots = [_pot(curve, phrase.beat_s) for curve in phrase.pots]
    chip = simulation.Mcp3x08(clock, [*pots, sequencer_v], REFERENCE_V)
    inputs = adc.open_knobs(POTS, chip)
    gate = simulation.open_input(clock, sequencer_gate)
    gate.switch_to_input()
    chords = _chord_events(phrase)

    sound: list[FloatArray] = []
    knobs: list[FloatArray] = []
    gate_seen: list[bool] = []
    smoothing: adc.Smoothing | None = None
    line_key: int | None = None

    def catch_up(now_ms: int) -> None:
        due_samples = now_ms * SAMPLE_RATE_HZ // 1000 - performance.now_samples
        if due_samples:
            sound.append(performance.render(due_samples))

    sounding_s = 0.0
    total_ms = round(seconds * 1000)
    for now_ms in tqdm(range(total_ms - RING_OUT_MS), "playing", unit=" ms", disable=None):
        # What the device sees at this millisecond.
        clock.now_s = now_ms / 1000
        gate_seen.append(gate.value)
        pressed = gate_seen[-1] and line_key is None
        code = inputs.read_code(CV_CHANNEL) if pressed else 0
        scanning = now_ms % POT_PERIOD_MS == 0
        if scanning:
            read = inputs.read_knobs()
            smoothing = adc.smooth(smoothing or adc.begin_smoothing(read), read, POT_PERIOD_MS / 1000)
            knobs.append(adc.settings(smoothing))

        # What it does about it.
        begin = time.perf_counter()
        for pot, name in enumerate(names if scanning else ()):
            if now_ms == 0 or knobs[-1][pot] != knobs[-2][pot]:
                catch_up(now_ms)
                performance.set_attribute(name, float(knobs[-1][pot]))
        while chords and chords[0][0] <= now_ms:
            catch_up(now_ms)
            _, velocity, key = chords.pop(0)
            if velocity:
                performance.note_on(key, key, velocity, channel=CHORD_CHANNEL)
            else:
                performance.note_off(key, channel=CHORD_CHANNEL)
        if pressed:
            catch_up(now_ms)
            line_key = key_of(code)
            performance.note_on(line_key, line_key, LINE_VELOCITY, channel=LINE_CHANNEL)
        elif line_key is not None and not gate_seen[-1]:
            catch_up(now_ms)
            performance.note_off(line_key, channel=LINE_CHANNEL)
            line_key = None
        sounding_s += time.perf_counter() - begin
    begin = time.perf_counter()
    catch_up(total_ms - RING_OUT_MS)
    performance.finish()
    catch_up(total_ms)
    sounding_s += time.perf_counter() - begin
    return Take(
        audio=np.concatenate(sound),
        sample_rate_hz=SAMPLE_RATE_HZ,
        knobs=np.stack(knobs),
        gate=np.array(gate_seen),
        generation_ms=tuple(performance.counts.generation_ms),
        notes=performance.counts.notes,
        ready_s=ready_s,
        sounding_s=sounding_s,
    )


def key_of(code: int) -> int:
    """The MIDI note nearest to what the converter read at the pitch input."""
    return round(CV_ZERO_MIDI + 12 * code * REFERENCE_V / 1024 / CV_V_PER_OCTAVE)


def _sequencer(phrase: Phrase) -> tuple[simulation.Signal, simulation.Signal]:
    """Pitch voltage and gate of the phrase's line; the pitch stays until the next note begins."""
    starts_s = [start * phrase.beat_s for start, _, _ in phrase.line]

    def step(now_s: float) -> tuple[float, float, int]:
        return phrase.line[max(0, bisect.bisect_right(starts_s, now_s) - 1)]

    def pitch_v(now_s: float) -> float:
        return (step(now_s)[2] - CV_ZERO_MIDI) / 12 * CV_V_PER_OCTAVE

    def gate(now_s: float) -> float:
        start, length, _ = step(now_s)
        return float(start * phrase.beat_s <= now_s < (start + length) * phrase.beat_s)

    return pitch_v, gate


def _pot(curve: Curve, beat_s: float) -> simulation.Signal:
    """The voltage of a pot between ground and the reference that is turned along ``curve``."""
    beats, positions = zip(*curve, strict=True)
    return lambda now_s: REFERENCE_V * float(np.interp(now_s / beat_s, beats, positions))


def _chord_events(phrase: Phrase) -> list[tuple[float, float, int]]:
    """(milliseconds, velocity or 0 for the end, key), in order; of what is simultaneous, ends come first."""
    events = []
    for beat, length, keys, velocity in phrase.chords:
        for key in keys:
            events.append((beat * phrase.beat_s * 1000, velocity, key))
            events.append(((beat + length) * phrase.beat_s * 1000, 0.0, key))
    return sorted(events)


def measure(rack: bundle.Bundle, take: Take) -> dict[str, Any]:
    """The figures of the table, units in the names; plain numbers, fit for JSON."""
    manifest = rack.manifest
    audio, turned_down_db = render.turned_down(take.audio)
    return {
        "ready_s": round(take.ready_s, 3),
        "notes": take.notes,
        "generations": len(take.generation_ms),
        "generation_first_ms": round(take.generation_ms[0], 3),
        "generation_median_ms": round(statistics.median(take.generation_ms), 3),
        "render_x_real_time": round(len(take.audio) / take.sample_rate_hz / take.sounding_s, 2),
        "model_bytes": manifest.variants[manifest.default_variant].size_bytes,
        "macs": manifest.macs,
        "peak_dbfs": round(recording.level(audio).peak_dbfs, 2),
        "turned_down_db": round(turned_down_db, 2),
        "clicks": render.count_clicks(take.audio, take.sample_rate_hz, manifest.representation.heard_hz),
    }


def table(measured: dict[str, Any]) -> str:
    """The figures for people, one a line."""
    rows = [
        ("ready (load, compile voices)", f"{measured['ready_s']:.1f} s"),
        ("generation per note, median", f"{measured['generation_median_ms']:.2f} ms"),
        ("generation per note, first", f"{measured['generation_first_ms']:.2f} ms"),
        ("notes; generations with morphs", f"{measured['notes']}; {measured['generations']}"),
        ("render speed, morphs included", f"{measured['render_x_real_time']:.1f} x real time"),
        ("model", f"{measured['model_bytes'] / 1000:.0f} kB"),
        ("multiply-adds per note", f"{measured['macs'] / 1e6:.1f} M"),
    ]
    return render.aligned([*rows, *render.level_rows(measured)])


def spectrogram(audio: FloatArray, sample_rate_hz: int) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Frame times (s), band edges (Hz) and levels (bands, frames) in dB under the loudest, for a picture."""
    window_samples, hop_samples = 4096, 960
    mono = np.pad(audio.mean(axis=1), window_samples // 2)
    frames = np.lib.stride_tricks.sliding_window_view(mono, window_samples)[::hop_samples]
    fft_samples = 2 * window_samples  # finer bins, so that low notes are not drawn as bricks
    power = np.abs(np.fft.rfft(frames * np.hanning(window_samples), fft_samples, axis=1)) ** 2
    edges_hz = np.geomspace(60, 16_000, 301)
    bins = edges_hz * fft_samples / sample_rate_hz
    bands = np.stack(
        [power[:, int(low) : int(high) + 2].max(axis=1) for low, high in itertools.pairwise(bins)]
    )
    level_db = 10 * np.log10(np.maximum(bands / bands.max(), 1e-12))
    return np.arange(len(frames)) * hop_samples / sample_rate_hz, edges_hz, level_db


def draw(path: Path, take: Take, names: Sequence[str], title: str) -> None:
    """Draw the spectrogram, and under it the four pots and the gate over the same time; PNG, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink, paper, faint = "#e8e6f0", "#14121c", "#3a3648"
    colours = ("#ffb454", "#6fe0c2", "#ff7a90", "#8fb4ff")
    figure = Figure(figsize=(14, 9), facecolor=paper)
    FigureCanvasAgg(figure)
    heights = [6, *[1] * len(names), 0.6]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    figure.subplots_adjust(left=0.155, right=0.975, top=0.935, bottom=0.06, hspace=0.12)
    figure.suptitle(title, color=ink, fontsize=16, x=0.155, ha="left")

    times_s, edges_hz, level_db = spectrogram(take.audio, take.sample_rate_hz)
    seconds = len(take.audio) / take.sample_rate_hz
    half_s = (times_s[1] - times_s[0]) / 2
    sound = axes[0]
    sound.pcolormesh(
        np.append(times_s - half_s, times_s[-1] + half_s), edges_hz, level_db, cmap="magma", vmin=-80, vmax=0
    )
    sound.set_yscale("log")
    sound.set_ylim(edges_hz[0], edges_hz[-1])
    sound.set_yticks(
        [100, 200, 500, 1000, 2000, 5000, 10_000], ["100", "200", "500", "1k", "2k", "5k", "10k"]
    )
    sound.minorticks_off()
    sound.set_ylabel("frequency (Hz)", color=ink, fontsize=11)

    knob_times_s = np.arange(len(take.knobs)) * POT_PERIOD_MS / 1000
    for axis, name, colour, positions in zip(axes[1:], names, colours, take.knobs.T, strict=False):
        axis.fill_between(knob_times_s, positions, color=colour, alpha=0.25, linewidth=0)
        axis.plot(knob_times_s, positions, color=colour, linewidth=1.8)
        axis.set_ylim(-0.05, 1.1)
        axis.set_yticks([0, 1])
        _label(axis, textwrap.fill(name, 18), colour)
    gate = axes[-1]
    gate.fill_between(
        np.arange(len(take.gate)) / 1000, take.gate, step="post", color=ink, alpha=0.8, linewidth=0
    )
    gate.set_ylim(-0.05, 1.1)
    gate.set_yticks([])
    _label(gate, "gate", ink)
    gate.set_xlabel("seconds", color=ink, fontsize=11)
    for axis in axes:
        axis.set_xlim(0, seconds)
        axis.set_facecolor(paper)
        axis.tick_params(colors=ink, labelsize=10, length=3)
        for side in axis.spines.values():
            side.set_color(faint)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, facecolor=paper)


def _label(axis: Any, text: str, colour: str) -> None:
    """Write ``text`` left of the axis, all of them ending in one line."""
    axis.text(-0.03, 0.5, text, color=colour, fontsize=11, ha="right", va="center", transform=axis.transAxes)
